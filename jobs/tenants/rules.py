"""The rules of one tenant: what an operator has set for it, else what the settings say."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.api_keys.scope import DEFAULT_TENANT
from jobs.db.database import Transaction
from jobs.db.key_tables import TenantSettings
from jobs.settings import Settings


@dataclass(frozen=True)
class TenantRules:
    """Where a tenant may read and write, and its limits; a limit of 0: none.

    Attributes:
        input_buckets, output_buckets: see `jobs.tenants.locations`.
        input_hosts: hosts that inputs may be fetched from by https.
        requests_per_minute: of all its keys together.
        key_requests_per_minute: of each of its keys.
        max_waiting: requests that may wait or stream at once, in each API process.
    """

    input_buckets: frozenset[str] = frozenset()
    output_buckets: frozenset[str] = frozenset()
    input_hosts: tuple[str, ...] = ()
    requests_per_minute: int = 0
    key_requests_per_minute: int = 0
    max_queued: int = 0
    max_stored_upload_bytes: int = 0
    max_stored_result_bytes: int = 0
    max_triggers: int = 0
    max_waiting: int = 0

    @classmethod
    def of(cls, tenant: str, row: TenantSettings | None, settings: Settings) -> TenantRules:
        """Return the rules of a tenant.

        The buckets and hosts of the settings are for the tenant `default` alone: the others' are named one by one.
        """
        is_default = tenant == DEFAULT_TENANT
        rules = cls(
            input_buckets=frozenset(settings.input_buckets if is_default else ()),
            output_buckets=frozenset(settings.output_buckets if is_default else ()),
            input_hosts=tuple(settings.input_hosts if is_default else ()),
            requests_per_minute=settings.requests_per_minute_per_tenant,
            key_requests_per_minute=settings.requests_per_minute_per_key,
            max_queued=settings.max_queued_per_tenant,
            max_stored_upload_bytes=settings.max_stored_upload_bytes_per_tenant,
            max_stored_result_bytes=settings.max_stored_result_bytes_per_tenant,
            max_triggers=settings.max_triggers_per_tenant,
            max_waiting=settings.max_waiting_per_tenant,
        )
        return rules if row is None else rules._with(row)

    def _with(self, row: TenantSettings) -> TenantRules:
        values = {name: getattr(row, name) for name in self.__dataclass_fields__}
        kinds = {"input_buckets": frozenset, "output_buckets": frozenset, "input_hosts": tuple}
        given = {name: kinds.get(name, int)(value) for name, value in values.items() if value is not None}
        return TenantRules(**{**vars(self), **given})


def rules_of(tx: Transaction, settings: Settings) -> TenantRules:
    """Return the rules of the transaction's tenant at this moment."""
    return TenantRules.of(tx.tenant, tx.session.get(TenantSettings, tx.tenant), settings)


def named_output_buckets(tx: Transaction) -> frozenset[str] | None:
    """Return where an operator lets the transaction's tenant deliver to; None: where the settings say."""
    row = tx.session.get(TenantSettings, tx.tenant)
    if row is None or row.output_buckets is None:
        return None if tx.tenant == DEFAULT_TENANT else frozenset()
    return frozenset(row.output_buckets)
