"""Processes by number, told apart from later ones that were given the same number. Reads Linux's /proc."""

import contextlib
import os
import signal
import time
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


def end(record: ProcessRecord) -> bool:
    """End a leftover and wait until it is gone; False when it was gone before. Never signals a process that merely has its number."""
    if not is_alive(record):
        return False
    for name in record.signals:
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.pid, signal.Signals[f"SIG{name}"])
        deadline = time.monotonic() + record.patience_s
        while time.monotonic() < deadline:
            if not is_alive(record):
                return True
            time.sleep(0.02)
    return not is_alive(record)


def working_directory(pid: int) -> Path | None:
    """Where a process works; None when it is gone or not ours to look at."""
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None
