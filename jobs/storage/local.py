"""Objects as files in one folder: the embedded default.

An object is one file, `<root>/objects/<quoted key>`, and a JSON file with its metadata, `<root>/metadata/<quoted key>`.
Keys are quoted part by part, so any text is a legal key and none can escape the folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from jobs.disk_space import DiskReserve
from jobs.storage.errors import (
    ChecksumMismatchError,
    InvalidKeyError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    StorageUnavailableError,
)
from jobs.storage.folder_marker import FolderMarker
from jobs.storage.local_files import BACKEND, chunks_of, quoted, sidecar_document, sync_folder, translated
from jobs.storage.local_ranges import LocalRangeWrites, range_drafts
from jobs.storage.protocol import CHUNK_BYTES, MARKER_KEY, ObjectMetadata, UnfinishedWrite, UploadTarget

MAX_KEY_BYTES = 1024


class LocalStore:
    """A folder as object store; several processes may share it.

    Args:
        reserve_bytes: free space that no write may use; see `DiskReserve`.
    """

    backend = BACKEND
    part_writes = None

    def __init__(self, root: Path, *, reserve_bytes: int | None = 0) -> None:
        self.location = f"the folder {root}"
        self._root = root
        self._reserve = DiskReserve((root,), reserve_bytes)
        self._objects = root / "objects"
        self._metadata = root / "metadata"
        self._drafts = root / "drafts"
        self._marker = FolderMarker(root, self._paths(MARKER_KEY)[0], BACKEND)
        self.range_writes = LocalRangeWrites(
            self._drafts, self._reserve, self._marker.check_change, self._publish_draft
        )

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,
        user_metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> ObjectMetadata:
        with path.open("rb") as stream:
            return self._put(key, stream, content_type, dict(user_metadata or {}), None, None, if_absent)

    def put_stream(
        self, key: str, stream: BinaryIO, *, content_type: str, max_bytes: int, sha256: str | None = None
    ) -> ObjectMetadata:
        return self._put(key, stream, content_type, {}, max_bytes, sha256, False)

    def _put(
        self,
        key: str,
        stream: BinaryIO,
        content_type: str,
        user_metadata: dict[str, str],
        max_bytes: int | None,
        sha256: str | None,
        if_absent: bool,
    ) -> ObjectMetadata:
        target, sidecar = self._paths(key)
        self._marker.check_change(key)
        try:
            self._drafts.mkdir(parents=True, exist_ok=True)
            with self._draft() as draft:
                with draft.open("wb") as file:
                    digest = self._write(stream, file, max_bytes)
                    file.flush()
                    os.fsync(file.fileno())
                if sha256 is not None and digest != sha256:
                    raise ChecksumMismatchError(f"Got bytes with SHA-256 {digest}, expected {sha256}.", BACKEND)
                with self._publishing():
                    if if_absent and target.exists():
                        raise ObjectExistsError(f"The key {key!r} is taken.", BACKEND)
                    for folder in (target.parent, sidecar.parent):
                        folder.mkdir(parents=True, exist_ok=True)
                    document = {"content_type": content_type, "sha256": digest, "user_metadata": user_metadata}
                    self._write_sidecar(sidecar, document)
                    draft.replace(target)
                    sync_folder(target.parent)  # so that the name survives a power cut too
        except OSError as exc:
            raise translated(exc, f"Could not write {key!r}", self._root) from exc
        return self.head(key)

    def _publish_draft(self, draft: Path, key: str, content_type: str, digest: str) -> ObjectMetadata:
        target, sidecar = self._paths(key)
        with self._publishing():
            for folder in (target.parent, sidecar.parent):
                folder.mkdir(parents=True, exist_ok=True)
            self._write_sidecar(sidecar, {"content_type": content_type, "sha256": digest, "user_metadata": {}})
            self._link(draft, target)
            sync_folder(target.parent)
        return self.head(key)

    def _write(self, stream: BinaryIO, file: BinaryIO, max_bytes: int | None) -> str:
        """Write a stream to a file; return its SHA-256."""
        digest, size = hashlib.sha256(), 0
        self._reserve.check()
        while chunk := stream.read(CHUNK_BYTES):
            size += len(chunk)
            if max_bytes is not None and size > max_bytes:
                raise ObjectTooLargeError(f"Got more than the allowed {max_bytes} bytes.", BACKEND)
            self._reserve.check(len(chunk))
            digest.update(chunk)
            file.write(chunk)
        return digest.hexdigest()

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Path]:
        """Give a new file for a write; what is left of it is removed."""
        descriptor, name = tempfile.mkstemp(dir=self._drafts)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _publishing(self) -> Iterator[None]:
        """Serialise writers: an object and its metadata change together."""
        with (self._drafts / ".lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed or the process ends
            yield

    def _write_sidecar(self, sidecar: Path, document: dict[str, Any]) -> None:
        with self._draft() as draft:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(document, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(sidecar)

    def open_read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        target, _ = self._paths(key)
        try:
            file = target.open("rb")
        except FileNotFoundError as exc:
            self._marker.check()
            raise ObjectNotFoundError(f"There is no object {key!r}.", BACKEND) from exc
        except OSError as exc:
            raise translated(exc, f"Could not read {key!r}", self._root) from exc
        return chunks_of(file, start, end)

    def download_to(self, key: str, path: Path, *, max_bytes: int | None = None) -> ObjectMetadata:
        metadata = self.head(key)
        if max_bytes is not None and metadata.size_bytes > max_bytes:
            raise ObjectTooLargeError(
                f"The object has {metadata.size_bytes} bytes, at most {max_bytes} are allowed.", BACKEND
            )
        digest = hashlib.sha256()
        try:
            with path.open("wb") as file:
                for chunk in self.open_read(key):
                    digest.update(chunk)
                    file.write(chunk)
        except OSError as exc:
            raise translated(exc, f"Could not copy {key!r} to a file", path) from exc
        if metadata.sha256 is not None and digest.hexdigest() != metadata.sha256:
            raise ChecksumMismatchError(f"The stored object {key!r} is damaged.", BACKEND)
        return metadata

    def head(self, key: str) -> ObjectMetadata:
        target, sidecar = self._paths(key)
        try:
            status = target.stat()
            document = json.loads(sidecar.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as exc:
            self._marker.check()
            raise ObjectNotFoundError(f"There is no object {key!r}.", BACKEND) from exc
        except OSError as exc:
            raise translated(exc, f"Could not read {key!r}", self._root) from exc
        except ValueError as exc:
            raise StorageUnavailableError(f"The metadata of {key!r} at {sidecar} is not JSON: {exc}.", BACKEND) from exc
        return ObjectMetadata(
            key=key,
            size_bytes=status.st_size,
            etag=document["sha256"],
            sha256=document["sha256"],
            content_type=document["content_type"],
            last_modified=datetime.fromtimestamp(status.st_mtime, UTC),
            user_metadata=document["user_metadata"],
        )

    def copy(
        self,
        source: str,
        target: str,
        *,
        etag: str,
        content_type: str,
        sha256: str | None = None,  # noqa: ARG002 - the hash of the bytes is known
    ) -> ObjectMetadata:
        (path, _), (copied, sidecar) = self._paths(source), self._paths(target)
        self._marker.check()
        try:
            self._drafts.mkdir(parents=True, exist_ok=True)
            with self._publishing():
                found = self.head(source)
                if found.etag != etag:
                    raise ObjectChangedError(f"The object {source!r} was overwritten meanwhile.", BACKEND)
                for folder in (copied.parent, sidecar.parent):
                    folder.mkdir(parents=True, exist_ok=True)
                self._write_sidecar(sidecar, {**sidecar_document(found), "content_type": content_type})
                self._link(path, copied)
                sync_folder(copied.parent)
        except OSError as exc:
            raise translated(exc, f"Could not copy {source!r}", self._root) from exc
        return self.head(target)

    def _link(self, path: Path, copied: Path) -> None:
        """Give a file a second name, as no file of an object is ever written to; copy it where that is not possible."""
        copied.unlink(missing_ok=True)
        try:
            copied.hardlink_to(path)
        except OSError as exc:
            if exc.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}:
                raise
            with self._draft() as draft:
                shutil.copyfile(path, draft)
                draft.replace(copied)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            paths = self._paths(key)
            self._marker.check_change(key)
            try:
                self._drafts.mkdir(parents=True, exist_ok=True)
                with self._publishing():  # no file is put into a folder that is being removed
                    for path in paths:
                        path.unlink(missing_ok=True)
                        # Fails while the folder is still used.
                        with contextlib.suppress(OSError):
                            path.parent.rmdir()
            except OSError as exc:
                raise translated(exc, f"Could not delete {key!r}", self._root) from exc

    def list_keys(self, prefix: str) -> Iterator[str]:
        self._marker.check()
        folder_key = prefix[: prefix.rfind("/") + 1]
        folder = self._paths(folder_key[:-1])[0] if folder_key else self._objects
        return (key for key in self._keys_below(folder, folder_key) if key.startswith(prefix))

    def _keys_below(self, folder: Path, folder_key: str) -> Iterator[str]:
        """Return the keys in a folder and its subfolders, sorted; a folder that cannot be read is an error."""
        try:
            with os.scandir(folder) as entries:
                # A folder sorts as its keys do, which go on with a slash.
                found = sorted(
                    (unquote(entry.name) + "/" if entry.is_dir(follow_symlinks=False) else unquote(entry.name))
                    for entry in entries
                )
        except (FileNotFoundError, NotADirectoryError):
            return  # nothing was stored there, or the folder was removed with its last object
        except OSError as exc:
            raise translated(exc, f"Could not list {folder_key!r}", folder) from exc
        for name in found:
            if name.endswith("/"):
                yield from self._keys_below(folder / quoted(name[:-1]), folder_key + name)
            else:
                yield folder_key + name

    def presigned_get(
        self,
        key: str,  # noqa: ARG002 - callers cannot reach a folder; the API signs its own URL
        *,
        expires_s: int,  # noqa: ARG002
        filename: str,  # noqa: ARG002
        content_type: str,  # noqa: ARG002
        inline: bool = False,  # noqa: ARG002
    ) -> str | None:
        return None

    def upload_target(
        self,
        key: str,  # noqa: ARG002
        *,
        size_bytes: int,  # noqa: ARG002
        content_type: str,  # noqa: ARG002
        sha256: str | None,  # noqa: ARG002
        expires_s: int,  # noqa: ARG002
        now: datetime,  # noqa: ARG002
    ) -> UploadTarget | None:
        return None

    def unfinished_writes(self, *, older_than_s: float) -> Iterator[UnfinishedWrite]:
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        drafts: list[tuple[Path, str | None]] = [(draft, None) for draft in self._drafts.glob("tmp*")]
        for draft, key in (*drafts, *range_drafts(self._drafts)):
            try:
                begun_at = datetime.fromtimestamp(draft.stat().st_mtime, UTC)
            except FileNotFoundError:  # published or discarded since the folder was listed
                continue
            if begun_at < before:
                yield UnfinishedWrite(draft.name, begun_at, partial(self._discard, draft), key)

    def _discard(self, draft: Path) -> None:
        try:
            draft.unlink(missing_ok=True)
        except OSError as exc:
            raise translated(exc, f"Could not discard {draft.name}", self._root) from exc

    def check(self) -> None:
        self._marker.check()
        try:
            self._drafts.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self._drafts) as file:
                file.write(b"x")
        except OSError as exc:
            raise translated(exc, "Could not write to the object folder", self._root) from exc

    def _paths(self, key: str) -> tuple[Path, Path]:
        parts = key.split("/")
        if not key or "\x00" in key or len(key.encode()) > MAX_KEY_BYTES or any(p in {"", ".", ".."} for p in parts):
            raise InvalidKeyError(f"Got key {key[:80]!r}; parts may not be empty, '.' or '..'.", BACKEND)
        names = [quoted(part) for part in parts]
        return self._objects.joinpath(*names), self._metadata.joinpath(*names)


def open_local(path: str, *, reserve_bytes: int | None = 0) -> LocalStore:
    """Return a store in the folder `path`.

    Args:
        reserve_bytes: free space that no write may use; see `DiskReserve`.

    Raises:
        ValueError: the path is not absolute.
    """
    root = Path(path)
    if not root.is_absolute():
        raise ValueError(f"Got storage folder {path!r}; give an absolute path, file:///like/this.")
    return LocalStore(root, reserve_bytes=reserve_bytes)
