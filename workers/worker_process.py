"""One worker process: owns one device, holds several jobs at once, and drains when it is told to stop.

Started by the supervisor, pinned to its device by the environment it is born with.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import psutil
import torch
from celery.platforms import SecurityWarning
from celery.signals import worker_ready, worker_shutting_down
from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database
from jobs.ids import new_id
from jobs.queue import Broker
from jobs.service.workers import mark_worker_stopped, register_worker
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.protocol import ObjectStore
from mmaudio_model.checkpoints.files import is_installed
from mmaudio_model.checkpoints.loading import SharedParts
from mmaudio_model.checkpoints.parts import PARTS, part_bytes, part_identity
from mmaudio_model.errors import WeightsMissingError
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.pipeline import DTYPES, Pipeline
from mmaudio_model.variants import VARIANTS, get_variant
from workers.consumer.celery_app import make_app, make_celery_worker
from workers.consumer.queue_subscription import QueueSubscription
from workers.consumer.stall_detector import StallDetector
from workers.engine.batch_limit import BatchLimit, CudaMemory, UnknownMemory
from workers.engine.engine import Engine, LoadedModel
from workers.engine.heap_trimmer import HeapTrimmer
from workers.engine.model_cache import ModelCache
from workers.engine.watchdog import Watchdog
from workers.feature_cache.cache import FeatureCache
from workers.feature_cache.disk import DiskFeatureStore
from workers.feature_cache.job_features import revisions
from workers.host.gpu import GpuSampler
from workers.host.scratch import ScratchFolder
from workers.host.self_test import check_device
from workers.host.supervisor import EXIT_RESTART
from workers.media.sandbox import MediaSandbox, SandboxLimits
from workers.runner.active_jobs import ActiveJobs, StopReason
from workers.runner.attempt import WorkerContext
from workers.runner.executor import JobExecutor
from workers.runner.reporter import Reporter

log = logging.getLogger(__name__)

DRAIN_LOOK_S = 0.05
STALL_LOOK_S = 1.0
# Beyond the grace of a drain, for a consumer that does not even stop.
STALLED_EXTRA_S = 10.0
# Of a device's memory, what loaded variants may take when no setting says so.
MODEL_SHARE = 0.7


def offered_variants(settings: Settings) -> list[str]:
    """Return the variants that this worker takes: those of the settings, else what is present.

    Raises:
        WeightsMissingError: a variant of the settings is not there.
    """
    weights_dir = settings.weights_dir
    if not settings.variants:
        return [name for name, variant in VARIANTS.items() if is_installed(variant, weights_dir)]
    for name in settings.variants:
        if not is_installed(get_variant(name), weights_dir):
            raise WeightsMissingError(f"MMAUDIO_VARIANTS names {name}, whose weights are not there ({weights_dir}).")
    return list(settings.variants)


class WorkerProcess:
    """Everything one process has. `run` blocks until it is told to stop."""

    def __init__(self, settings: Settings, *, device: str, torch_device: str, gpu_uuid: str | None = None) -> None:
        self._scratch = ScratchFolder(settings.scratch_dir)
        self.settings = settings = settings.model_copy(update={"scratch_dir": self._scratch.path})
        self._device = device
        self.worker_id = f"{socket.gethostname()[:30]}-{device.replace(':', '')}-{new_id('w')[-12:]}"
        self._variants = offered_variants(settings)
        self._db = Database(settings.database_url)
        self._broker = Broker(settings.resolved_broker_url())
        precision = settings.precision
        if precision == "auto":
            precision = "bf16" if torch_device.startswith("cuda") else "fp32"
        self._models = device_models(settings, torch_device=torch_device, precision=precision)
        on_cuda = torch_device.startswith("cuda")
        self._heap_trimmer = HeapTrimmer()
        self._engine = Engine(
            self._models,
            BatchLimit(settings.max_batch, CudaMemory() if on_cuda else UnknownMemory()),
            watchdog=Watchdog(settings.engine_watchdog_s),
            after_batch=self._heap_trimmer.request,
        )
        self._active_jobs = ActiveJobs()
        self._process = psutil.Process()
        self._ready = False
        self._draining = threading.Event()
        self._stopped = threading.Event()
        self._stop_signals = 0
        self._own_stops = 0
        self._starts_afresh = False
        self._gpu = GpuSampler(gpu_uuid)
        self._reporter = Reporter(
            self._db,
            self._active_jobs,
            worker_id=self.worker_id,
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            state=self._state,
            loaded=lambda: self._engine.loaded,
            memory=self._memory,
            gpu=self._gpu.latest,
            drain=self._drain_for_good,
        )
        self._sandbox = _sandbox(settings, self._scratch.path)
        store = open_store(settings)
        self._features = _feature_cache(settings, store)
        context = WorkerContext(
            settings,
            self._db,
            store,
            self._engine,
            self._sandbox,
            self._reporter.report,
            self._features,
            revisions(weights_dir=settings.weights_dir, device=torch_device, precision=precision),
        )
        self._runner = JobExecutor(context, self._broker, self._active_jobs, self._reporter, worker_id=self.worker_id)

    def run(self) -> int:
        """Take jobs until a stop signal comes; return the exit status."""
        settings = self.settings
        self._db.run(
            lambda tx: register_worker(
                tx,
                worker_id=self.worker_id,
                hostname=socket.gethostname(),
                pid=os.getpid(),
                device=self._device,
                slots=settings.worker_slots,
                variants=self._variants,
            ),
            repeatable=False,
        )
        # Celery warns a root user of pickled messages; ours are JSON, and nothing else is accepted.
        warnings.simplefilter("ignore", SecurityWarning)
        app = make_app(settings)
        self._runner.register(app)
        consumer = make_celery_worker(
            app, worker_id=self.worker_id, slots=settings.worker_slots, variants=self._variants
        )
        worker_ready.connect(self._on_ready, weak=False)
        worker_shutting_down.connect(self._on_shutting_down, weak=False)
        choice = QueueSubscription(
            self._db,
            consumer,
            worker_id=self.worker_id,
            variants=self._variants,
            loaded=lambda: self._models.loaded,
            load_s=self._models.load_s,
        )
        self._heap_trimmer.start()
        self._engine.start()
        for name in settings.preload or self._variants[:1]:
            self._engine.preload(name)
        self._reporter.start()
        choice.start()
        threading.Thread(target=self._drain_when_asked, name="drain", daemon=True).start()
        stall = StallDetector(
            waiting=lambda: sum(self._broker.queue_length(variant) for variant in choice.taken),
            has_free_slot=lambda: self._ready and len(self._active_jobs.all()) < settings.worker_slots,
            consumer_stall_s=settings.consumer_stall_s,
        )
        self._runner.on_message = stall.took
        threading.Thread(target=self._end_when_stalled, args=(stall,), name="stall", daemon=True).start()
        self._runner.fill_slots()  # nothing was published while there was no slot for it
        try:
            consumer.start()  # returns when the pool's threads have ended their jobs
        finally:
            self._draining.set()
            self._stopped.set()
            choice.close()
            self._engine.close()
            self._heap_trimmer.close()
            self._features.close()
            self._gpu.close()
            self._sandbox.close()
            self._scratch.close()
            self._reporter.close()
            self._say_stopped()
            self._broker.close()
            self._db.close()
        return EXIT_RESTART if self._starts_afresh else int(consumer.exitcode or 0)

    def _say_stopped(self) -> None:
        try:
            with self._db.transaction() as tx:
                mark_worker_stopped(tx, self.worker_id)
        except SQLAlchemyError as exc:
            log.warning("the database did not answer (%s); it will count this worker as lost", type(exc).__name__)

    def _memory(self) -> int:
        """Return the bytes this process uses; drains it for a fresh start when they are too many."""
        used, limit = int(self._process.memory_info().rss), self.settings.worker_memory_bytes
        if limit and used > limit and self._ready and not self._draining.is_set():
            self._starts_afresh = True
            self._drain_by_itself(f"it uses {used} bytes of memory, more than the {limit} allowed")
        return used

    def _drain_for_good(self) -> None:
        self._starts_afresh = False
        self._drain_by_itself("somebody asked for it")

    def _drain_by_itself(self, reason: str) -> None:
        """Do what a first stop signal does."""
        if self._own_stops or self._draining.is_set() or not self._ready:
            return
        log.warning("worker %s drains: %s", self.worker_id, reason)
        self._own_stops = 1
        os.kill(os.getpid(), signal.SIGTERM)

    def _state(self) -> str:
        if self._draining.is_set():
            return "draining"
        return "ready" if self._ready else "starting"

    def _on_ready(self, **_: Any) -> None:
        self._ready = True
        log.info("worker %s is ready for %s on %s", self.worker_id, ", ".join(self._variants), self._device)

    def _on_shutting_down(self, **_: Any) -> None:
        """Runs inside the signal handler, at every stop signal: only sets flags."""
        self._stop_signals += 1
        self._runner.draining = True
        self._draining.set()

    def _drain_when_asked(self) -> None:
        """After the stop signal: hand back what waits for the device, at once, and let the rest end for a while.

        What is left then is handed back too; all of it at once at a second signal.
        """
        self._draining.wait()
        deadline = time.monotonic() + self.settings.drain_grace_s
        # To the very end: a job that was being claimed when the signal came is in hand only a moment later.
        while not self._stopped.wait(DRAIN_LOOK_S):
            if time.monotonic() > deadline or self._stop_signals - self._own_stops > 1:
                self._active_jobs.stop_all(StopReason.DRAINED)
            else:
                self._active_jobs.stop_waiting(StopReason.DRAINED)

    def _end_when_stalled(self, stall: StallDetector) -> None:
        """Drain this process for a fresh start when no message comes any more, so that running jobs may end."""
        while not self._draining.wait(STALL_LOOK_S):
            if stall.is_stalled():
                self._starts_afresh = True
                self._drain_by_itself("messages wait, slots are free and nothing comes")
                break
        else:
            return
        if not self._stopped.wait(self.settings.drain_grace_s + STALLED_EXTRA_S):
            log.error("the consumer does not stop either; leaving")
            os._exit(EXIT_RESTART)  # what ran here is taken back when its lease runs out


def device_models(settings: Settings, *, torch_device: str, precision: str) -> ModelCache[LoadedModel]:
    """Return the cache of variants of one device, empty."""
    shared: SharedParts = SharedParts()

    def load(name: str) -> LoadedModel:
        return Pipeline.load(
            get_variant(name),
            weights_dir=settings.weights_dir,
            device=torch_device,
            precision=precision,
            shared=shared,
        )

    @functools.cache
    def sizes(name: str) -> dict[Hashable, int]:
        variant, width = get_variant(name), DTYPES[precision].itemsize
        return {part_identity(variant, part): part_bytes(variant, part, width) for part in PARTS}

    return ModelCache(load, sizes=sizes, budget_bytes=settings.model_memory_bytes or _default_budget(torch_device))


def _default_budget(torch_device: str) -> int:
    """Leave room for what a batch needs, and on a CPU for everybody else."""
    if torch_device.startswith("cuda"):
        total = int(torch.cuda.get_device_properties(0).total_memory)
    else:
        total = int(psutil.virtual_memory().total)
    return int(total * MODEL_SHARE)


def _feature_cache(settings: Settings, store: ObjectStore) -> FeatureCache:
    folder = settings.feature_cache_dir or settings.data_dir / "features"
    return FeatureCache(
        DiskFeatureStore(folder, max_bytes=settings.feature_cache_bytes),
        store if settings.feature_ttl_s else None,
        ttl_s=settings.feature_ttl_s or 1,
    )


def _sandbox(settings: Settings, scratch: Path) -> MediaSandbox:
    return MediaSandbox(
        MediaLimits(max_pixels=settings.max_pixels, max_source_duration_s=settings.max_source_duration_s),
        SandboxLimits(
            memory_bytes=settings.decode_memory_bytes,
            wall_s=settings.decode_timeout_s,
            cpu_s=int(settings.decode_timeout_s * 2),
        ),
        scratch,
        ahead=True,
    )


def run_worker_process(settings: Settings, *, device: str, torch_device: str) -> int:
    """Run one worker process on the device that the environment pins it to; return its exit status.

    Raises:
        DeviceUnusableError: the device did not prove itself.
    """
    threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    if threads:
        torch.set_num_threads(threads)
    check_device(torch_device)
    gpu_uuid = os.environ["CUDA_VISIBLE_DEVICES"] if torch_device.startswith("cuda") else None
    return WorkerProcess(settings, device=device, torch_device=torch_device, gpu_uuid=gpu_uuid).run()
