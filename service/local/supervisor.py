"""Keeps parts running until it is told to stop, then stops them in order."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from service.local.identity import LocalError
from service.local.parts import Part, PartSpec

STOP_ORDER = ("api", "worker", "valkey", "postgres")
"""Callers first, the truth last."""

DEATHS_AT_START = 3
"""A part that dies that often before it is ready will not become so by being started again."""


class StopRequest:
    """SIGINT, SIGTERM and a closed terminal: the first asks for a stop, the second for hurry."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()

    def listen(self) -> None:
        """Take over the signals; call from the main thread's loop. A hangup that nohup(1) has told us to ignore stays ignored."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.ask)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self.ask)

    def ask(self) -> None:
        """Stop, or hurry when that was asked before."""
        (self.hurry if self.stop.is_set() else self.stop).set()


class Supervisor:
    """The running parts. `changed` is called with all of them after each start of one; `say` gets lines for people."""

    def __init__(self, *, say: Callable[[str], None], changed: Callable[[list[Part]], None]) -> None:
        self.parts: list[Part] = []
        self._say = say
        self._changed = changed

    async def start(self, *specs: PartSpec) -> list[Part]:
        """Start parts and watch over them. Raises LocalError when a program cannot be started at all."""
        started = []
        for spec in specs:
            part = Part(spec, on_start=lambda: self._changed(self.parts), say=self._say)
            self.parts.append(part)
            await part.start()
            started.append(part)
        return started

    async def until_ready(self, ready: Coroutine[Any, Any, None], parts: list[Part]) -> None:
        """Wait for `ready`. Raises what it raises, or LocalError as soon as one of `parts` keeps dying, with the last line of its log."""
        waiting = asyncio.ensure_future(ready)
        try:
            while not waiting.done():
                await asyncio.wait([waiting], timeout=0.1)
                for part in parts:
                    if part.deaths >= DEATHS_AT_START:
                        raise LocalError(f"{part.spec.name} does not start: {_last_words(part.spec)}")
            await waiting
        finally:
            waiting.cancel()

    async def stop(self, hurry: asyncio.Event) -> None:
        """Stop everything, kind by kind; bounded by each part's patience."""
        for kind in STOP_ORDER:
            await asyncio.gather(*(part.stop(hurry) for part in self.parts if part.spec.kind == kind))


def _last_words(spec: PartSpec) -> str:
    if spec.log is None:
        return "see its output above"
    lines = [line.strip() for line in spec.log.read_bytes()[-8_192:].decode(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1]} (log: {spec.log})" if lines else f"its log {spec.log} is empty"
