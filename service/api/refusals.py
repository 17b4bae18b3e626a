"""The log of callers that were not let in: why, which kind of caller, which platform as far as it is known; never what they sent as proof.

The lines are bounded, so that whoever guesses keys cannot fill a disk: of what is beyond the bound only the number is told.
"""

import time
from typing import Final

import structlog

from service.domain.errors import CallerRefused

MAX_LINES: Final = 20
"""Lines of one process in one period."""
PERIOD_S: Final = 10.0


class Refusals:
    """Counts lines per period. Not for use from several threads."""

    def __init__(self) -> None:
        self._began_s = float("-inf")
        self._lines = 0
        self._suppressed = 0

    def note(self, error: CallerRefused, *, now_s: float | None = None) -> None:
        """Log a refusal, or count it when there have been too many; `now_s` on the monotonic clock, a parameter for tests."""
        now_s = time.monotonic() if now_s is None else now_s
        # Looked up each time: the configuration of the moment counts, and the lines are few.
        log = structlog.get_logger("greenpoints.callers")
        if now_s - self._began_s >= PERIOD_S:
            if self._suppressed:
                log.warning("more callers refused", number=self._suppressed)
            self._began_s, self._lines, self._suppressed = now_s, 0, 0
        if self._lines >= MAX_LINES:
            self._suppressed += 1
            return
        self._lines += 1
        log.warning("caller refused", code=error.code, caller=error.caller, platform=error.platform, reason=error.detail)


_process = Refusals()
note = _process.note
"""Of this process."""
