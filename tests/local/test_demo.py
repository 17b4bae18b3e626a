"""`make demo` as somebody sees it who pipes it into a file, and as one who presses Ctrl-C in the middle."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.local.demo.picture import bar

DEMO = [sys.executable, "-m", "service.cli", "demo"]

pytestmark = pytest.mark.xdist_group("up")


def environment(temporary: Path) -> dict[str, str]:
    """Servers that the environment names must not be touched: here they do not even exist."""
    return {
        **os.environ, "TMPDIR": str(temporary), "COLUMNS": "80",
        "GREENPOINTS_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing", "GREENPOINTS_PORT": "1",
    }  # fmt: skip


def test_the_demo_tells_its_story_and_ends_with_a_clean_check(scratch: Path) -> None:
    folder = scratch / "demo"
    folder.mkdir(mode=0o711)
    done = subprocess.run(DEMO, env=environment(folder), capture_output=True, text=True, timeout=55, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    story = " ".join(done.stdout.split())
    for part in (
        "+98 points, pending", "Idempotency-Replayed: true", "used before with different content", "demo-return-7 +150 points",
        "shopify:9007199254740993:paid +36 points", "no secret of the hook signed this body", "499 accepted, 0 duplicates, 1 rejected",
        "certificate_expired", "-12 points", "-39 points", "available 229, pending 0, debt 0", "demo-certified-goods",
    ):  # fmt: skip
        assert part in story
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(folder.iterdir()) == []


def test_an_interrupted_demo_leaves_nothing_behind(scratch: Path) -> None:
    folder = scratch / "interrupted"
    folder.mkdir(mode=0o711)
    with subprocess.Popen(DEMO, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        end = time.monotonic() + 30
        while not list(folder.glob("*/data/servers.json")):
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=45)
    assert process.returncode == 1
    assert output.splitlines()[-1] == "greenpoints: interrupted"
    assert list(folder.iterdir()) == []


def test_bars() -> None:
    assert [bar(n, 16, chars=2) for n in (0, 1, 8, 9, 16)] == ["", "▏", "█", "█▏", "██"]
    assert bar(0, 0) == ""
