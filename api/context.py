"""The app's dependencies, made once per process by `create_app`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import cast

from flask import current_app
from sqlalchemy.exc import SQLAlchemyError

from api.allowed_hosts import AllowedHosts
from api.auth import Principal, current_tenant
from api.circuit_breaker import CircuitBreaker
from api.job_documents import JobDocuments
from api.key_use import KeyUse
from api.limits.request_rate import RequestRate
from api.limits.rules_cache import RulesCache
from api.limits.tenant_places import TenantPlaces, WaitingCounts
from api.links import LinkBuilder
from api.publishing import Publishing
from api.queue_positions import QueuePositions
from api.readiness import ReadinessChecks
from api.shares import Places, ThreadShares
from api.sns import SnsGate
from api.upload_checks import UploadChecks
from jobs.api_keys.authentication import is_still_valid
from jobs.data_uris import MAX_DATA_BYTES
from jobs.db.database import Database, Transaction
from jobs.db.faults import reason
from jobs.disk_space import DiskReserve
from jobs.errors import TooManyWaitingError
from jobs.log_limit import LogLimit
from jobs.queue import Broker
from jobs.request import JobRequest
from jobs.service.data_inputs import has_data_input, store_data_input
from jobs.service.scheduling.dispatch import Publisher, dispatch
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.service.submission import SubmitPolicy
from jobs.service.variant_availability import LOST_AFTER_LEASES, current_policy, offered_variants, served_variants
from jobs.settings import Settings
from jobs.storage.bucket_reader import BucketReader
from jobs.storage.local_files import BACKEND as LOCAL
from jobs.storage.protocol import ObjectStore
from jobs.storage.signing import LinkSigner
from jobs.tenants.rules import TenantRules, rules_of
from jobs.triggers.ingestion import EventIngestion

log = logging.getLogger(__name__)

EXTENSION = "mmaudio"
WAITING_RETRY_S = 5
# Each needs several hundred MiB for the largest body.
BATCHES_AT_ONCE = 2


@dataclass
class AppContext:
    """Settings, database, object store, broker, link signer, and readers of buckets and SNS messages."""

    settings: Settings
    database: Database
    store: ObjectStore
    broker: Broker | Publisher
    signer: LinkSigner
    buckets: BucketReader
    sns: SnsGate = field(default_factory=SnsGate)
    breaker: CircuitBreaker = field(default_factory=CircuitBreaker)
    log_limit: LogLimit = field(default_factory=LogLimit)
    publishing: Publishing = field(default_factory=Publishing)
    readiness: ReadinessChecks = field(default_factory=ReadinessChecks)
    upload_checks: UploadChecks = field(default_factory=UploadChecks)
    job_documents: JobDocuments = field(default_factory=JobDocuments)
    queue_positions: QueuePositions = field(default_factory=QueuePositions)

    @property
    def db(self) -> Database:
        """The database, bound to the tenant of the request."""
        return self.database.of_tenant(current_tenant())

    @cached_property
    def platform_db(self) -> Database:
        """The database, bound to the platform: for what concerns all tenants, such as dispatch."""
        return self.database.of_platform()

    def publish(self, variant: str) -> None:
        """Dispatch the variant's jobs. Never fails a request: maintenance publishes what was not published.

        While the breaker is open the broker is not called: a submit should not wait for its timeouts each time.
        """
        self.publishing.publish(variant, self._dispatch)

    def _dispatch(self, variants: tuple[str, ...]) -> None:
        if not self.breaker.allows_call():
            return
        answered = True
        try:
            answered = dispatch(self.platform_db, self.broker, variants=variants, policy=self.dispatch_policy).broker_ok
        except SQLAlchemyError as exc:
            if self.log_limit.allows("dispatch"):
                log.warning("jobs wait for maintenance (said once a minute): the database: %s", reason(exc))
        finally:
            if answered:
                self.breaker.record_success()
            else:
                self.breaker.record_failure()

    @cached_property
    def key_use(self) -> KeyUse:
        """Writes when API keys were last used."""
        return KeyUse.in_database(self.platform_db)

    @cached_property
    def rules(self) -> RulesCache:
        """The rules of tenants, at most some seconds old."""

        def read(tenant: str) -> TenantRules:
            with self.database.of_tenant(tenant).reading() as tx:
                return rules_of(tx, self.settings)

        return RulesCache(read)

    @property
    def own_rules(self) -> TenantRules:
        """The rules of the tenant of the request, at most some seconds old."""
        return self.rules.of(current_tenant())

    @cached_property
    def request_rate(self) -> RequestRate:
        """Counts requests a minute."""
        return RequestRate.in_broker(self.settings.resolved_broker_url)

    @cached_property
    def _waiting_counts(self) -> WaitingCounts:
        return WaitingCounts()

    def tenant_places(self, tenant: str) -> TenantPlaces:
        """Return the places of a tenant's requests that wait or stream."""
        return TenantPlaces(tenant, self.rules.of(tenant).max_waiting, self._waiting_counts)

    @cached_property
    def shares(self) -> ThreadShares:
        """How many threads each kind of slow work may hold."""
        return ThreadShares.of(self.settings.api_threads)

    @cached_property
    def waiting_places(self) -> Places:
        """Places of the requests that wait for a job."""
        return Places(self.shares.waiting)

    @cached_property
    def upload_places(self) -> Places:
        """Places of the requests that receive an upload."""
        return Places(self.shares.uploads)

    def hold_place(self) -> Callable[[], None]:
        """Take one of the tenant's places for a request that waits or streams; return what frees it.

        Raises:
            TooManyWaitingError: as many requests of the tenant wait or stream as allowed.
        """
        places = self.tenant_places(current_tenant())
        if not places.take():
            raise TooManyWaitingError(
                f"{places.limit} requests wait or stream, as many as allowed; end one first, or try again later.",
                places.limit,
                retry_s=WAITING_RETRY_S,
            )
        return places.release

    def still_allowed(self, principal: Principal) -> bool:
        """Return whether the key of a request that has begun is still valid.

        Raises:
            SQLAlchemyError: the database does not answer.
        """
        return principal.key_id is None or is_still_valid(self.database, principal.key_id)

    @cached_property
    def batch_places(self) -> Places:
        """Places of the requests that create a batch."""
        return Places(BATCHES_AT_ONCE)

    def links(self, tx: Transaction) -> LinkBuilder:
        """Return the builder of URLs for a transaction's documents."""
        return self.links_at(tx.now, tx.tenant)

    def links_at(self, now: datetime, tenant: str) -> LinkBuilder:
        """Return the builder of URLs as of a time, for one tenant's content."""
        return LinkBuilder.from_settings(self.settings, self.signer, now, tenant)

    def check_disk(self, upload_bytes: int = 0) -> None:
        """Check that the platform's disks on this host have room for new rows, and for an upload.

        Raises:
            DiskReserveError: one has no more than its reserve, or would not after the upload.
        """
        is_local = self.store.backend == LOCAL
        DiskReserve.of_platform(self.settings).check(upload_bytes if is_local else 0)

    @cached_property
    def allowed_hosts(self) -> AllowedHosts:
        """The names that requests may give as Host."""
        return AllowedHosts.from_settings(self.settings)

    @cached_property
    def dispatch_policy(self) -> DispatchPolicy:
        """The settings' policy of dispatch."""
        return DispatchPolicy.from_settings(self.settings)

    def offered_variants(self, tx: Transaction) -> tuple[str, ...]:
        """Return the variants that requests may name, the default first."""
        return offered_variants(tx, self.settings)

    def served_variants(self, tx: Transaction) -> list[str]:
        """Return the variants that live workers run."""
        return served_variants(tx, self.settings)

    @property
    def lost_after_s(self) -> float:
        """Seconds without a heartbeat after which a worker is shown as lost."""
        return self.settings.lease_s * LOST_AFTER_LEASES

    def policy(self) -> SubmitPolicy:
        """Return the policy for submits at this moment."""
        if self.settings.variants:  # no live worker decides about them
            return SubmitPolicy.from_settings(self.settings, tuple(self.settings.variants))
        with self.platform_db.reading() as tx:
            return current_policy(tx, self.settings)

    def store_data_input(self, request: JobRequest) -> JobRequest:
        """Return a request with an upload in place of its `data:` URI; see `jobs.service.data_inputs`.

        The caller holds one of `upload_places`.
        """
        if not has_data_input(request):
            return request
        self.check_disk(MAX_DATA_BYTES)
        with self.db.reading() as tx:
            rules = rules_of(tx, self.settings)
        return store_data_input(
            self.db,
            self.store,
            request,
            policy=self.policy(),
            ttl_s=self.settings.upload_ttl_s,
            max_bytes=self.settings.max_upload_bytes,
            max_held_bytes=rules.max_stored_upload_bytes,
        )

    @property
    def ingestion(self) -> EventIngestion:
        """The ingestion of bucket events."""
        return EventIngestion(
            self.platform_db, self.buckets, self.policy, jobs_per_hour=self.settings.trigger_jobs_per_hour
        )


def current_context() -> AppContext:
    """Return the context of the current app."""
    return cast("AppContext", current_app.extensions[EXTENSION])
