"""SNS: an envelope around another form. Whoever received it from the network must check its signature."""

from __future__ import annotations

from typing import Any

from jobs.triggers.event_parsers.event import UnreadableEventError

NOTIFICATION = "Notification"
SUBSCRIPTION = "SubscriptionConfirmation"
UNSUBSCRIPTION = "UnsubscribeConfirmation"
_TYPES = frozenset({NOTIFICATION, SUBSCRIPTION, UNSUBSCRIPTION})


def is_sns(document: Any) -> bool:
    """Return whether a JSON document is an SNS envelope."""
    if not isinstance(document, dict) or "TopicArn" not in document:
        return False
    kind = document.get("Type")
    return isinstance(kind, str) and kind in _TYPES


def inner_text(document: dict[str, Any]) -> str | None:
    """Return the message in an envelope; None for subscription messages.

    Raises:
        UnreadableEventError: a notification without a message.
    """
    if document["Type"] != NOTIFICATION:
        return None
    message = document.get("Message")
    if not isinstance(message, str):
        raise UnreadableEventError("Got an SNS notification without a string `Message`.")
    return message
