"""SNS: an envelope around another form. Its signature is the business of who took it from the network."""

from __future__ import annotations

from typing import Any

from jobs.triggers.event_parsers.event import UnreadableEventError

NOTIFICATION = "Notification"
SUBSCRIPTION = "SubscriptionConfirmation"
UNSUBSCRIPTION = "UnsubscribeConfirmation"
_TYPES = frozenset({NOTIFICATION, SUBSCRIPTION, UNSUBSCRIPTION})


def is_sns(document: Any) -> bool:
    return isinstance(document, dict) and document.get("Type") in _TYPES and "TopicArn" in document


def inner_text(document: dict[str, Any]) -> str | None:
    """Return the message inside; None for one that only tells of a subscription.

    Raises:
        UnreadableEventError: a notification without a message.
    """
    if document["Type"] != NOTIFICATION:
        return None
    message = document.get("Message")
    if not isinstance(message, str):
        raise UnreadableEventError("An SNS notification without the text `Message`.")
    return message
