"""Processes by number, told apart from later ones that were given the same number. Reads Linux's /proc."""

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

PROC = Path("/proc")


class ProcessRecord(Struct, frozen=True, kw_only=True):
    """A process that we started: its number, when it started (clock ticks after boot), which boot, and how to end it."""

    part: str
    pid: int
    started_ticks: int
    boot: str
    signals: tuple[str, ...]
    """Tried in turn, the gentle one first."""
    patience_s: float
    """How long to wait after each signal."""


def started_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks after boot; None when there is no such process, or only a zombie.

    Field 22 of proc(5) `stat`; the command name before it may hold spaces and parentheses.
    """
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def boot_id() -> str:
    """Differs after each boot of the machine."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def record_of(part: str, pid: int, *, signals: tuple[str, ...], patience_s: float) -> ProcessRecord | None:
    """The record of a process of ours; None when it has ended already."""
    ticks = started_ticks(pid)
    if ticks is None:
        return None
    return ProcessRecord(part=part, pid=pid, started_ticks=ticks, boot=boot_id(), signals=signals, patience_s=patience_s)


def is_alive(record: ProcessRecord) -> bool:
    """Whether that very process still runs."""
    return record.boot == boot_id() and started_ticks(record.pid) == record.started_ticks


def end(records: Sequence[ProcessRecord]) -> list[ProcessRecord]:
    """End leftovers, all at once, and wait until they are gone; returns those that were still there.

    Never signals a process that merely has the number of one.
    """
    found = left = [record for record in records if is_alive(record)]
    for attempt in range(max((len(record.signals) for record in found), default=0)):
        for record in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.Signals[f"SIG{record.signals[min(attempt, len(record.signals) - 1)]}"])
        deadline = time.monotonic() + max((record.patience_s for record in left), default=0)
        while left and time.monotonic() < deadline:
            time.sleep(0.02)
            left = [record for record in left if is_alive(record)]
    return found


def working_directory(pid: int) -> Path | None:
    """Where a process works; None when it is gone or not ours to look at."""
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None
