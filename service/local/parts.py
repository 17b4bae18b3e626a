"""A part of the running system: one process that is started, watched, started again when it dies, and stopped."""

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from service.local.command import Command
from service.local.identity import LocalError

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
HEALTHY_AFTER_S = 10.0
"""A part that lived that long and dies is started again after the first pause."""


class PartSpec(Struct, frozen=True, kw_only=True):
    """What a part is and how to start and stop it."""

    kind: str
    """`postgres`, `valkey`, `api` or `worker`."""
    name: str
    """The kind, numbered where there are several: `api-1`. Its log is named after it."""
    command: Command
    signals: tuple[str, ...]
    """How to stop it: tried in turn, the gentle one first."""
    patience_s: float
    """How long to wait after each signal."""
    patience_as_leftover_s: float
    """The same for a process that a killed run has left behind: nobody waits for its answers any more."""
    log: Path | None
    """Where its output goes; None: to ours."""
    before_start: Callable[[], None] | None = None


def next_pause_s(pause_s: float, lived_s: float) -> float:
    """How long to wait before the start after next, when the next one waits `pause_s`. Pure."""
    return FIRST_PAUSE_S if lived_s >= HEALTHY_AFTER_S else min(pause_s * 2, LONGEST_PAUSE_S)


class Part:
    """A running part. `on_start` is called after every start, `say` gets a line for every unexpected end."""

    def __init__(self, spec: PartSpec, *, on_start: Callable[[], None], say: Callable[[str], None]) -> None:
        self.spec = spec
        self.deaths = 0
        self._on_start = on_start
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Its process now; None between two starts."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Start the process and watch over it from now on. Raises LocalError when the program cannot be started at all."""
        self._process = await self._spawn()
        self._on_start()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.spec.name}")

    async def stop(self, hurry: asyncio.Event) -> None:
        """End the process, with each signal in turn; `hurry` goes on to the next at once."""
        self._stopping.set()
        for name in self.spec.signals:
            if self.pid is None:
                break
            with contextlib.suppress(ProcessLookupError):
                assert self._process is not None
                self._process.send_signal(signal.Signals[f"SIG{name}"])
            await self._ended(hurry if name != self.spec.signals[-1] else None)
        if self._watcher is not None:
            await self._watcher

    async def _ended(self, hurry: asyncio.Event | None) -> None:
        """Wait until the process has ended, patience is used up, or `hurry`."""
        assert self._process is not None
        waits = [asyncio.ensure_future(self._process.wait())]
        if hurry is not None:
            waits.append(asyncio.ensure_future(_is_set(hurry)))
        _, left = await asyncio.wait(waits, timeout=self.spec.patience_s, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = loop.time()
            how = ending(await self._process.wait()) if self._process is not None else "is not running"
            if self._stopping.is_set():
                return
            lived_s = loop.time() - began_s
            pause_s = FIRST_PAUSE_S if lived_s >= HEALTHY_AFTER_S else pause_s
            self.deaths += 1
            self._say(f"{self.spec.name} {how}; it starts again in {pause_s:.1f} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
                return
            pause_s = next_pause_s(pause_s, lived_s)
            await self._start_again()

    async def _start_again(self) -> None:
        """One try; when it fails that is said, and the next round tries again."""
        try:
            self._process = await self._spawn()
        except (LocalError, OSError) as error:
            self._process = None
            self._say(str(error))
        else:
            self._on_start()

    async def _spawn(self) -> asyncio.subprocess.Process:
        """Start the program in a session of its own, so that Ctrl-C in a terminal reaches only us, who stop the parts in order."""
        if self.spec.before_start is not None:
            self.spec.before_start()
        command = self.spec.command
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.spec.log.open("ab")) if self.spec.log is not None else None
            try:
                process = await asyncio.create_subprocess_exec(
                    *command.argv,
                    env=dict(command.env),
                    cwd="/",
                    stdin=asyncio.subprocess.PIPE if command.stdin else asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=asyncio.subprocess.STDOUT if output is not None else None,
                    start_new_session=True,
                )
            except OSError as error:
                raise LocalError(f"{self.spec.name} cannot be started: {error.strerror}: {error.filename}") from None
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(command.stdin)
                await process.stdin.drain()
            process.stdin.close()
        return process


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


async def _is_set(event: asyncio.Event) -> int:
    await event.wait()
    return 0
