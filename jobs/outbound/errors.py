"""Why a URL from outside was not opened, or gave nothing. No message says what an address of this network answered."""

from __future__ import annotations

from jobs.errors import DomainError


class OutboundError(DomainError):
    """Base of all errors of calls to URLs from outside.

    Attributes:
        retryable: whether the same call may succeed later.
    """

    code = "outbound_failed"
    retryable = False


class OutboundRefusedError(OutboundError):
    """Raised for a URL that this server does not open, for its form, its scheme, its host or an address of it.

    Also for a name that does not exist, with the same message as for one with private addresses: nobody can use this
    server to find out which names its own network has. Nothing was connected to.
    """

    code = "url_not_allowed"


class OutboundUnreachableError(OutboundError):
    """Raised when a host that may be called does not answer in time, or not with HTTP (or with valid TLS)."""

    code = "url_unreachable"
    retryable = True


class OutboundStatusError(OutboundError):
    """Raised by `fetch` and `read` for a status other than 200."""

    code = "url_status"

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = status in {408, 425, 429} or status >= 500


class OutboundTooLargeError(OutboundError):
    """Raised by `fetch` and `read` for more bytes than the policy allows; what came is not kept."""

    code = "url_too_large"


class OutboundContentError(OutboundError):
    """Raised by `fetch` and `read` for an answer in an encoding that was not asked for."""

    code = "url_content"
