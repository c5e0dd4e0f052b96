"""How the server of a bucket encrypts what is stored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Encryption:
    """How the server encrypts what is stored: `""` as the bucket says, `AES256` (SSE-S3) or `aws:kms` (SSE-KMS)."""

    method: str = ""
    kms_key_id: str = ""

    def arguments(self) -> dict[str, str]:
        """Return boto3's arguments for a new object."""
        chosen = {"ServerSideEncryption": self.method, "SSEKMSKeyId": self.kms_key_id}
        return {name: value for name, value in chosen.items() if value}

    def form_fields(self) -> dict[str, str]:
        """Return the same as fields of a presigned form."""
        header = "x-amz-server-side-encryption"
        chosen = {header: self.method, f"{header}-aws-kms-key-id": self.kms_key_id}
        return {name: value for name, value in chosen.items() if value}
