"""Parts and processes: they come back, with growing pauses; only our own are ever ended."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from service.local import logs, processes
from service.local.command import Command
from service.local.data_dir import open_data_dir, read_private, write_private
from service.local.identity import LocalError
from service.local.parts import LONGEST_PAUSE_S, Part, PartSpec, ending, next_pause_s
from service.local.processes import ProcessRecord
from service.local.supervisor import StopRequest, Supervisor

SLEEPER = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


def spec(program: str, *, log: Path, kind: str = "worker", patience_s: float = 5.0) -> PartSpec:
    command = Command(argv=[sys.executable, "-c", program], env=dict(os.environ))
    return PartSpec(
        kind=kind, name=kind, command=command, signals=("TERM", "KILL"), patience_s=patience_s, patience_as_leftover_s=1.0, log=log
    )


def test_pauses_double_up_to_a_bound_and_start_anew_after_a_healthy_life() -> None:
    pauses = [0.2]
    while len(pauses) < 7:
        pauses.append(next_pause_s(pauses[-1], lived_s=0.1))
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_PAUSE_S, LONGEST_PAUSE_S]
    assert next_pause_s(LONGEST_PAUSE_S, lived_s=10.0) == 0.2


async def test_a_part_that_dies_is_started_again_and_can_be_stopped_meanwhile(tmp_path: Path) -> None:
    started: asyncio.Queue[int | None] = asyncio.Queue()
    said: list[str] = []
    part = Part(spec(SLEEPER, log=tmp_path / "log"), on_start=lambda: started.put_nowait(part.pid), say=said.append)
    await part.start()
    first = await started.get()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    second = await asyncio.wait_for(started.get(), 5)
    assert second not in (None, first)
    assert said == ["worker was ended by SIGKILL; it starts again in 0.2 s"]
    os.kill(second or 0, signal.SIGKILL)
    while part.deaths < 2:
        await asyncio.sleep(0.01)
    await asyncio.wait_for(part.stop(asyncio.Event()), 5)
    assert part.pid is None
    assert started.empty()


async def test_a_part_that_cannot_be_started_for_a_while_is_tried_again(tmp_path: Path) -> None:
    program, away, said = tmp_path / "program", tmp_path / "away", []
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o700)
    command = Command(argv=[str(program)], env=dict(os.environ))
    part = Part(msgspec.structs.replace(spec("", log=tmp_path / "log"), command=command), on_start=lambda: None, say=said.append)
    await part.start()
    program.rename(away)
    os.kill(part.pid or 0, signal.SIGKILL)
    while not any("cannot be started" in line for line in said):
        await asyncio.sleep(0.01)
    away.rename(program)
    while part.pid is None:
        await asyncio.sleep(0.01)
    await part.stop(asyncio.Event())


async def test_hurry_does_not_wait_for_a_deaf_process(tmp_path: Path) -> None:
    part = Part(spec(STUBBORN, log=tmp_path / "log", patience_s=60), on_start=lambda: None, say=lambda _: None)
    await part.start()
    while not (tmp_path / "log").read_text():
        await asyncio.sleep(0.01)
    hurry = asyncio.Event()
    stopping = asyncio.create_task(part.stop(hurry))
    await asyncio.sleep(0.1)
    assert not stopping.done()
    hurry.set()
    await asyncio.wait_for(stopping, 5)


async def test_a_part_that_never_starts_is_told_with_its_last_words(tmp_path: Path) -> None:
    said: list[str] = []
    supervisor = Supervisor(say=said.append, changed=lambda _: None)
    parts = await supervisor.start(spec("raise SystemExit('no such luck')", log=tmp_path / "log"))
    with pytest.raises(LocalError, match=r"worker does not start: no such luck \(log: "):
        await supervisor.until_ready(asyncio.Event().wait(), parts)  # type: ignore[arg-type]
    await supervisor.stop(asyncio.Event())


async def test_a_program_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    missing = msgspec.structs.replace(spec("", log=tmp_path / "log"), command=Command(argv=["/nowhere/program"], env={}))
    with pytest.raises(LocalError, match="worker cannot be started: No such file or directory"):
        await Supervisor(say=lambda _: None, changed=lambda _: None).start(missing)


async def test_kinds_are_stopped_in_order(tmp_path: Path) -> None:
    order = tmp_path / "order"
    said = (
        "import signal, sys, time\ndef end(*_):\n open({!r}, 'a').write({!r}); sys.exit()\n"
        "signal.signal(15, end)\nprint('up', flush=True)\ntime.sleep(60)"
    )
    supervisor = Supervisor(say=lambda _: None, changed=lambda _: None)
    for kind in ("postgres", "valkey", "api", "worker"):
        await supervisor.start(spec(said.format(str(order), f"{kind} "), log=tmp_path / kind, kind=kind))
    for kind in ("postgres", "valkey", "api", "worker"):
        while not (tmp_path / kind).read_text():
            await asyncio.sleep(0.01)
    await supervisor.stop(asyncio.Event())
    assert order.read_text() == "api worker valkey postgres "


async def test_the_second_signal_asks_for_hurry() -> None:
    asked = StopRequest()
    asked.ask()
    assert (asked.stop.is_set(), asked.hurry.is_set()) == (True, False)
    asked.ask()
    assert asked.hurry.is_set()


def test_endings_in_words() -> None:
    assert ending(3) == "ended with exit code 3"
    assert ending(-15) == "was ended by SIGTERM"


@pytest.fixture
def sleeper() -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", SLEEPER])
    yield process
    process.kill()
    process.wait()


def record_of(pid: int) -> ProcessRecord:
    found = processes.record_of("worker", pid, signals=("TERM",), patience_s=5)
    assert found is not None
    return found


def test_a_leftover_is_ended_and_waited_for(sleeper: "subprocess.Popen[bytes]") -> None:
    record = record_of(sleeper.pid)
    assert processes.end([record]) == [record]
    assert processes.end([record]) == []
    assert sleeper.wait(1) == -signal.SIGTERM


@pytest.mark.parametrize("changes", [{"started_ticks": 1}, {"boot": "another"}])
def test_a_process_that_merely_has_the_number_is_left_alone(sleeper: "subprocess.Popen[bytes]", changes: dict[str, object]) -> None:
    assert processes.end([msgspec.structs.replace(record_of(sleeper.pid), **changes)]) == []
    assert sleeper.poll() is None


def test_a_data_directory_has_one_user_at_a_time(tmp_path: Path) -> None:
    with (
        open_data_dir(tmp_path / "data"),
        pytest.raises(LocalError, match="another `greenpoints up` is using"),
        open_data_dir(tmp_path / "data"),
    ):
        pass
    with open_data_dir(tmp_path / "data"):
        pass


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    write_private(tmp_path / "x.json", record_of(os.getpid()))
    assert read_private(tmp_path / "x.json", ProcessRecord) == record_of(os.getpid())
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(LocalError, match="is damaged"):
        read_private(tmp_path / "x.json", ProcessRecord)
    assert read_private(tmp_path / "y.json", ProcessRecord) is None


async def test_warnings_in_logs_reach_the_console_and_logs_stay_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "POLL_S", 0.01)
    monkeypatch.setattr(logs, "LARGEST_BYTES", 200)
    log, said = tmp_path / "api.log", []
    log.write_text("ERROR of an earlier run\n")
    following = asyncio.create_task(logs.follow([log], said.append, watched=lambda _: True))
    await asyncio.sleep(0.05)
    with log.open("a") as out:
        out.write("all is well\nWARNING a thing\nerror unfinished")
        out.flush()
        while not said:
            await asyncio.sleep(0.01)
        assert said == ["api | WARNING a thing"]
        out.write(" line\n" + "x" * 300 + "\n")
        out.flush()
        while not (tmp_path / "api.log.1").exists() or log.stat().st_size:
            await asyncio.sleep(0.01)
        out.write("warning after rotation\n")
        out.flush()
        while len(said) < 3:
            await asyncio.sleep(0.01)
    following.cancel()
    assert said[1:] == ["api | error unfinished line", "api | warning after rotation"]
    assert log.read_text() == "warning after rotation\n"
