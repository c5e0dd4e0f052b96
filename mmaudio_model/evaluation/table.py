"""Terminal output of a report: a table with the main metrics of each part. The JSON has all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

COLUMNS = {
    "class accuracy": ("class_accuracy",),
    "class probability": ("class_probability",),
    "onset F1": ("onsets", "f1"),
    "precision": ("onsets", "precision"),
    "recall": ("onsets", "recall"),
    "delay (median, s)": ("onsets", "delay_median_s"),
    "|delay| (mean, s)": ("onsets", "delay_mean_absolute_s"),
    "log-mel Fréchet": ("log_mel_frechet_distance",),
}


def parts_table(report: Mapping[str, Any], parts: tuple[str, ...]) -> Table:
    """Return a table with a row per part in the report and a column per metric that any of them has."""
    rows = {part: [_figure(report[part], path) for path in COLUMNS.values()] for part in parts if report.get(part)}
    used = [column for column in range(len(COLUMNS)) if any(row[column] for row in rows.values())]
    table = Table("", *(list(COLUMNS)[column] for column in used), box=None, pad_edge=False)
    for part, row in rows.items():
        table.add_row(part, *(row[column] for column in used))
    return table


def _figure(figures: Mapping[str, Any], path: tuple[str, ...]) -> str:
    value: Any = figures
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return "" if value is None else f"{value:.3f}"


def negative_line(report: Mapping[str, Any]) -> str | None:
    figures = report.get("negative")
    if not figures:
        return None
    return (
        f"negative prompt: the class's probability is {figures['class_probability_without']:.3f} without it and "
        f"{figures['class_probability_with']:.3f} with it; lower in {figures['share_lowered']:.0%} of the scenes"
    )


def speed_line(report: Mapping[str, Any]) -> str | None:
    figures = report.get("speed")
    if not figures:
        return None
    return (
        f"speed: {figures['clip_s']:g} s with {figures['num_steps']} steps took {figures['median_s']:.1f} s "
        f"(median; the longest {figures['longest_s']:.1f} s)"
    )


def pretrained_lines(pretrained: Mapping[str, Any]) -> list[str]:
    """Return a line for each metric on a pretrained network: its value, or why there is none."""
    lines = [
        f"{name}: {value:.4g} ({pretrained['clip_counts'][name]} clips)"
        for name, value in pretrained.get("metrics", {}).items()
    ]
    lines += [f"{name}: skipped. {reason}" for name, reason in pretrained.get("skipped", {}).items()]
    return lines + [f"{name}: failed. {reason}" for name, reason in pretrained.get("errors", {}).items()]
