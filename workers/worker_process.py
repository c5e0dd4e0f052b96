"""The composition root of a worker process: it owns one device, runs several jobs at once, and drains when stopped.

The supervisor starts it, pinned to its device by the environment. What a part does belongs to the part; what happens
to running jobs at SIGTERM is in `workers.drain`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
import warnings
from typing import Any

import psutil
import torch
from celery.platforms import SecurityWarning
from celery.signals import worker_ready, worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database, Transaction
from jobs.db.faults import is_unavailable, reason
from jobs.ids import new_id
from jobs.lifecycle import Dependency
from jobs.queue import Broker
from jobs.service.workers import mark_worker_stopped, register_worker
from jobs.settings import Settings
from jobs.storage.factory import open_store
from workers.checks import make_checks
from workers.consumer.celery_app import make_app, make_celery_worker
from workers.consumer.queue_subscription import QueueSubscription
from workers.consumer.stall_detector import StallDetector
from workers.disk_full import DiskFullLog
from workers.drain import Drain
from workers.engine.batch_limit import BatchLimit
from workers.engine.device_memory import CudaMemory, UnknownMemory
from workers.engine.engine import Engine
from workers.engine.heap_trimmer import HeapTrimmer
from workers.engine.watchdog import Watchdog
from workers.feature_cache.job_features import revisions
from workers.host.gpu import GpuSampler
from workers.host.scratch import ScratchFolder
from workers.host.self_test import check_device
from workers.host.supervisor import EXIT_RESTART
from workers.runner.active_jobs import ActiveJobs
from workers.runner.availability import Availability
from workers.runner.executor import JobExecutor
from workers.runner.reporter import Reporter
from workers.runner.worker_context import WorkerContext
from workers.worker_parts import (
    make_feature_cache,
    make_model_cache,
    make_sandbox,
    missing_layers,
    resolved_precision,
    variants_to_serve,
)

log = logging.getLogger(__name__)

STALL_CHECK_S = 1.0
REGISTER_PAUSE_S = 2.0


def new_worker_id() -> str:
    """Return an id that tells nothing of the host: owners of jobs see it, host and device are for operators."""
    return f"worker-{new_id('w')[-12:]}"


class WorkerProcess:
    """All parts of one worker process. The constructor opens them, `run` starts them, and both close them in reverse.

    Raises:
        WeightsMissingError: a variant of the settings is not installed.
        OSError: the scratch folder cannot be made.
    """

    def __init__(self, settings: Settings, *, device: str, torch_device: str, gpu_uuid: str | None = None) -> None:
        self.worker_id = new_worker_id()
        self._device = device
        self._variants = variants_to_serve(settings)
        with contextlib.ExitStack() as stack:
            scratch = ScratchFolder(settings.scratch_dir)
            stack.callback(scratch.close)
            self._settings = settings = settings.model_copy(update={"scratch_dir": scratch.path})
            self._disk_full = DiskFullLog.from_settings(settings)
            self._db = Database(settings.database_url).of_platform()
            stack.callback(self._db.close)
            self._broker = Broker(settings.resolved_broker_url())
            stack.callback(self._broker.close)
            gpu = GpuSampler(gpu_uuid)
            stack.callback(gpu.close)
            self._sandbox = sandbox = make_sandbox(settings, scratch.path)
            stack.callback(sandbox.close)
            store = open_store(settings)
            features = make_feature_cache(settings, store, self._disk_full)
            stack.callback(features.close)
            precision = resolved_precision(settings, torch_device)
            self._models = make_model_cache(settings, torch_device=torch_device, precision=precision)
            self._heap_trimmer = HeapTrimmer()
            self.engine = Engine(
                self._models,
                BatchLimit(settings.max_batch, CudaMemory() if torch_device.startswith("cuda") else UnknownMemory()),
                watchdog=Watchdog(settings.engine_watchdog_s),
                after_batch=self._heap_trimmer.request,
            )
            self._availability = Availability(
                make_checks(settings, self._db, worker_id=self.worker_id, torch_device=torch_device),
                variants=self._variants,
                worker_id=self.worker_id,
            )
            stack.callback(self._availability.close)
            self._active_jobs = ActiveJobs()
            self._drain = Drain(self._active_jobs, worker_id=self.worker_id, grace_s=settings.drain_grace_s)
            self._process = psutil.Process()
            self.reporter = Reporter(
                self._db,
                self._active_jobs,
                worker_id=self.worker_id,
                lease_s=settings.lease_s,
                heartbeat_s=settings.heartbeat_s,
                state=self._drain.state,
                loaded=lambda: self.engine.loaded,
                memory=self._check_memory,
                gpu=gpu.latest,
                result_wait_s=settings.result_wait_s,
                unavailable=self._availability.trouble,
                variants=self._availability.usable_variants,
                drain=lambda: self._drain.request("a drain was requested", restart=False),
                disk_full=self._disk_full,
            )
            context = WorkerContext(
                settings,
                self._db,
                store,
                self.engine,
                sandbox,
                self.reporter.report,
                features,
                revisions(weights_dir=settings.weights_dir, device=torch_device, precision=precision),
                disk_full=self._disk_full,
                availability=self._availability,
            )
            self.executor = JobExecutor(
                context, self._broker, self._active_jobs, self.reporter, worker_id=self.worker_id
            )
            self._resources = stack.pop_all()

    def run(self) -> int:
        """Run jobs until a stop signal; return the exit status."""
        with self._resources:
            self._register()
            self._prove()
            consumer = self._make_consumer()
            self._start_reporter()
            self._start_engine()
            subscription = self._start_subscription(consumer)
            self._start_drain()
            self._start_stall_detection(subscription)
            self.executor.fill_slots()  # without a slot, nothing was published for this worker yet
            consumer.start()  # returns when the threads of the pool have ended their jobs
        return EXIT_RESTART if self._drain.restart else int(consumer.exitcode or 0)

    def close(self) -> None:
        """Close what the constructor has opened; `run` does it too."""
        self._resources.close()

    def _register(self) -> None:
        """Register; wait for a database that is away, because a crash would only repeat itself."""
        sandbox_lacks = missing_layers(self._sandbox)

        def register(tx: Transaction) -> None:
            register_worker(
                tx,
                worker_id=self.worker_id,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                device=self._device,
                slots=self._settings.worker_slots,
                variants=self._variants,
                sandbox_lacks=sandbox_lacks,
            )

        while True:
            try:
                self._db.run(register, repeatable=True)
                break
            except SQLAlchemyError as exc:
                if not is_unavailable(exc):
                    raise
                log.error("worker %s cannot start yet: the database does not answer; trying again", self.worker_id)
                time.sleep(REGISTER_PAUSE_S)
        self._resources.callback(self._mark_stopped)

    def _prove(self) -> None:
        """Check what the worker needs before it takes a job; what fails is said in its heartbeats and checked again."""
        self._availability.on_change = self._on_availability_change
        self._availability.check_all()
        self._availability.start()

    def _on_availability_change(self) -> None:
        self.reporter.send_heartbeat_now()
        if not self._availability.works(Dependency.DEVICE):
            self._drain.request("its device failed", restart=True)

    def _usable_variants(self) -> list[str]:
        return self._availability.usable_variants() if self._availability.available else []

    def _mark_stopped(self) -> None:
        try:
            with self._db.transaction() as tx:
                mark_worker_stopped(tx, self.worker_id)
        except SQLAlchemyError as exc:
            if not self._disk_full.report(exc):
                log.warning("database unavailable (%s); maintenance will mark this worker lost", reason(exc))

    def _make_consumer(self) -> Any:
        # Celery warns root users of pickled messages; ours are JSON, and nothing else is accepted.
        warnings.simplefilter("ignore", SecurityWarning)
        app = make_app(self._settings)
        self.executor.register(app)
        consumer = make_celery_worker(
            app,
            worker_id=self.worker_id,
            slots=self._settings.worker_slots,
            variants=self._variants,
            log_level=self._settings.log_level,
        )
        for sent, receiver in ((worker_ready, self._on_ready), (worker_shutting_down, self._on_shutting_down)):
            sent.connect(receiver, weak=False)
            self._resources.callback(sent.disconnect, receiver)
        return consumer

    def _start_reporter(self) -> None:
        """Start it first: it renews leases until everything else has stopped."""
        self.reporter.start()
        self._resources.callback(self.reporter.close)

    def _start_engine(self) -> None:
        self._heap_trimmer.start()
        self._resources.callback(self._heap_trimmer.close)
        self.engine.start()
        self._resources.callback(self.engine.close)
        for name in self._settings.preload or self._variants[:1]:
            self.engine.preload(name)

    def _start_subscription(self, consumer: Any) -> QueueSubscription:
        subscription = QueueSubscription(
            self._db,
            consumer,
            worker_id=self.worker_id,
            variants=self._variants,
            loaded=lambda: self._models.loaded,
            load_s=self._models.load_s,
            usable=self._usable_variants,
        )
        subscription.start()
        self._resources.callback(subscription.close)
        return subscription

    def _start_drain(self) -> None:
        self._drain.start()
        self._resources.callback(self._drain.close)

    def _start_stall_detection(self, subscription: QueueSubscription) -> None:
        detector = StallDetector(
            waiting=lambda: sum(self._broker.queue_length(variant) for variant in subscription.consumed),
            has_free_slot=self._has_free_slot,
            consumer_stall_s=self._settings.consumer_stall_s,
        )
        self.executor.on_message = detector.message_received
        threading.Thread(target=self._watch_consumer, args=(detector,), name="stall-detector", daemon=True).start()

    def _has_free_slot(self) -> bool:
        free = len(self._active_jobs.all()) < self._settings.worker_slots
        return free and self._drain.is_ready and self._availability.available

    def _watch_consumer(self, detector: StallDetector) -> None:
        """Drain this process, so that running jobs may end, and restart it when no message arrives any more."""
        while not self._drain.wait(STALL_CHECK_S):
            if detector.is_stalled():
                self._drain.request("messages wait, slots are free and none arrives", restart=True)
                self._drain.exit_when_overdue()
                return

    def _check_memory(self) -> int:
        """Return the bytes that this process uses; drain and restart it when they exceed the limit."""
        used, limit = int(self._process.memory_info().rss), self._settings.worker_memory_bytes
        if limit and used > limit:
            self._drain.request(f"it uses {used} bytes of memory, the limit is {limit}", restart=True)
        return used

    def _on_ready(self, **_: Any) -> None:
        self._drain.mark_ready()
        log.info("worker %s is ready: variants %s on %s", self.worker_id, ", ".join(self._variants), self._device)

    def _on_shutting_down(self, **_: Any) -> None:
        """Runs inside the signal handler, at every stop signal: only sets flags."""
        self.executor.draining = True
        self._drain.on_stop_signal()


def run_worker_process(settings: Settings, *, device: str, torch_device: str) -> int:
    """Run one worker process on the device that the environment pins it to; return its exit status.

    Raises:
        DeviceUnusableError: the device failed its self-test.
    """
    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    if threads:
        torch.set_num_threads(threads)
    check_device(torch_device)
    gpu_uuid = os.environ["CUDA_VISIBLE_DEVICES"] if torch_device.startswith("cuda") else None
    return WorkerProcess(settings, device=device, torch_device=torch_device, gpu_uuid=gpu_uuid).run()
