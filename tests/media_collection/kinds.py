"""All kinds, by who makes such files."""

from __future__ import annotations

from tests.media_collection import broadcast, cameras, editing, phones, screens, stills, web
from tests.media_collection.kind import Kind

GROUPS: dict[str, tuple[Kind, ...]] = {
    "Phones": phones.KINDS,
    "Cameras": cameras.KINDS,
    "Broadcast and discs": broadcast.KINDS,
    "Editing and animation": editing.KINDS,
    "Screen recorders and files cut off": screens.KINDS,
    "Web": web.KINDS,
    "Still pictures": stills.KINDS,
}
KINDS: tuple[Kind, ...] = tuple(kind for group in GROUPS.values() for kind in group)
