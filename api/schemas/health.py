"""Liveness and readiness."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.schemas.view import View


class HealthView(View):
    status: Literal["ok"]


class ReadyView(View):
    status: Literal["ready", "down"]
    checks: dict[str, Literal["ok", "down"]] = Field(description="Result of each check by name.")
