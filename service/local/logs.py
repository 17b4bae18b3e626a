"""The logs of the parts: bounded files, whose warnings also reach the console."""

import asyncio
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

ROTATE_AT_START_BYTES = 2**20
LARGEST_BYTES = 32 * 2**20
"""A log that grows beyond this is set aside as `.1`, replacing the one before."""

POLL_S = 0.5
MOST_LINES = 20
"""Lines of one log shown per poll; a flood stays in the file."""

NOTABLE = re.compile(r"\b(warning|error|critical|exception)\b", re.IGNORECASE)


def rotate(log: Path) -> None:
    """Set a long log of earlier runs aside, before anybody writes to it."""
    if log.exists() and log.stat().st_size > ROTATE_AT_START_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))


async def follow(logs: Sequence[Path], say: Callable[[str], None], *, watched: Callable[[Path], bool]) -> None:
    """Until cancelled: say the new lines of the watched logs that look like warnings, and keep every log within its bound."""
    positions = {log: log.stat().st_size if log.exists() else 0 for log in logs}
    while True:
        await asyncio.sleep(POLL_S)
        for log in logs:
            positions[log], lines = _read_on(log, positions[log])
            if watched(log):
                for line in _notable(lines):
                    say(f"{log.stem} | {line}")
            if positions[log] > LARGEST_BYTES:
                shutil.copyfile(log, log.with_name(f"{log.name}.1"))
                with log.open("r+b") as file:  # its writer appends, so it goes on at the new end
                    file.truncate(0)
                positions[log] = 0


def _read_on(log: Path, position: int) -> tuple[int, list[str]]:
    """The complete lines after `position`, at most 1 MiB of them, and where they end."""
    if not log.exists():
        return 0, []
    with log.open("rb") as file:
        file.seek(position)
        content = file.read(2**20)
    end = content.rfind(b"\n") + 1
    if end == 0 and len(content) == 2**20:
        end = len(content)
    return position + end, content[:end].decode(errors="replace").splitlines()


def _notable(lines: Sequence[str]) -> list[str]:
    found = [line for line in lines if NOTABLE.search(line)]
    if len(found) > MOST_LINES:
        return [*found[:MOST_LINES], f"… and {len(found) - MOST_LINES} lines more"]
    return found
