"""What lies in the inbox folder, and moving a file inside it. Paths are relative, with bytes that are no UTF-8 escaped.

No symbolic link is followed: neither to list nor to open, so that no file outside the folder becomes a job.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from jobs.log_lines import printable
from jobs.private_files import make_shared_folder, match_folder

DONE, REFUSED, LOCK = "done", "refused", ".lock"
OWN = frozenset({DONE, REFUSED, LOCK})
VIDEOS = frozenset(
    {
        *(
            ".mp4",
            ".m4v",
            ".mov",
            ".qt",
            ".3gp",
            ".3g2",
            ".mkv",
            ".webm",
            ".avi",
            ".ts",
            ".mts",
            ".m2ts",
            ".mpg",
            ".mpeg",
        ),
        *(".vob", ".mxf", ".flv", ".ogv", ".wmv", ".asf", ".dv", ".gif", ".apng"),
    }
)
IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif"})
UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".download", "~")
MAX_DEPTH = 32
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 4095
REASON_SUFFIX = ".reason.txt"
# Errors that concern one name or file; all others (a full disk, too many open files) concern every file.
OF_ONE_FILE = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EILSEQ,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.ENXIO,
        errno.EPERM,
        errno.ETXTBSY,
        errno.EXDEV,
    }
)
# The folder of the same relative path cannot be made; the file is moved without its folders then.
_NO_FOLDER = frozenset({errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR})
# Errors of opening a name that is gone, or has become a link, a folder or a socket since it was listed.
_ANOTHER_KIND = frozenset({errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.ENXIO})

Stamp = tuple[int, int, int]  # inode, size, modification time


@dataclass(frozen=True)
class Entry:
    """Something in the inbox. `untaken`: why it can be no input, by its kind or name; None for a candidate."""

    path: str
    stamp: Stamp
    changed_ns: int
    untaken: str | None

    @property
    def name(self) -> str:
        return PurePath(self.path).name

    @property
    def suffix(self) -> str:
        return PurePath(self.path).suffix.lower()

    @property
    def shown(self) -> str:
        """The path for logs and documents."""
        return printable(self.path)

    @property
    def id(self) -> str:
        """A hash that the same file keeps until it is moved or changed. Nobody can set the time of the last change."""
        facts = "\n".join(str(number) for number in (*self.stamp, self.changed_ns))
        return hashlib.sha256(os.fsencode(f"{self.path}\n{facts}")).hexdigest()


class NotTheFileError(Exception):
    """Raised when a path leads to another file than the one that was listed."""


def list_entries(folder: Path, *, skipped: Collection[tuple[int, int]] = ()) -> Iterator[Entry]:
    """Yield what lies in the inbox and its sub-folders, except the service's own folders.

    Args:
        skipped: device and inode of folders that are left out, such as an outbox inside the inbox.

    Raises:
        OSError: the inbox itself cannot be read.
    """
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        try:
            with os.scandir(folder / inside) as scan:
                found = list(scan)
        except OSError as exc:
            if not inside:
                raise
            yield Entry(inside, (0, 0, 0), 0, f"the folder cannot be read ({exc.strerror})")
            continue
        for one in found:
            path = f"{inside}/{one.name}" if inside else one.name
            if path in OWN:
                continue
            try:
                status = one.stat(follow_symlinks=False)
            except OSError:
                continue  # it has gone meanwhile
            if stat.S_ISDIR(status.st_mode) and not one.name.startswith("."):
                if (status.st_dev, status.st_ino) in skipped:
                    continue
                if path.count("/") < MAX_DEPTH:
                    waiting.append(path)
                    continue
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            yield Entry(path, stamp, status.st_ctime_ns, _reason_untaken(one.name, status.st_mode))


def _reason_untaken(name: str, mode: int) -> str | None:
    if stat.S_ISDIR(mode):
        hidden = name.startswith(".")
        return "the name of the folder begins with a dot" if hidden else f"it lies deeper than {MAX_DEPTH} folders"
    if stat.S_ISLNK(mode):
        return "it is a symbolic link; put the file itself here"
    if not stat.S_ISREG(mode):
        return "it is not a regular file"
    if name.startswith("."):
        return "its name begins with a dot"
    lowered = name.lower()
    if lowered.endswith(UNFINISHED):
        return "its name ends like that of an unfinished download; rename it when it is complete"
    suffix = PurePath(lowered).suffix
    if suffix not in VIDEOS | IMAGES:
        got = f"its name ends in {printable(suffix)!r}" if suffix else "its name has no ending"
        return f"{got}; taken are {', '.join(sorted(VIDEOS | IMAGES))}"
    return None


@contextlib.contextmanager
def opened(folder: Path, entry: Entry) -> Iterator[Path]:
    """Open a listed file; give a path that leads to this very file, whatever happens to its name.

    Raises:
        NotTheFileError: another file, or none, has the name now.
        OSError: the file cannot be opened.
    """
    descriptor = _open(folder, entry.path)
    try:
        status = os.fstat(descriptor)
        same = (status.st_ino, status.st_size, status.st_mtime_ns) == entry.stamp
        if not stat.S_ISREG(status.st_mode) or not same:
            raise NotTheFileError(f"{entry.shown} has changed.")
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _open(folder: Path, path: str) -> int:
    """Open a file for reading, folder by folder, so that no part of its path is a symbolic link."""
    *folders, name = path.split("/")
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            inner = os.open(
                part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory
            )  # fmt: skip
            os.close(directory)
            directory = inner
        # Without O_NONBLOCK a pipe that took the name would block this thread for ever.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as exc:
        if exc.errno not in _ANOTHER_KIND:
            raise
        raise NotTheFileError(f"{printable(path)} has gone, or is no file any more.") from exc
    finally:
        os.close(directory)


def done_paths(path: str, job_id: str) -> tuple[str, str]:
    """Return where a file lies once it is a job: below its own folders, or, where these cannot be made, without."""
    inside, _, name = path.rpartition("/")
    moved = bounded_name(name, prefix=f"{job_id}-")
    return "/".join(part for part in (DONE, inside, moved) if part), f"{DONE}/{moved}"


def move(folder: Path, path: str, target: str, flat_target: str) -> str:
    """Rename a file inside the inbox; return where it lies now.

    Args:
        flat_target: used where the folders of `target` cannot be made.

    Raises:
        NotTheFileError: a folder on the way is a symbolic link now.
        OSError: the file cannot be moved.
    """
    _check_inside(folder, path)
    for to in (target, flat_target):
        try:
            make_shared_folder((folder / to).parent)
            (folder / path).rename(folder / to)
        except OSError as exc:
            if exc.errno not in _NO_FOLDER or to == flat_target:
                raise
        else:
            return to
    raise AssertionError("the loop returns or raises")


def refuse(folder: Path, path: str, name: str, reason: str) -> str | None:
    """Move a file to `refused/` with the reason in a text file beside it.

    Args:
        name: relative path that it gets in `refused/`; a number is added where the name is taken.

    Returns:
        Why the reason could not be written, or None.

    Raises:
        NotTheFileError: a folder on the way is a symbolic link now.
        OSError: the file cannot be moved.
    """
    _check_inside(folder, path)
    inside, _, last = name.rpartition("/")
    nested, flat = folder / REFUSED / inside, folder / REFUSED
    too_long = len(os.fsencode(nested)) + 1 + MAX_NAME_BYTES > MAX_PATH_BYTES
    for parent in (flat,) if too_long else (nested, flat):
        try:
            make_shared_folder(parent)
            target = free_path(parent, last, reserve=len(REASON_SUFFIX))
            (folder / path).rename(target)
        except OSError as exc:
            if exc.errno not in _NO_FOLDER or parent == flat:
                raise
        else:
            break
    try:
        write_text(target.with_name(target.name + REASON_SUFFIX), f"{reason}\n")
    except OSError as exc:
        return exc.strerror or type(exc).__name__
    return None


def _check_inside(folder: Path, path: str) -> None:
    """Check that a path leads to no other folder, whose file would be moved here."""
    parent = (folder / path).parent
    if parent.resolve() != folder.resolve() / parent.relative_to(folder):
        raise NotTheFileError(f"{printable(path)} lies behind a symbolic link.")


def write_text(path: Path, text: str) -> None:
    """Write a text file; never through a symbolic link.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    match_folder(path)


def free_path(folder: Path, name: str, *, reserve: int = 0) -> Path:
    """Return the path of a name that is not taken in a folder: `clip.mp4`, else `clip (2).mp4`, and so on.

    Args:
        reserve: bytes to leave for a suffix.
    """
    stem, suffix = _split(name)
    number = 1
    while True:
        mark = f" ({number})" if number > 1 else ""
        path = folder / bounded_name(stem, suffix=f"{mark}{suffix}", reserve=reserve)
        if not os.path.lexists(path):
            return path
        number += 1


def bounded_name(name: str, *, prefix: str = "", suffix: str | None = None, reserve: int = 0) -> str:
    """Return prefix, name and suffix, the name's stem shortened to what a file system takes, between characters."""
    stem, suffix = _split(name) if suffix is None else (name, suffix)
    left = MAX_NAME_BYTES - reserve - len(os.fsencode(prefix + suffix))
    raw = os.fsencode(stem)
    if len(raw) > left:
        while left > 0 and raw[left] & 0xC0 == 0x80:  # in the middle of a character of UTF-8
            left -= 1
        stem = os.fsdecode(raw[:left])
    return prefix + stem + suffix


def _split(name: str) -> tuple[str, str]:
    """Return stem and suffix; a suffix of unusual length belongs to the stem."""
    suffix = PurePath(name).suffix
    return (name.removesuffix(suffix), suffix) if 0 < len(os.fsencode(suffix)) <= 16 else (name, "")
