"""The object store as request threads see it: short time limits, few callers at once, and a circuit breaker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from api.circuit_breaker import CircuitBreaker
from api.shares import Places
from jobs.storage.bucket_reader import BucketObject, BucketReader, ObjectPage
from jobs.storage.errors import StorageUnavailableError
from jobs.storage.protocol import ObjectStore

Result = TypeVar("Result")

# Calls of a working store end sooner than this; a store that hangs keeps few threads waiting, for no longer.
PLACE_WAIT_S = 0.2
# Made here, without the network. The readiness check has its own limit and must see the store as it is.
_UNBOUNDED = frozenset({"backend", "location", "presigned_get", "upload_target", "part_url"})
# These move whole files, so the short time limits do not suit them.
_BULK = frozenset({"put_file", "put_stream", "copy", "download_to", "append", "finish"})
# Parts of a store with calls of their own, or None.
_WRITES = frozenset({"part_writes", "range_writes"})


class Proof:
    """A check that is made before the first call of a store, and again as long as it fails."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check, self._made = check, False

    def __call__(self) -> None:
        """Make the check unless it has succeeded before; raises what it raises."""
        if not self._made:
            self._check()
            self._made = True


class StoreGate:
    """Lets few callers at once through to the object store, and none for a while after it did not answer.

    Args:
        breaker: shared by all calls of this store.
        places: for short calls; calls that move files are bounded by who makes them.
        proof: that it is the right store.
    """

    def __init__(self, breaker: CircuitBreaker, places: Places, proof: Callable[[], None] = lambda: None) -> None:
        self._breaker, self._places, self.proof = breaker, places, proof

    def call(self, step: Callable[[], Result], *, bulk: bool = False) -> Result:
        """Run a call of the store.

        Raises:
            StorageUnavailableError: it did not answer, now or a moment ago, or too many callers wait for it.
        """
        if bulk:
            return self._tried(step)
        with self._places.place(wait_s=PLACE_WAIT_S) as held:
            if not held:
                raise StorageUnavailableError("Too many requests wait for the object store.", "api")
            return self._tried(step)

    def _tried(self, step: Callable[[], Result]) -> Result:
        if not self._breaker.allows_call():
            raise StorageUnavailableError("The object store did not answer a moment ago.", "api")
        answered = True
        try:
            self.proof()
            return step()
        except StorageUnavailableError:
            answered = False
            raise
        finally:
            if answered:
                self._breaker.record_success()
            else:
                self._breaker.record_failure()


class BoundedStore:
    """Sends every call of an object store through a gate.

    Args:
        quick: the store, with short time limits.
        bulk: the same store, with time limits for moving files.
    """

    def __init__(self, quick: Any, bulk: Any, gate: StoreGate) -> None:
        self._quick, self._bulk, self._gate = quick, bulk, gate

    def __getattr__(self, name: str) -> Any:
        # By name and not method by method: one that is added to the protocol must not be unbounded.
        if name in _WRITES:
            writes = getattr(self._quick, name)
            return None if writes is None else BoundedStore(writes, getattr(self._bulk, name), self._gate)
        bulk = name in _BULK
        found = getattr(self._bulk if bulk else self._quick, name)
        if name in _UNBOUNDED:
            return found
        if name == "check":
            return self._check
        return lambda *args, **named: self._gate.call(lambda: found(*args, **named), bulk=bulk)

    def _check(self) -> None:
        self._gate.proof()
        self._quick.check()


def bounded_store(quick: ObjectStore, bulk: ObjectStore, gate: StoreGate) -> ObjectStore:
    """Return a store whose calls go through a gate; see `BoundedStore`."""
    return cast("ObjectStore", BoundedStore(quick, bulk, gate))


class BoundedBucketReader:
    """A `BucketReader` whose calls go through a gate."""

    def __init__(self, reader: BucketReader, gate: StoreGate) -> None:
        self._reader, self._gate = reader, gate

    def head_object(self, bucket: str, key: str, version_id: str | None = None) -> BucketObject | None:
        """Return what is known of an object, as the protocol says."""
        return self._gate.call(lambda: self._reader.head_object(bucket, key, version_id))

    def list_objects(self, bucket: str, prefix: str, *, after: str, limit: int) -> ObjectPage:
        """Return a page of a listing, as the protocol says."""
        return self._gate.call(lambda: self._reader.list_objects(bucket, prefix, after=after, limit=limit))
