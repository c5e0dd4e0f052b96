"""The tables of `docs/media.md`: what becomes of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.media_collection.facts import Facts
from tests.media_collection.kinds import GROUPS
from tests.media_collection.outcome import Muxed, Outcome

DOCUMENT = Path(__file__).parents[2] / "docs" / "media.md"
BEGIN, END = "<!-- begin: made by `python -m tests.media_collection table` -->", "<!-- end -->"
HEAD = (
    "| file | made by | holds | whole | from between two frames | said |",
    "|---|---|---|---|---|---|",
)
STILL_HEAD = ("| file | made by | becomes |", "|---|---|---|")


def tables(outcomes: Mapping[str, Outcome]) -> str:
    """Return a table of each group, by the outcomes' file names."""
    lines: list[str] = []
    for group, kinds in GROUPS.items():
        still = all(kind.still for kind in kinds)
        lines += [f"### {group}", "", *(STILL_HEAD if still else HEAD)]
        lines += [_row(outcomes[kind.name]) for kind in kinds]
        lines.append("")
    return "\n".join(lines)


def document_with(text: str, made: str) -> str:
    """Return the document with other tables."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{made}\n{END}{rest.split(END)[1]}"


def _row(outcome: Outcome) -> str:
    kind = outcome.kind
    if kind.still:
        said = f"refused: {outcome.refused}" if outcome.refused else "; ".join(["read", *(outcome.read or ())])
        return f"| {kind.name} | {kind.source} | {said} |"
    holds = _holds(outcome.source) if outcome.source is not None else "nothing that FFmpeg opens"
    if outcome.refused:
        return f"| {kind.name} | {kind.source} | {holds} | refused | refused | {outcome.refused} |"
    warnings = _once([*(outcome.read or ()), *outcome.whole.warnings, *outcome.section.warnings])
    return (
        f"| {kind.name} | {kind.source} | {holds} | {_became(outcome.whole)} | {_became(outcome.section)} |"
        f" {'<br>'.join(warnings)} |"
    )


def _holds(facts: Facts) -> str:
    others: dict[str, list[str]] = {}
    for track in facts.tracks:
        others.setdefault(track.kind, []).append(track.what.split()[0])
    parts = [f"{facts.codec} {facts.pix_fmt}"]
    for kind, what in others.items():
        names = sorted(set(what)) if kind in {"audio", "subtitle", "video"} else []
        parts.append(f"{len(what)} {kind}{' (' + ', '.join(names) + ')' if names else ''}")
    for name, there in (
        ("timecode", facts.timecode), ("chapters", facts.chapters), ("turned", facts.matrix != (1, 0, 0, 1)),
        ("interlaced", facts.interlaced), ("SAR " + f"{facts.sar.numerator}:{facts.sar.denominator}", facts.sar != 1),
    ):  # fmt: skip
        parts += [name] if there else []
    return ", ".join(parts)


def _became(muxed: Muxed) -> str:
    if muxed.refused:
        return f"refused: {muxed.refused}"
    assert muxed.facts is not None
    how = f"re-encoded ({muxed.facts.codec} {muxed.facts.pix_fmt})" if muxed.reencoded else "copied"
    return f"{how}, {muxed.container}"


def _once(sentences: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(one.replace("|", "\\|") for one in sentences))
