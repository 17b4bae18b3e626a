"""Are vulnerabilities known in what requirements.txt locks? `python -m tests.audit [--required]`, see CONTRIBUTING.md.

Asks the databases of PyPI and OSV by pip-audit, and says how many of the locked packages got an answer: pip-audit itself ends with 0 where
it found nothing because nobody could be asked. Ends with 0 when all got an answer and nothing is known against them, 1 when something is,
and where some got no answer with 0 and the word SKIPPED, or with 2 if `--required` (for CI).
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

LOCK: Final = Path(__file__).resolve().parents[1] / "requirements.txt"
SERVICES: Final = ("pypi", "osv")
TIMEOUT_S: Final = 300
ANSWER_TIMEOUT_S: Final = 5
MAX_SHOWN: Final = 5


class Vulnerability(Struct, frozen=True):
    """One advisory."""

    id: str
    fix_versions: list[str] = []


class Dependency(Struct, frozen=True):
    """One locked package; `skip_reason` says why it got no answer."""

    name: str
    version: str = ""
    vulns: list[Vulnerability] = []
    skip_reason: str | None = None


class Report(Struct, frozen=True):
    """What pip-audit writes with --format json."""

    dependencies: list[Dependency]


def locked(lock: str) -> set[str]:
    """The packages that a lock file names."""
    return {line.split("==")[0].strip().lower() for line in lock.splitlines() if "==" in line and line[:1].isalnum()}


def verdict(names: set[str], reports: list[Report], *, required: bool) -> tuple[int, str]:
    """The exit code and what to say, of the reports of all services that could be asked."""
    audited = {d.name.lower() for report in reports for d in report.dependencies if d.skip_reason is None}
    found = {
        f"{d.name} {d.version}: {v.id}" + (f", fixed in {', '.join(v.fix_versions)}" if v.fix_versions else "")
        for report in reports
        for d in report.dependencies
        for v in d.vulns
    }
    if found:
        return 1, "dependency audit: VULNERABLE\n" + "\n".join(f"  {line}" for line in sorted(found))
    if unknown := sorted(names - audited):
        some = ", ".join(unknown[:MAX_SHOWN]) + (" …" if len(unknown) > MAX_SHOWN else "")
        text = f"dependency audit: SKIPPED for {len(unknown)} of {len(names)} packages: no database of vulnerabilities answered ({some})"
        return (2 if required else 0), text
    return 0, f"dependency audit: nothing is known against the {len(names)} locked packages"


def ask(service: str) -> Report | None:
    """One service's report; None when it cannot be asked."""
    command = [
        sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--disable-pip", "--require-hashes", "--format", "json",
        "--progress-spinner", "off", "--vulnerability-service", service, "--timeout", str(ANSWER_TIMEOUT_S),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        return msgspec.json.decode(done.stdout, type=Report)
    except (subprocess.TimeoutExpired, msgspec.MsgspecError):
        return None


def main() -> int:
    """Ask one service after the other until every package got an answer."""
    names = locked(LOCK.read_text(encoding="utf-8"))
    reports: list[Report] = []
    code, text = verdict(names, reports, required="--required" in sys.argv)
    for service in SERVICES:
        if (report := ask(service)) is not None:
            reports.append(report)
        code, text = verdict(names, reports, required="--required" in sys.argv)
        if "SKIPPED" not in text:
            break
    print(text)  # noqa: T201 - a command
    return code


if __name__ == "__main__":
    sys.exit(main())
