"""Objects in memory, in the place of other people's buckets (the real ones are asked in integration)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from jobs.storage.bucket_reader import BucketObject, ListedObject, ObjectPage
from jobs.storage.errors import ObjectForbiddenError, StorageUnavailableError

BUCKET = "videos"
BEGAN = datetime(2026, 1, 1, 11, tzinfo=UTC)


@dataclass
class InMemoryBucket:
    """Objects that a `BucketReader` looks at."""

    versioned: bool = False
    down: bool = False
    forbidden: bool = False
    looks: int = 0
    _objects: dict[tuple[str, str, str | None], BucketObject] = field(default_factory=dict)
    _writes: int = 0

    def put(self, key: str, data: str = "video", *, bucket: str = BUCKET, job_id: str | None = None) -> BucketObject:
        self._writes += 1
        seen = BucketObject(
            key=key,
            etag=hashlib.md5(data.encode()).hexdigest(),
            version_id=f"v{self._writes}" if self.versioned else None,
            size_bytes=len(data),
            last_modified=BEGAN + timedelta(seconds=self._writes),
            made_by_job=job_id,
        )
        self._objects[bucket, key, None] = self._objects[bucket, key, seen.version_id] = seen
        return seen

    def remove(self, key: str, *, bucket: str = BUCKET) -> None:
        del self._objects[bucket, key, None]

    def head_object(self, bucket: str, key: str, version_id: str | None = None) -> BucketObject | None:
        self.looks += 1
        if self.down:
            raise StorageUnavailableError("switched off by the test", "bucket")
        if self.forbidden:
            raise ObjectForbiddenError("locked by the test", "bucket")
        return self._objects.get((bucket, key, version_id))

    def list_objects(self, bucket: str, prefix: str, *, after: str, limit: int) -> ObjectPage:
        if self.down:
            raise StorageUnavailableError("switched off by the test", "bucket")
        if self.forbidden:
            raise ObjectForbiddenError("locked by the test", "bucket")
        latest = sorted(
            (key, one) for (at, key, version), one in self._objects.items() if (at, version) == (bucket, None)
        )
        found = [
            ListedObject(key, one.etag, one.size_bytes)
            for key, one in latest
            if key.startswith(prefix) and key.encode() > after.encode()
        ]
        return ObjectPage(found[:limit], more=len(found) > limit)
