"""Servers in the foreground, for tests."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from service.local.command import Command

STOP_TIMEOUT_S = 10.0


@contextlib.contextmanager
def running(command: Command, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server in the foreground, ended by its process handle."""
    with (
        log.open("wb") as out,
        subprocess.Popen(
            command.argv, env=dict(command.env), cwd="/", stdin=subprocess.PIPE, stdout=out, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(command.stdin)
        process.stdin.close()
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
