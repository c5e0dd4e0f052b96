"""URLs of jobs, batches and files: below `public_url`, signed where they are opened without other authentication."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self
from urllib.parse import quote

from jobs.settings import Settings
from jobs.storage.signing import LinkSigner

# Signed links change only once in this time, so that the document of an unchanged job, and its ETag, stay the same.
LINK_STEP = timedelta(seconds=600)


@dataclass(frozen=True)
class ResultLinks:
    """Builds URLs as of one time.

    Args:
        base: `public_url` without a slash at the end.
        ttl: how long signed URLs are valid, at least.
        now: time of the transaction whose rows are shown.
        tenant: whose content signed URLs open.
    """

    base: str
    signer: LinkSigner
    ttl: timedelta
    now: datetime
    tenant: str

    @classmethod
    def from_settings(cls, settings: Settings, signer: LinkSigner, now: datetime, tenant: str) -> Self:
        return cls(settings.public_url.rstrip("/"), signer, timedelta(seconds=settings.signed_url_ttl_s), now, tenant)

    def job(self, job_id: str) -> str:
        """Return the URL of a job."""
        return f"{self.base}/v1/jobs/{job_id}"

    def artifact(self, job_id: str, name: str) -> str:
        """Return the signed URL of an artifact's content."""
        return self._signed("GET", f"/v1/jobs/{job_id}/artifacts/{quote(name)}", self.artifacts_until)

    def archive(self, job_id: str) -> str:
        """Return the signed URL of all artifacts of a job in one archive."""
        return self._signed("GET", f"/v1/jobs/{job_id}/artifacts.zip", self.artifacts_until)

    def batch(self, batch_id: str) -> str:
        """Return the URL of a batch."""
        return f"{self.base}/v1/batches/{batch_id}"

    def jobs_page(self, query: str) -> str:
        """Return the URL of a page of jobs."""
        return f"{self.base}/v1/jobs?{query}"

    @property
    def artifacts_until(self) -> datetime:
        """When the signed URLs of artifacts expire."""
        expires_at = self.now + self.ttl
        return expires_at + LINK_STEP - (expires_at - datetime.min.replace(tzinfo=expires_at.tzinfo)) % LINK_STEP

    def _signed(self, method: str, path: str, expires_at: datetime) -> str:
        return f"{self.base}{path}?{self.signer.query(method, path, expires_at, tenant=self.tenant)}"
