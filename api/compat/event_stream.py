"""How the OpenAPI document describes answers that are streams."""

from __future__ import annotations

from typing import Any

from api.bridge.waiting import EVENT_STREAM

EVENT_STREAM_RESPONSE: dict[str, Any] = {
    "description": "Server-sent events.",
    "content": {EVENT_STREAM: {"schema": {"type": "object", "properties": {"data": {"type": "string"}}}}},
}
