"""The Celery configuration of a worker process, and the consumer that runs inside it."""

from __future__ import annotations

from typing import Any

from celery import Celery
from celery.signals import setup_logging

from jobs.queue import celery_app, queue_name
from jobs.settings import Settings


def make_app(settings: Settings) -> Celery:
    """Return the Celery app of a worker process: `jobs.queue.celery_app` with the options that only consumers need."""
    app = celery_app(settings.resolved_broker_url())
    app.conf.update(
        # A message is acknowledged when its job has ended: if the worker dies, the broker delivers it again. The lease
        # in SQL recovers the job much sooner; the second delivery then claims nothing.
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        # With late acknowledgement, prefetch = slots: no message is held back behind a running job.
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,
        worker_enable_remote_control=False,  # cancel and liveness are in SQL; remote control adds a queue per worker
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # the SQL lease fences; the work is still good
        broker_connection_retry=True,
        # A broker whose disk is full refuses commands (MISCONF) until it has space again; the consumer reconnects.
        broker_channel_error_retry=True,
        broker_connection_max_retries=None,  # for ever: the broker comes back, the process stays
    )
    return app


def make_celery_worker(app: Celery, *, worker_id: str, slots: int, variants: list[str], log_level: str) -> Any:
    """Return the consumer, a pool with one thread per slot. Its `start()` blocks until the process is stopped."""
    # With a receiver of this signal, Celery neither adds handlers nor sets the level of the root logger.
    setup_logging.connect(_keep_logging)
    return app.Worker(
        hostname=worker_id,
        pool="threads",
        concurrency=slots,
        queues=[queue_name(variant) for variant in variants],
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel=log_level,
    )


def _keep_logging(**_: Any) -> None:
    """Leave logging as the command has configured it."""
