"""Why a request about webhooks is refused."""

from __future__ import annotations

from jobs.errors import DomainError


class EndpointNotFoundError(DomainError):
    """Raised when the tenant has no webhook endpoint of this id."""

    code = "webhook_endpoint_not_found"


class DeliveryNotFoundError(DomainError):
    """Raised when the tenant has no webhook delivery of this id."""

    code = "webhook_delivery_not_found"


class TooManyEndpointsError(DomainError):
    """Raised when a tenant has as many webhook endpoints as allowed."""

    code = "too_many_webhook_endpoints"


class EndpointDisabledError(DomainError):
    """Raised when something is to be sent to a disabled endpoint."""

    code = "webhook_endpoint_disabled"


class DeliveryPendingError(DomainError):
    """Raised when a delivery is to be sent again that is still being tried."""

    code = "webhook_delivery_pending"


class SubjectGoneError(Exception):
    """Raised when a body cannot be made because the job or batch was deleted; the delivery is dropped."""
