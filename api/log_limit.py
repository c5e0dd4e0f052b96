"""The limit of repeated log lines, under the name by which the API uses it."""

from __future__ import annotations

from jobs.log_limit import INTERVAL_S, LogLimit

__all__ = ["INTERVAL_S", "LogLimit"]
