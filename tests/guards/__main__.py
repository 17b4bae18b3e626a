"""Take each guard out of a copy of the project and see which test goes red: `python -m tests.guards [--only NAME …] [--jobs N]`.

Ends with 0 when each guard was missed by a test, with 1 when one was not (a survivor), when the named tests are not green with the guard in
place, or when the table no longer fits the code, with 2 for an unknown name. The project itself is never changed.
"""

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final

from msgspec import Struct
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.guards.table import GUARDS, Guard

ROOT: Final = Path(__file__).resolve().parents[2]
LEFT_OUT: Final = shutil.ignore_patterns(".git", ".venv", ".greenpoints", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info")
TEST_TIMEOUT_S: Final = 45
"""Of one test: where a guard keeps something from hanging, the test that hangs without it is red."""
RUN_TIMEOUT_S: Final = 300
BASELINE_TIMEOUT_S: Final = 900
GREEN, RED = 0, 1
"""pytest's exit codes; another one says that the tests could not be run."""


class Verdict(Struct, frozen=True):
    """What the tests said without a guard."""

    guard: Guard
    code: int
    red: int
    green: int
    said: str
    took_s: float

    @property
    def missed(self) -> bool:
        """Whether a test missed the guard."""
        return self.code == RED

    def line(self) -> str:
        """For people."""
        what = "red" if self.missed else "SURVIVED" if self.code == GREEN else "NOT RUN"
        return f"{what:8} {self.guard.name:34} {self.red} red, {self.green} green  {self.took_s:5.1f} s  {self.said}"


def misfits(guards: Sequence[Guard] = GUARDS, root: Path = ROOT) -> list[str]:
    """What of the table does not fit the code, in words: a text that is not found exactly once, a test that is not there."""
    found = []
    for guard in guards:
        for change in guard.changes:
            file = root / change.file
            times = file.read_text(encoding="utf-8").count(change.original) if file.is_file() else 0
            if times != 1:
                found.append(f"{guard.name}: found {times} times in {change.file}, not once: {change.original!r}")
        for test in guard.tests:
            path, _, name = test.partition("::")
            text = (root / path).read_text(encoding="utf-8") if (root / path).is_file() else ""
            if not text or (name and re.search(rf"^(async )?def {re.escape(name)}\b", text, re.MULTILINE) is None):
                found.append(f"{guard.name}: there is no test {test}")
    names = [guard.name for guard in guards]
    return found + [f"{name}: stands twice in the table" for name in sorted(set(names)) if names.count(name) > 1]


def apply(guard: Guard, root: Path) -> dict[Path, str]:
    """Take a guard out of a copy; what its files held before."""
    before: dict[Path, str] = {}
    for change in guard.changes:
        file = root / change.file
        text = file.read_text(encoding="utf-8")
        before.setdefault(file, text)
        file.write_text(text.replace(change.original, change.mutated), encoding="utf-8")
    return before


def run_tests(tests: Sequence[str], root: Path, timeout_s: float) -> tuple[int, str]:
    """Run tests in a copy; pytest's exit code (-1: it did not end in time) and what it printed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("GREENPOINTS_", "PYTEST_"))}
    argv = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "-rf", f"--timeout={TEST_TIMEOUT_S}", *tests]
    try:
        done = subprocess.run(
            argv, cwd=root, env=environ | {"PYTHONPATH": str(root), "COLUMNS": "200"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        return -1, str(late.output or "")
    return done.returncode, done.stdout


def judge(guard: Guard, root: Path) -> Verdict:
    """Take a guard out, run its tests, put it back."""
    begun = time.monotonic()
    before = apply(guard, root)
    try:
        code, output = run_tests(guard.tests, root, RUN_TIMEOUT_S)
    finally:
        for file, text in before.items():
            file.write_text(text, encoding="utf-8")
    counted = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", output)}
    reasons = re.findall(r"^FAILED \S+ - (.*)$", output, re.MULTILINE) or output.strip().splitlines()[-1:]
    if "Timeout" in output and code == RED and not counted:
        counted, reasons = {"failed": 1}, ["it hung"]
    return Verdict(
        guard, code, counted.get("failed", 0) + counted.get("error", 0), counted.get("passed", 0), "".join(reasons[:1])[:110],
        time.monotonic() - begun,
    )  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.guards", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these guards (names of tests/guards/table.py)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="copies that are tested side by side")
    parser.add_argument("--no-baseline", action="store_true", help="believe that the tests are green with all guards in place")
    arguments = parser.parse_args(words)
    if unknown := set(arguments.only or ()) - {guard.name for guard in GUARDS}:
        print(f"no such guard: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = [guard for guard in GUARDS if not arguments.only or guard.name in arguments.only]
    if problems := misfits():
        print("\n".join(["the table does not fit the code:", *problems]), file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="greenpoints-guards-") as folder:
        copies: queue.Queue[Path] = queue.Queue()
        for n in range(max(1, arguments.jobs)):
            copies.put(Path(shutil.copytree(ROOT, Path(folder) / f"copy-{n}", ignore=LEFT_OUT)))
        if not arguments.no_baseline and not _is_green(chosen, copies):
            return 1
        verdicts = _judge_all(chosen, copies)
    survivors = [verdict.guard.name for verdict in verdicts if not verdict.missed]
    print(
        f"{len(verdicts) - len(survivors)} of {len(verdicts)} guards are missed by a test"
        + (f"; NOT: {', '.join(survivors)}" if survivors else "")
    )
    return 1 if survivors else 0


def _is_green(guards: Sequence[Guard], copies: "queue.Queue[Path]") -> bool:
    """Whether the tests pass while nothing is taken out: else red would mean nothing."""
    tests = sorted({test for guard in guards for test in guard.tests})
    print(f"with every guard in place: {len(tests)} tests …", flush=True)
    copy = copies.get()
    code, output = run_tests(tests, copy, BASELINE_TIMEOUT_S)
    copies.put(copy)
    if code != GREEN:
        print(output[-4_000:], "\nthe tests are not green with every guard in place", file=sys.stderr)
    return code == GREEN


def _judge_all(guards: Sequence[Guard], copies: "queue.Queue[Path]") -> list[Verdict]:
    def one(guard: Guard) -> Verdict:
        copy = copies.get()
        try:
            return judge(guard, copy)
        finally:
            copies.put(copy)

    columns = (TextColumn("guards"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    verdicts = []
    with ThreadPoolExecutor(copies.qsize()) as threads, progress:
        task = progress.add_task("guards", total=len(guards))
        try:
            for done in as_completed([threads.submit(one, guard) for guard in guards]):
                verdict = done.result()
                verdicts.append(verdict)
                progress.advance(task)
                print(f"{len(verdicts):3}/{len(guards)} {verdict.line()}", flush=True)
        except KeyboardInterrupt:
            threads.shutdown(wait=False, cancel_futures=True)  # what runs hears the interruption, too
            raise
    return verdicts


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(1)
