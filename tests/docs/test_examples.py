"""What the documents show is run and what they say is compared: examples, links, and nothing about anybody's machine.

A fenced block under `<!-- run -->` is run, `sh` in one bash session per document, `python` as a program of its own. A block under
`<!-- answer -->` is JSON that the last JSON line of the run before it must contain.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.local.ports import choose_port

ROOT = Path(__file__).resolve().parents[2]
START_S, STOP_S, RUN_S = 50.0, 30.0, 40.0
BLOCK = re.compile(r"^<!-- (?P<what>run|answer) -->\n```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
MARK = "@@ end of block @@"

pytestmark = pytest.mark.xdist_group("docs")


BASH, GIT = shutil.which("bash"), shutil.which("git")
MISSING = [tool for tool in ("bash", "curl", "openssl") if shutil.which(tool) is None]


def tracked() -> list[Path]:
    """Files that are in the repository, or would be with the next commit; without git, what stands where those are."""
    if GIT is None or not (ROOT / ".git").exists():
        found = [*ROOT.glob("*.*"), *(path for folder in ROOT.glob("[a-z]*/") for path in folder.rglob("*.*"))]
        return sorted(path for path in found if path.is_file() and path.suffix != ".pyc")
    listing = [GIT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
    return sorted({ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()})


DOCUMENTS = [path for path in tracked() if path.suffix == ".md"]
RUNNABLE = [path for path in DOCUMENTS if BLOCK.search(path.read_text(encoding="utf-8"))]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Examples ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory that looks like a checkout after `make run`: a running system in .greenpoints, the programs in .venv/bin."""
    folder = tmp_path_factory.mktemp("checkout")
    folder.joinpath(".venv").mkdir()
    folder.joinpath(".venv/bin").symlink_to(Path(sys.executable).parent)
    output = folder / "up.log"
    with (
        output.open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-m", "service.cli", "up", "--port", str(choose_port()), "--data-dir", str(folder / ".greenpoints")],
            env=environment(), cwd=ROOT, stdout=log, stderr=subprocess.STDOUT,
        ) as process,
    ):  # fmt: skip
        end = time.monotonic() + START_S
        while not folder.joinpath(".greenpoints/up.json").exists():
            assert process.poll() is None, output.read_text(encoding="utf-8")
            assert time.monotonic() < end, output.read_text(encoding="utf-8")
            time.sleep(0.05)
        yield folder
        process.terminate()
        process.wait(STOP_S)


def environment() -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("GREENPOINTS_")}
    return own | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.skipif(bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)}")
@pytest.mark.parametrize("document", RUNNABLE, ids=name)
def test_the_examples_run_and_answer_as_shown(document: Path, checkout: Path) -> None:
    runs: list[str] = []
    answers: dict[int, Any] = {}
    for block in BLOCK.finditer(document.read_text(encoding="utf-8")):
        if block["what"] == "answer":
            answers[len(runs) - 1] = json.loads(block["code"])
        elif block["language"] == "python":
            runs.append(f"python3 - <<'END OF PROGRAM'\n{block['code']}END OF PROGRAM\n")
        else:
            runs.append(block["code"])
    script = "set -euo pipefail\n" + f"echo; echo '{MARK}'\n".join(runs)
    done = subprocess.run(
        [str(BASH), "-c", script], cwd=checkout, env=environment(), capture_output=True, text=True, timeout=RUN_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outputs = done.stdout.split(MARK)
    for run, expected in answers.items():
        found = [line for line in outputs[run].splitlines() if line.startswith(("{", "["))]
        assert found, f"no JSON came of:\n{runs[run]}\nbut:\n{outputs[run]}{done.stderr}"
        assert_contains(json.loads(found[-1]), expected)


def assert_contains(found: Any, expected: Any) -> None:
    """Every member that is shown is there with that value; `…` stands for any text."""
    if isinstance(expected, dict):
        assert isinstance(found, dict)
        for key, value in expected.items():
            assert key in found, found
            assert_contains(found[key], value)
    elif isinstance(expected, list):
        assert isinstance(found, list)
        assert len(found) == len(expected), found
        for one, other in zip(found, expected, strict=True):
            assert_contains(one, other)
    elif expected != "…":
        assert found == expected


# Links ------------------------------------------------------------------------------------------------

LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_relative_links_lead_somewhere(document: Path) -> None:
    for link in LINK.finditer(FENCE.sub("", document.read_text(encoding="utf-8"))):
        target, _, anchor = link["target"].partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (document.parent / target).resolve() if target else document
        assert file.is_relative_to(ROOT), target
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), f"{target}#{anchor}"


def anchors(document: Path) -> set[str]:
    """Of the headings, as Git hosts make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_document_can_be_found_from_the_readme() -> None:
    seen: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        document = todo.pop()
        seen.add(document)
        for link in LINK.finditer(FENCE.sub("", document.read_text(encoding="utf-8"))):
            target = (document.parent / link["target"].partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in seen:
                todo.append(target)
    assert sorted(name(path) for path in set(DOCUMENTS) - seen) == []


NAMED = re.compile(r"`(?!NNNN)(?P<file>[\w/]+\.(?:py|sql|md|in|toml))(?::\s(?P<names>[\w.]+))?`")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_files_and_functions_that_are_named_are_there(document: Path) -> None:
    files = tracked()
    for named in NAMED.finditer(FENCE.sub("", document.read_text(encoding="utf-8"))):
        found = [path for path in files if f"/{name(path)}".endswith(f"/{named['file']}")]
        assert found, named[0]
        for wanted in (named["names"] or "").split("."):
            assert any(re.search(rf"\b{wanted}\b", path.read_text(encoding="utf-8")) for path in found), named[0]


# What no file may hold --------------------------------------------------------------------------------

# Brackets keep the patterns from finding themselves.
MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(?:r[o]ot/|h[o]me/[a-z]|U[s]ers/[a-z]|w[o]rk/|var/f[o]lders/)")
REGISTRY = re.compile(r"(?:index-url|--find-links|--trusted-host)[= ]https?:|p[y]pi\.org|python[h]osted\.org|/art[i]factory/|/ne[x]us/")


def test_no_file_names_a_machine_or_a_package_registry() -> None:
    found = []
    for path in tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        found += [
            f"{name(path)}:{n}: {line.strip()[:120]}"
            for n, line in enumerate(lines, 1)
            if MACHINE_PATH.search(line) or REGISTRY.search(line)
        ]
    assert found == []
