"""The URLs in documents: below `public_url`, signed where they are opened without other authentication."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import quote

from jobs.settings import Settings
from jobs.storage.signing import LinkSigner

# Signed links change only once in this time, so that the document of an unchanged job, and its ETag, stay the same.
LINK_STEP = timedelta(seconds=600)


def upload_content_path(upload_id: str) -> str:
    """Return the path that an upload's content is sent to."""
    return f"/v1/uploads/{upload_id}/content"


@dataclass(frozen=True)
class LinkBuilder:
    """Builds URLs as of one time.

    Args:
        base: `public_url` without a slash at the end.
        ttl: how long signed URLs are valid, at least.
        now: time of the transaction whose rows are shown.
    """

    base: str
    signer: LinkSigner
    ttl: timedelta
    now: datetime

    @classmethod
    def from_settings(cls, settings: Settings, signer: LinkSigner, now: datetime) -> LinkBuilder:
        return cls(settings.public_url.rstrip("/"), signer, timedelta(seconds=settings.signed_url_ttl_s), now)

    def job(self, job_id: str) -> str:
        """Return the URL of a job."""
        return f"{self.base}/v1/jobs/{job_id}"

    def artifact(self, job_id: str, name: str) -> str:
        """Return the signed URL of an artifact's content."""
        return self._signed("GET", f"/v1/jobs/{job_id}/artifacts/{quote(name)}", self.artifacts_until)

    @property
    def artifacts_until(self) -> datetime:
        """When the signed URLs of artifacts expire."""
        expires_at = self.now + self.ttl
        return expires_at + LINK_STEP - (expires_at - datetime.min.replace(tzinfo=expires_at.tzinfo)) % LINK_STEP

    def upload_content(self, upload_id: str) -> tuple[str, datetime]:
        """Return the signed URL that an upload's content is sent to, and when it expires."""
        expires_at = self.now + self.ttl
        return self._signed("PUT", upload_content_path(upload_id), expires_at), expires_at

    def trigger(self, trigger_id: str) -> str:
        """Return the URL of a trigger."""
        return f"{self.base}/v1/triggers/{trigger_id}"

    def triggers_page(self, query: str) -> str:
        """Return the URL of a page of triggers."""
        return f"{self.base}/v1/triggers?{query}"

    def jobs_page(self, query: str) -> str:
        """Return the URL of a page of jobs."""
        return f"{self.base}/v1/jobs?{query}"

    def _signed(self, method: str, path: str, expires_at: datetime) -> str:
        return f"{self.base}{path}?{self.signer.query(method, path, expires_at)}"
