"""Reads the CORS rules of a bucket."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from jobs.settings_values import mask_url
from jobs.storage.s3.client import ClientOptions, s3_client
from jobs.storage.s3.errors import error_code, is_not_implemented

_NO_RULES = "NoSuchCORSConfiguration"
_REFUSED = {"403", "AccessDenied", "AllAccessDisabled"}


class RulesUnreadableError(Exception):
    """Raised when the rules of a bucket cannot be read; says why."""


def bucket_rules(bucket: str, options: ClientOptions) -> list[dict[str, Any]]:
    """Return the CORS rules of a bucket, as S3 names their members; none: it has no rules.

    Raises:
        RulesUnreadableError: the server does not answer, has no such call, or does not allow it.
    """
    try:
        answer = s3_client(options).get_bucket_cors(Bucket=bucket)
    except ClientError as exc:
        code = error_code(exc)
        if code == _NO_RULES:
            return []
        if is_not_implemented(exc):
            raise RulesUnreadableError(f"this server has no CORS rules per bucket ({code})") from exc
        if code in _REFUSED:
            raise RulesUnreadableError(f"these credentials may not read them: {code} (s3:GetBucketCORS)") from exc
        raise RulesUnreadableError(f"the server answered {code or mask_url(str(exc))}") from exc
    except (BotoCoreError, ValueError) as exc:
        raise RulesUnreadableError(mask_url(str(exc))) from exc
    return list(answer.get("CORSRules", []))
