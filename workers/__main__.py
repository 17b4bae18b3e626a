"""One worker process: `python -m workers`."""

import asyncio
import signal
import sys

import uvloop

from service import failpoints
from service.settings import SettingsError, load_settings
from workers.run import run


async def _until_told() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = load_settings()
    failpoints.arm(settings.failpoints)
    await run(settings, stop)


def main() -> int:
    """Exit code 0 after a clean stop, 2 for wrong settings."""
    try:
        uvloop.run(_until_told())
    except SettingsError as error:
        print(f"greenpoints: {error}", file=sys.stderr)  # noqa: T201 - before logging is set up
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
