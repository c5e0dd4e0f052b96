"""Who sends a request, and what each route demands of the sender. `api.key_check` finds the sender."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from flask import g

from jobs.api_keys.scope import ALL_SCOPES
from jobs.api_keys.scope import DEFAULT_TENANT as DEFAULT_TENANT
from jobs.api_keys.scope import KeyScope as KeyScope

View = TypeVar("View", bound=Callable[..., Any])
_ATTRIBUTE = "__mmaudio_access__"
_SIGNED_AS = "__mmaudio_signed_as__"
_READING = frozenset({"GET", "HEAD"})


class Access(Enum):
    """What a route demands instead of a scope."""

    OPEN = "open"
    """Nothing: it shows nothing of a tenant, or checks a token of its own."""
    SIGNED_LINK = "signed_link"
    """A signed link; a key with the usual scope where the URL has no signature and the view allows it."""


@dataclass(frozen=True)
class Principal:
    """The sender of a request.

    Attributes:
        tenant: whose jobs it sees and creates.
        scopes: what it may do.
        key_id: id of the API key; None: no keys are required, or the request came by a signed link.
    """

    tenant: str
    scopes: frozenset[KeyScope]
    key_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether it operates the platform and may see the numbers of all tenants."""
        return KeyScope.ADMIN in self.scopes

    @property
    def actor(self) -> str:
        """How the audit names it."""
        return f"key:{self.key_id}" if self.key_id is not None else "local"


WITHOUT_KEYS = Principal(DEFAULT_TENANT, ALL_SCOPES)
"""The sender of a request without a key, where none is required."""


def requires(scope: KeyScope) -> Callable[[View], View]:
    """Declare the scope that a view demands; it stands below the route's decorator.

    Without it a view demands `jobs:read` for GET and HEAD and `jobs:write` for other methods.
    """
    return _marked(scope)


def open_to_all(view: View) -> View:
    """Declare that a view needs no key; it stands below the route's decorator."""
    return _marked(Access.OPEN)(view)


def by_signed_link(view: View) -> View:
    """Declare that a view is called by signed links; it stands below the route's decorator.

    A URL with a valid signature acts for the tenant that it names; without a signature a key is needed.
    """
    return _marked(Access.SIGNED_LINK)(view)


def signed_as(method: str) -> Callable[[View], View]:
    """Declare that the signed links of a view were made for another method of the same URL."""

    def mark(view: View) -> View:
        setattr(view, _SIGNED_AS, method)
        return view

    return mark


def signed_method(view: Callable[..., Any], method: str) -> str:
    """Return the method for which the signed link of a request must have been made."""
    return str(getattr(view, _SIGNED_AS, "GET" if method == "HEAD" else method))


def _marked(access: Access | KeyScope) -> Callable[[View], View]:
    def mark(view: View) -> View:
        setattr(view, _ATTRIBUTE, access)
        return view

    return mark


def declared_access(view: Callable[..., Any]) -> Access | KeyScope | None:
    """Return what a view declares; None: the default rule holds."""
    found: Access | KeyScope | None = getattr(view, _ATTRIBUTE, None)
    return found


def default_scope(method: str) -> KeyScope:
    """Return the scope that a view without a declaration demands."""
    return KeyScope.JOBS_READ if method in _READING else KeyScope.JOBS_WRITE


def set_principal(principal: Principal) -> None:
    """Set the sender of the current request."""
    g.mmaudio_principal = principal


def current_principal() -> Principal:
    """Return the sender of the current request.

    Raises:
        RuntimeError: the route is open to all, so nobody was asked who they are.
    """
    principal: Principal | None = g.get("mmaudio_principal")
    if principal is None:
        raise RuntimeError("This route is open to all; its view must not act for a tenant.")
    return principal


def current_tenant() -> str:
    """Return the tenant of the current request."""
    return current_principal().tenant
