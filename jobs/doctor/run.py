"""One run of the doctor: look at everything, decide whether repairs may be made at all, then make them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jobs.db.database import Database
from jobs.doctor.adoption import AdoptionRefusedError, adopt, check_adoptable
from jobs.doctor.brake import excesses
from jobs.doctor.finding import Action, Finding
from jobs.doctor.objects import ObjectsCheck
from jobs.doctor.queue import QueueCheck
from jobs.doctor.repair import ACTOR, Repairer
from jobs.doctor.survey import PART_FAILED, Survey, reason_of
from jobs.doctor.unfinished_writes import find_unfinished_writes
from jobs.queue import Broker
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.storage.identity import Identity, StoreMismatchError, Tie, examine_identity
from jobs.storage.protocol import ObjectStore

OBJECTS, WRITES, QUEUE = "rows and objects", "unfinished writes", "rows and queue"

Show = Callable[[Finding], None]


@dataclass(frozen=True)
class Mode:
    """What the operator asked for.

    Attributes:
        fix: make repairs.
        dry_run: show what `fix` would do; changes nothing.
        yes_all: make repairs although there are suspiciously many.
        adopt: tie the store to the database first.
        delete_unknown: delete objects of which this database knows nothing.
        grace_s: skip objects younger than this.
    """

    fix: bool = False
    dry_run: bool = False
    yes_all: bool = False
    adopt: bool = False
    delete_unknown: bool = False
    grace_s: float = 3600.0

    @property
    def changes(self) -> bool:
        """Whether anything may be changed."""
        return self.fix and not self.dry_run


@dataclass
class Report:
    """What a run did.

    Attributes:
        fixed: how many findings were repaired.
        refusals: why repairs were not made, or would not be.
        stopped: why the repairs ended before the last one; "" when they did not.
        notes: what else an operator should know.
    """

    fixed: int = 0
    stopped: str = ""
    refusals: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class DoctorRun:
    """Looks at database, queue and store, and repairs.

    Args:
        open_broker: returns the broker; raises `BrokerUnknownError`.
        show: called with each finding, after its repair where one is made.
    """

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        open_broker: Callable[[], Broker],
        *,
        mode: Mode,
        policy: DispatchPolicy,
        survey: Survey,
        show: Show,
    ) -> None:
        self._db, self._store, self._open_broker, self._mode = db, store, open_broker, mode
        self._policy, self._survey, self._show = policy, survey, show
        self._report = Report()

    def run(self) -> Report:
        """Check, then repair where nothing speaks against it."""
        try:
            self._check_database()
        except PART_FAILED as exc:
            self._survey.fail("database", reason_of(exc))
            return self._report
        identity = self._identity()
        if identity is not None:
            objects = ObjectsCheck(
                self._db,
                self._store,
                grace_s=self._mode.grace_s,
                delete_unknown=self._mode.delete_unknown,
                examined=self._survey.examined,
            )
            self._survey.run(OBJECTS, objects.run)
            self._survey.run(WRITES, lambda: find_unfinished_writes(self._db, self._store))
            self._confirm(identity)
        broker = self._broker()
        if broker is not None:
            self._survey.run(QUEUE, QueueCheck(self._db, broker, examined=self._survey.examined).run)
        self._decide(identity)
        if self._mode.changes and not self._report.refusals and broker is not None and identity is not None:
            self._repair(broker, identity)
        else:
            for finding in self._survey.findings:
                self._show(finding)
        return self._report

    def _check_database(self) -> None:
        if self._db.is_sqlite and not Path(self._db.url.database or "").is_file():
            raise OSError(f"There is no database file {self._db.url.database}; check MMAUDIO_DATABASE_URL.")
        self._db.check()

    def _broker(self) -> Broker | None:
        try:
            return self._open_broker()
        except PART_FAILED as exc:
            self._survey.fail(QUEUE, reason_of(exc))
            return None

    def _identity(self) -> Identity | None:
        """Return how store and database belong together; None when its objects must not be looked at."""
        try:
            identity = examine_identity(self._db, self._store)
            if self._mode.adopt:
                identity = self._adopt(identity)
            if identity.tie is Tie.MISMATCH:
                raise StoreMismatchError(identity.reason, self._store.backend)
        except PART_FAILED as exc:
            for name in (OBJECTS, WRITES):
                self._survey.fail(name, reason_of(exc))
            return None
        return identity

    def _confirm(self, before: Identity) -> None:
        """Look again after the checks: a volume that was unmounted meanwhile looks like lost objects."""
        try:
            after = examine_identity(self._db, self._store)
            if after.tie is Tie.MISMATCH and before.tie is not Tie.MISMATCH:
                raise StoreMismatchError(after.reason, self._store.backend)
        except PART_FAILED as exc:
            self._survey.fail(OBJECTS, reason_of(exc))

    def _adopt(self, identity: Identity) -> Identity:
        try:
            check_adoptable(identity, self._store, forced=self._mode.yes_all)
        except AdoptionRefusedError as exc:
            self._report.refusals.append(str(exc))
            return identity
        if identity.tie is Tie.MATCHES:
            self._report.notes.append(f"{self._store.location} is the store of this database already")
            return identity
        if self._mode.dry_run:
            self._report.notes.append(f"would tie {self._store.location} to this database")
            return Identity(Tie.CLAIMABLE, identity.platform_id)
        adopt(self._db, self._store, identity, actor=ACTOR)
        self._report.notes.append(f"{self._store.location} is now the store of this database")
        return examine_identity(self._db, self._store)

    def _decide(self, identity: Identity | None) -> None:
        """Collect what speaks against repairs."""
        if not (self._mode.fix or self._mode.dry_run):
            return
        if self._survey.failures:
            self._report.refusals.append("not everything could be looked at")
        if identity is not None and identity.tie is Tie.UNDECIDED:
            self._report.refusals.append(identity.reason)
        if not self._mode.yes_all:
            self._report.refusals += excesses(self._survey.repairs, self._survey.examined)

    def _repair(self, broker: Broker, identity: Identity) -> None:
        repairer = Repairer(self._db, self._store, broker, policy=self._policy)
        try:
            if identity.tie is Tie.CLAIMABLE:
                adopt(self._db, self._store, identity, actor=ACTOR)
        except PART_FAILED as exc:
            self._report.stopped = reason_of(exc)
        for finding in self._survey.findings:
            if finding.action is not Action.KEEP and not self._report.stopped:
                try:
                    repairer.repair(finding)
                    self._report.fixed += 1
                except PART_FAILED as exc:
                    self._report.stopped = f"{finding.subject}: {reason_of(exc)}"
            self._show(finding)
