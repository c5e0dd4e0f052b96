"""The URLs in documents, besides those that webhooks have too."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from jobs.links import ResultLinks


def upload_content_path(upload_id: str) -> str:
    """Return the path that an upload's content is sent to."""
    return f"/v1/uploads/{upload_id}/content"


@dataclass(frozen=True)
class LinkBuilder(ResultLinks):
    """Builds URLs as of one time; see `jobs.links.ResultLinks`."""

    def upload_content(self, upload_id: str) -> tuple[str, datetime]:
        """Return the signed URL that an upload's content is sent to, and when it expires."""
        expires_at = self.now + self.ttl
        return self._signed("PUT", upload_content_path(upload_id), expires_at), expires_at

    def batches_page(self, query: str) -> str:
        """Return the URL of a page of batches."""
        return f"{self.base}/v1/batches?{query}"

    def preset(self, name: str) -> str:
        """Return the URL of a preset."""
        return f"{self.base}/v1/presets/{quote(name)}"

    def presets_page(self, query: str) -> str:
        """Return the URL of a page of presets."""
        return f"{self.base}/v1/presets?{query}"

    def upload_parts(self, upload_id: str) -> str:
        """Return the URL of an upload's parts."""
        return f"{self.base}/v1/uploads/{upload_id}/parts"

    def trigger(self, trigger_id: str) -> str:
        """Return the URL of a trigger."""
        return f"{self.base}/v1/triggers/{trigger_id}"

    def triggers_page(self, query: str) -> str:
        """Return the URL of a page of triggers."""
        return f"{self.base}/v1/triggers?{query}"

    def webhook_endpoint(self, endpoint_id: str) -> str:
        """Return the URL of a webhook endpoint."""
        return f"{self.base}/v1/webhooks/endpoints/{endpoint_id}"

    def webhook_delivery(self, delivery_id: str) -> str:
        """Return the URL of a webhook delivery."""
        return f"{self.base}/v1/webhooks/deliveries/{delivery_id}"

    def webhooks_page(self, kind: str, query: str) -> str:
        """Return the URL of a page of `endpoints` or `deliveries` of webhooks."""
        return f"{self.base}/v1/webhooks/{kind}?{query}"
