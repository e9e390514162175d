"""One version of an object on this node: what of it has come, and who uses it.

An entry is a directory with two files::

    <digest>/data    the bytes of the object, where they have come; elsewhere a hole
    <digest>/map     a head, a byte for each block of the object: whether it is there, and
                     the URL of the object, for people

Bytes are written first, and marked in the map when all of a block are there, so whatever a
killed process has left is right.  Who fetches blocks holds a lock on their bytes of the map;
who uses an entry holds a shared lock beyond its end, and who removes it needs that alone.
The locks are those of open file descriptions (``F_OFD_SETLK``), as a process loses all of
its POSIX locks on a file with the first descriptor that it closes.

A directory is made under another name and renamed, and renamed before it is removed.  So the
two files are always of each other, and who has them open reads on when it is removed.
Nothing is ever cut, and no hole is punched, as an answer may be on its way from it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Bytes of a block: the least that is fetched.
BLOCK = 64 * 1024
#: How directories are called that are not entries yet, or no more.
NEW, GONE = "new-", "gone-"

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DATA, _MAP = "data", "map"
_MISSING, _HERE = b"\0", b"\1"
#: Bytes of the object; time stamp of its whole file in nanoseconds; whether it was compared.
_HEAD = struct.Struct("<QqB7x")
#: ``struct flock`` of 64-bit Linux.
_FLOCK = struct.Struct("@hhqqi0q")
#: The byte of a map whose lock keeps an entry.
_LEASE = 2**62


class Gone(Exception):
    """An entry is just being made or removed, or is no use any more; a moment later it is new."""


def lock(descriptor: int, start: int, length: int, kind: int) -> bool:
    """Take or free the lock of a span of a file, without waiting.

    Parameters
    ----------
    descriptor : int
        The open file, which the lock belongs to.
    start, length : int
        The span, in bytes.
    kind : int
        ``F_RDLCK``, ``F_WRLCK`` or ``F_UNLCK`` of `fcntl`.

    Returns
    -------
    bool
        Whether nobody else has it.
    """
    try:
        span = _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, span)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


@dataclass(frozen=True)
class Usage:
    """What an entry takes of the disk, and when it was used last.

    Attributes
    ----------
    path : Path
        Its directory.
    held : int
        Bytes of its data that the disk holds.
    used : int
        In nanoseconds since the epoch.
    """

    path: Path
    held: int
    used: int


class Entry:
    """One version of an object, open, and kept from being removed.

    Parameters
    ----------
    path : Path
        Its directory, which is made if it is not there.
    size : int
        Bytes of the object.
    url : str
        Where the object is.

    Attributes
    ----------
    data : file
        The bytes of the object.

    Raises
    ------
    Gone
        If it is to be opened again.
    OSError
        If the disk is full.
    """

    def __init__(self, path: Path, size: int, url: str = "") -> None:
        self.path, self._size = path, size
        self._blocks = -(-size // BLOCK)
        # All before it are there.
        self._first_missing = 0
        with contextlib.ExitStack() as opened:
            directory = _open_or_make(path, size, url)
            opened.callback(os.close, directory)
            try:
                self._map = os.open(_MAP, os.O_RDWR | os.O_CLOEXEC, dir_fd=directory)
                self._map_file = opened.enter_context(os.fdopen(self._map, "r+b", buffering=0))
                is_kept = lock(self._map, _LEASE, 1, fcntl.F_RDLCK)
                status = os.fstat(self._map)
                if not is_kept or not status.st_nlink:
                    raise Gone
                if status.st_size != _HEAD.size + self._blocks + len(os.fsencode(url)):
                    raise FileNotFoundError
                # Nobody may write to a whole one.
                flags = os.O_RDONLY if self.is_whole else os.O_RDWR
                descriptor = os.open(_DATA, flags | os.O_CLOEXEC, dir_fd=directory)
            except FileNotFoundError:
                # Programs that clean temp directories remove parts of it.
                remove(path)
                raise Gone from None
            mode = "rb" if flags == os.O_RDONLY else "r+b"
            self.data: IO[bytes] = opened.enter_context(os.fdopen(descriptor, mode, buffering=0))
            if self._is_other():
                remove(path)
                raise Gone
            os.utime(self._map)
            os.close(directory)
            opened.pop_all()

    def close(self) -> None:
        """Let it go; who has a descriptor of its data reads on."""
        self.data.close()
        self._map_file.close()

    def reopened(self) -> IO[bytes]:
        """Return its data in a file of its own, which is read after this is closed, too."""
        return open(f"/proc/self/fd/{self.data.fileno()}", "rb")

    @property
    def is_whole(self) -> bool:
        """Whether all of the object is there."""
        while self._first_missing < self._blocks:
            marks = os.pread(self._map, BLOCK, _HEAD.size + self._first_missing)
            place = marks.find(_MISSING)
            self._first_missing += len(marks) if place < 0 else place
            if place >= 0:
                return False
        return True

    @property
    def is_compared(self) -> bool:
        """Whether all of it was compared with its checksum."""
        return bool(self._head()[2])

    def missing(self, first: int, last: int) -> list[range]:
        """Return the blocks that are not there, in spans of neighbours.

        Parameters
        ----------
        first, last : int
            Numbers of blocks; the last one is not included.
        """
        marks = os.pread(self._map, last - first, _HEAD.size + first)
        spans: list[range] = []
        end = 0
        while (start := marks.find(_MISSING, end)) >= 0:
            end = marks.find(_HERE, start)
            end = len(marks) if end < 0 else end
            spans.append(range(first + start, first + end))
        return spans

    def lock(self, span: range) -> bool:
        """Begin to fetch blocks; false if another process fetches some of them."""
        return lock(self._map, _HEAD.size + span.start, len(span), fcntl.F_WRLCK)

    def unlock(self, span: range) -> None:
        """Let others fetch blocks."""
        lock(self._map, _HEAD.size + span.start, len(span), fcntl.F_UNLCK)

    def allocate(self, span: range) -> None:
        """Have the disk keep room for blocks.

        Raises
        ------
        OSError
            If it is full.
        """
        start, end = span.start * BLOCK, min(span.stop * BLOCK, self._size)
        os.posix_fallocate(self.data.fileno(), start, end - start)

    def write(self, chunk: bytes, position: int) -> None:
        """Write bytes of blocks that are locked.

        Raises
        ------
        OSError
            If the disk is full.
        """
        while chunk:
            written = os.pwrite(self.data.fileno(), chunk, position)
            chunk, position = chunk[written:], position + written

    def mark(self, span: range) -> None:
        """Tell everybody that all bytes of some blocks are there."""
        os.pwrite(self._map, _HERE * len(span), _HEAD.size + span.start)
        if self.is_whole:
            # From now on nobody writes to it, but for a job of root that edits its input.
            self._set_head(self._time(), is_compared=False)

    def compared(self) -> None:
        """Tell everybody that all of it is right."""
        self._set_head(self._head()[1], is_compared=True)

    def link(self, path: Path) -> None:
        """Give the data of a whole object another name, which keeps it from being removed.

        Raises
        ------
        Gone
            If somebody has removed it nevertheless.
        """
        # A job that writes to it would change it for others.
        os.fchmod(self.data.fileno(), 0o400)
        try:
            os.link(self.path / _DATA, path)
        except FileNotFoundError:
            raise Gone from None
        if not os.path.samestat(path.lstat(), os.fstat(self.data.fileno())):
            path.unlink()
            raise Gone

    def _is_other(self) -> bool:
        """Whether it is not what its map says: edited, or of another size."""
        size, time, _ = self._head()
        status = os.fstat(self.data.fileno())
        return status.st_size != size or size != self._size or time not in (0, status.st_mtime_ns)

    def _time(self) -> int:
        return os.fstat(self.data.fileno()).st_mtime_ns

    def _head(self) -> tuple[int, int, int]:
        size, time, compared = _HEAD.unpack(os.pread(self._map, _HEAD.size, 0))
        return size, time, compared

    def _set_head(self, time: int, *, is_compared: bool) -> None:
        os.pwrite(self._map, _HEAD.pack(self._size, time, is_compared), 0)


def _open_or_make(path: Path, size: int, url: str) -> int:
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, _OPEN_DIRECTORY)
    new = Path(tempfile.mkdtemp(prefix=NEW, dir=path.parent))
    try:
        with (new / _DATA).open("xb") as file:
            file.truncate(size)
        marks = _MISSING * -(-size // BLOCK)
        (new / _MAP).write_bytes(_HEAD.pack(size, 0, 0) + marks + os.fsencode(url))
        new.rename(path)
        return os.open(path, _OPEN_DIRECTORY)
    except FileNotFoundError:
        # Who makes room has removed it.
        raise Gone from None
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        # Somebody was faster.
        raise Gone from None
    finally:
        shutil.rmtree(new, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove an entry, whoever uses it; who has it open reads on."""
    gone = Path(tempfile.mkdtemp(prefix=GONE, dir=path.parent))
    # The name of an empty directory can be taken.
    with contextlib.suppress(OSError):
        path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def remove_unused(path: Path) -> bool:
    """Remove an entry that nobody uses; returns whether it is removed."""
    try:
        descriptor = os.open(path / _MAP, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        remove(path)
        return True
    try:
        if not lock(descriptor, _LEASE, 1, fcntl.F_WRLCK):
            return False
        with contextlib.suppress(FileNotFoundError):
            if (path / _DATA).stat().st_nlink > 1:
                # Links of jobs lead to it.
                return False
        remove(path)
    finally:
        os.close(descriptor)
    return True


def url_of(path: Path) -> str:
    """Return the URL of the object of an entry; empty if it has just gone."""
    with contextlib.suppress(FileNotFoundError, struct.error):
        content = (path / _MAP).read_bytes()
        size, *_ = _HEAD.unpack(content[: _HEAD.size])
        return os.fsdecode(content[_HEAD.size - (-size // BLOCK) :])
    return ""


def entries(folder: Path) -> Iterator[Usage]:
    """Look at all entries of a folder, in no order."""
    with os.scandir(folder) as found:
        names = [each.name for each in found if each.is_dir(follow_symlinks=False)]
    for name in names:
        path = folder / name
        try:
            held = (path / _DATA).stat().st_blocks * 512
            yield Usage(path, held, (path / _MAP).stat().st_mtime_ns)
        except FileNotFoundError:
            # What a killed process has left; if it is just being made, that is tried again.
            yield Usage(path, 0, 0)
