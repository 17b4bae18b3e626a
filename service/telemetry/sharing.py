"""How the processes of one machine share their metrics: files in a directory, one set for each process that runs at a time.

prometheus_client names the files after process ids, so that every restart leaves files behind for ever. Here a process takes the first
free number, holds a lock on it while it lives, and counts on where the last holder stopped: the files stay as few as the processes, and
a lock that nobody holds tells of a dead process, however it ended.
"""

import contextlib
import fcntl
import hashlib
import os
import stat
import struct
import tempfile
from pathlib import Path
from typing import IO, Final

from prometheus_client.mmap_dict import MmapedDict

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
MAX_PROCESSES: Final = 1_024

_held: list[IO[str]] = []
"""Open for as long as the process lives: closing one gives the lock back."""


class NoNumberLeft(RuntimeError):
    """More processes than anybody runs on one machine share the directory."""


def shared_folder() -> Path | None:
    """The directory that the environment names; None: this process is on its own."""
    name = os.environ.get(VARIABLE)
    return Path(name) if name else None


def usual_folder(system: str) -> Path:
    """Where the API processes and workers of one system meet that are started apart from each other by the same user of a machine.

    `system` tells systems apart; only its hash is shown. A directory that another user has put there is not used: then each start has
    one of its own.
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    folder = base / f"greenpoints-metrics-{os.getuid()}-{hashlib.sha256(system.encode()).hexdigest()[:12]}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
    return Path(tempfile.mkdtemp(prefix="greenpoints-metrics-"))


def take_number(folder: Path) -> int:
    """The first number that no living process holds, held from now on. Gauges of a dead holder are dropped, its counters go on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(MAX_PROCESSES):
        lock = _lock_file(folder, number).open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        _held.append(lock)
        _drop_gauges(folder, number)
        _drop_unreadable(folder, number)
        return number
    raise NoNumberLeft(f"{folder} is shared by {MAX_PROCESSES} processes: give other systems a directory of their own")


def forget_the_dead(folder: Path) -> None:
    """Drop the gauges of processes that are gone. What they counted stays."""
    for path in folder.glob("number-*.lock"):
        number = int(path.stem.removeprefix("number-"))
        with path.open("a") as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its process lives; given back at once
            _drop_gauges(folder, number)


def empty(folder: Path) -> None:
    """Make the directory, or forget what an earlier run left in it. Call before any process shares it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in (*folder.glob("*.db"), *folder.glob("number-*.lock")):
        path.unlink(missing_ok=True)


def _lock_file(folder: Path, number: int) -> Path:
    return folder / f"number-{number}.lock"


def _drop_unreadable(folder: Path, number: int) -> None:
    """What a power cut has left half written would otherwise stop every start and every scrape."""
    for path in folder.glob(f"*_{number}.db"):
        try:
            for _ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
                pass
        except (ValueError, RuntimeError, struct.error):
            path.unlink()


def _drop_gauges(folder: Path, number: int) -> None:
    for path in folder.glob(f"gauge_live*_{number}.db"):
        path.unlink(missing_ok=True)
