"""The consumer's logging is that of the command."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery.app.log import Logging

from jobs.settings import Settings
from workers.consumer.celery_app import make_app, make_celery_worker


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, set back afterwards."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield root
    root.setLevel(level)
    root.handlers[:] = handlers


# Celery warns a root user of pickled messages; ours are JSON, and nothing else is accepted.
@pytest.mark.filterwarnings("ignore:You're running the worker with superuser privileges")
@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING"])
def test_celery_leaves_level_and_handlers_alone(
    tmp_path: Path, root: logging.Logger, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setattr(Logging, "_setup", False)  # as in a new process
    settings = Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0", log_level=level)
    root.setLevel(settings.log_level)
    handlers = list(root.handlers)
    app = make_app(settings)
    make_celery_worker(app, worker_id="w1", slots=1, variants=["tiny_16k"], log_level=settings.log_level)

    assert logging.getLevelName(root.level) == level
    assert root.handlers == handlers
    assert logging.getLogger("workers.runner.job_log").isEnabledFor(logging.INFO) == (level != "WARNING")
