"""Lists that the server gives page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from mmaudio_client.transport import Transport


async def documents(
    transport: Transport, path: str, kind: str, params: Mapping[str, Any] | None = None
) -> AsyncGenerator[Mapping[str, Any], None]:
    """Yield the members of a list, however many pages it has.

    Args:
        kind: what they are, for the error.
        params: of the first page; None as a value: not given.

    Raises:
        WrongServerError: an answer is no such list.
    """
    wanted = {name: value for name, value in (params or {}).items() if value is not None}
    answer = await transport.call("GET", path, params=wanted or None, again=True)
    while True:
        for one in transport.members(answer, f"a list of {kind}", "data")[0]:
            yield one
        page = answer.json()
        following = (page.get("links") or {}).get("next")
        if following is not None:
            answer = await transport.call("GET", following, again=True)
        elif page.get("next_cursor") is not None:
            params_of_next = {**wanted, "cursor": page["next_cursor"]}
            answer = await transport.call("GET", path, params=params_of_next, again=True)
        else:
            return
