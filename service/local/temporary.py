"""A whole system for a short while: `greenpoints up` on a temporary directory and free ports, of which nothing is left afterwards."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from rich.console import Console

from service.local.data_dir import read_private
from service.local.identity import LocalError, launcher
from service.local.ports import choose_port
from service.local.up import UpFile
from service.settings import PREFIX

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 45.0
COMMAND_TIMEOUT_S = 120.0
COMMAND_LINE = (sys.executable, "-P", "-m", "service.cli")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class TemporarySystem(Struct, frozen=True, kw_only=True):
    """A running system and how to reach it."""

    up: UpFile
    environ: Mapping[str, str]
    """In which our commands work on this system and on no other."""

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `greenpoints …` on this system. Raises LocalError when it does not end in time."""
        try:
            return subprocess.run(
                [*COMMAND_LINE, *words], env=dict(self.environ), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise LocalError(f"`greenpoints {' '.join(words)}` did not end within {COMMAND_TIMEOUT_S:.0f} s") from None


@contextlib.contextmanager
def temporary_system(console: Console, *words: str, **settings: str) -> Iterator[TemporarySystem]:
    """Start a system with the demo; stop it and remove all of it at the end, also after Ctrl-C, SIGTERM or a closed terminal.

    `words`: more of the command line of `up`.
    `settings` by their name in capitals, without the prefix; those that nobody names have their defaults.

    Servers that the environment names are never used. Raises LocalError when it does not start; the caller sees an interruption as
    KeyboardInterrupt. Call from the main thread.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
    root = Path(tempfile.mkdtemp(prefix="greenpoints-"))
    try:
        root.chmod(0o711)  # root's servers run as another user, who must be able to pass through
        environ = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        environ |= {f"{PREFIX}{name}": value for name, value in settings.items()}
        environ[f"{PREFIX}DATA_DIR"] = str(root / "data")
        with _running(root, environ, console, words) as up:
            yield TemporarySystem(up=up, environ=environ)
    finally:
        shutil.rmtree(root, ignore_errors=True)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _running(root: Path, environ: Mapping[str, str], console: Console, more: Sequence[str]) -> Iterator[UpFile]:
    words = ["up", *more, "--data-dir", environ[f"{PREFIX}DATA_DIR"], "--port", str(choose_port())]
    log = root / "up.log"
    with (
        log.open("wb") as output,
        # A session of its own: Ctrl-C reaches only us, who stop it in order. If we are killed it stops by itself.
        subprocess.Popen(
            [*launcher(None, reaches=[], death_signal="TERM"), *COMMAND_LINE, *words],
            env=dict(environ), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        ) as process,
    ):  # fmt: skip
        try:
            with console.status("starting PostgreSQL, Valkey, the API and a worker"):
                up = _ready(process, root / "data" / "up.json", log)
            yield up
        finally:
            for number in ENDING:
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it behind
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()  # its parts end with it


def _ready(process: "subprocess.Popen[bytes]", path: Path, log: Path) -> UpFile:
    """What `up` says once it is up."""
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        if (up := read_private(path, UpFile)) is not None:
            return up
        if process.poll() is not None:
            said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
            raise LocalError(f"the temporary system did not start: {said[-1] if said else f'exit code {process.returncode}'}")
        time.sleep(0.05)
    raise LocalError(f"the temporary system did not start within {START_TIMEOUT_S:.0f} s")
