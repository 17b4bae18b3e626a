"""`greenpoints fraud …`: how the checks are doing, versions of the model, labels, tuning."""

import contextlib
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import click
import msgspec

from schemas.fraud_models import FraudModelAnswer
from schemas.registries import ImportAnswer
from service.cli.assets import READ_BYTES
from service.cli.imports import AS_JSON, FILE, report
from service.cli.progress import told
from service.cli.servers import connection, run, settings
from service.domain.fraud_labels import label_lines
from service.domain.fraud_policy import duration_text
from service.domain.fraud_tuning import HELD_OUT, TuningReport
from service.domain.openings import bounded_lines
from service.flows import administer, fraud_labels, fraud_models, fraud_tune
from service.flows.administer import BY_COMMAND
from service.flows.fraud_tune import BACKGROUND, Tuned
from service.store import fraud_labels as labels_store
from service.store import fraud_models as models_store
from service.store.fraud_policy import Policy, policy
from service.store.fraud_status import FraudStatus, status

PROGRAM = click.option("--program", "program_code", default=None, metavar="CODE", help="Whose; needed when there are several programs.")
SHOWN_WEIGHTS = 15
SHOWN_MODELS = 100


@click.group()
def fraud() -> None:
    """The fraud checks: how they are doing, versions of their model, labels, tuning (docs/fraud-models.md)."""


# Status ---------------------------------------------------------------------------------------------------


@fraud.command("status")
@PROGRAM
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def show_status(*, program_code: str | None, as_json: bool) -> int:
    """What waits for a verdict, what is held, and which model decides. Changes nothing.

    Exit code 1 when the oldest event has waited for more than a minute: no worker judges, or they are too slow.
    """
    mode = settings().fraud_mode
    now, models, policy_ = run(_status(program_code))
    late = mode != "off" and (now.oldest_s or 0) > 60
    if as_json:
        shown = {
            "mode": mode, "running": models.running.version, "shadow": None if models.shadow is None else models.shadow.version,
            "status": now, "policy": policy_,
        }  # fmt: skip
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
        return 1 if late else 0
    beside = "" if models.shadow is None else f", version {models.shadow.version} beside it"
    print(f"mode      {mode} (of this command's environment)")
    print(f"model     version {models.running.version}{' (shipped)' if not models.running.version else ''}{beside}")
    print(f"waiting   {now.waiting:,} events" + ("" if now.oldest_s is None else f", the oldest for {now.oldest_s:,.0f} s"))
    print(f"held      {now.held:,} events, {now.held_points:,} points" + _next(now))
    print(f"cases     {now.open_cases:,} open; {policy_.reviews_a_day:,} reviews a day")
    print(f"deadline  {duration_text(policy_.hold_for)}, then {policy_.at_deadline}")
    print(f"labels    {now.frauds:,} frauds, {now.honest:,} honest")
    if late:
        print("greenpoints: events wait for their verdict: is a worker running?", file=sys.stderr)
    return 1 if late else 0


def _next(now: FraudStatus) -> str:
    return "" if now.next_deadline is None else f"; next deadline {now.next_deadline.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


async def _status(program_code: str | None) -> tuple[FraudStatus, models_store.Active, Policy]:
    async with connection() as conn:
        program = (await administer.choose_program(conn, program_code)).id
        return await status(conn, program), await models_store.active(conn, program), await policy(conn, program)


# Models ---------------------------------------------------------------------------------------------------


@fraud.command("models")
@PROGRAM
@click.option("--json", "as_json", is_flag=True, help="All of each version, as JSON.")
def models(*, program_code: str | None, as_json: bool) -> int:
    """The versions of the model, newest first; version 0 is shipped. `POST /v1/fraud/models/{version}/activate` lets one run."""

    async def work() -> list[FraudModelAnswer]:
        async with connection() as conn:
            program = (await administer.choose_program(conn, program_code)).id
            return await fraud_models.page(conn, program=program, before=fraud_models.NEWEST, limit=SHOWN_MODELS)

    found = run(work())
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return 0
    print(f"{'version':>7}  {'state':8}  {'hold_bp':>7}  {'off':>3}  {'made':16}  note")
    for row in found:
        made = "" if row.created_at is None else f"{row.created_at.astimezone(UTC):%Y-%m-%d %H:%M}"
        print(f"{row.version:>7}  {row.state:8}  {row.hold_bp:>7}  {len(row.off):>3}  {made:16}  {row.note or ''}".rstrip())
    return 0


# Labels ---------------------------------------------------------------------------------------------------


@fraud.group("labels")
def labels() -> None:
    """What judged events turned out to be. Decisions about cases are labels by themselves."""


@labels.command("import")
@FILE
@PROGRAM
@AS_JSON
def import_labels(*, file: Path, program_code: str | None, as_json: bool) -> int:
    """Labels from .ndjson of any size, a line an event: {"platform": "shop", "event": "1001:paid", "fraud": true}.

    The event must have been judged. What a person decided stays. All rows in one transaction; a bad row stops no other and makes the exit
    code 1. Safe to repeat. Lines of simulated traffic, with "pattern" in place of "fraud", are taken as well.
    """
    return report(run(_import(file, program_code)), as_json=as_json)


async def _import(file: Path, program_code: str | None) -> ImportAnswer:
    with file.open("rb") as raw:
        lines = max(sum(piece.count(b"\n") for piece in iter(lambda: raw.read(READ_BYTES), b"")), 1)
    async with connection() as conn:
        program = (await administer.choose_program(conn, program_code)).id
        with file.open("r", encoding="utf-8-sig", errors="surrogateescape") as opened, told("labels") as tell:
            rows = label_lines(bounded_lines(opened))
            return await fraud_labels.load(conn, rows, program=program, tell=lambda done: tell(min(done, lines), lines))


@labels.command("export")
@PROGRAM
@click.option("--out", type=click.Path(dir_okay=False, writable=True, path_type=Path), default=None, help="A file; else standard output.")
def export_labels(*, program_code: str | None, out: Path | None) -> int:
    """All labels as NDJSON, as `labels import` takes them, with what the signals saw.

    Event ids are the platforms' own, and may name orders: treat the file as you treat those.
    """

    async def work() -> int:
        count = 0
        async with connection() as conn:
            program = (await administer.choose_program(conn, program_code)).id
            with _output(out) as file:
                async for row in labels_store.exported(conn, program):
                    file.write(msgspec.json.encode(row) + b"\n")
                    count += 1
        return count

    count = run(work())
    print(f"{count:,} labels", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _output(out: Path | None) -> Iterator[IO[bytes]]:
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with out.open("wb") as file:
        yield file


# Tuning ---------------------------------------------------------------------------------------------------


@fraud.command("tune")
@PROGRAM
@click.option("--since", type=click.DateTime(["%Y-%m-%d"]), default=None, help="Only labels and verdicts from this day (UTC) on.")
@click.option("--background", type=click.IntRange(0, 1_000_000), default=BACKGROUND, show_default=True, help="Unlabelled events to draw.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the draw: the same seed on the same data says the same.")
@click.option(
    "--out", type=click.Path(dir_okay=False, writable=True, path_type=Path), default=None, help="Write the report there, as JSON."
)
@click.option(
    "--save-draft", is_flag=True, help="Save the tuned model as a draft, with the report. It decides nothing until it is activated."
)
@click.option("--note", default=None, help="What stands beside the draft.")
@click.option("--force", is_flag=True, help="Tune with fewer labels than make sense.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON on standard output, in place of the table.")
def tune(
    *, program_code: str | None, since: datetime | None, background: int, seed: int, out: Path | None, save_draft: bool, note: str | None,
    force: bool, as_json: bool,
) -> int:  # fmt: skip
    """Fit the running model to what labelled events turned out to be, and say how both do on a fifth that is kept from tuning.

    Honest events are also drawn from those that passed and settled more than 14 days ago without anybody labelling them; the report says
    how many each stands for. Needs 50 labels of each kind. Changes nothing without --save-draft, and never what runs.

    A way that costs nobody anything: save the draft, let it stand beside the running model (`POST /v1/fraud/models/{version}/activate`
    with {"as": "shadow"}), look at `GET /v1/fraud/monitor` for some days, then activate it {"as": "running"}.
    """
    if note is not None and not save_draft:
        raise click.UsageError("--note belongs to --save-draft.")
    from_ = None if since is None else since.replace(tzinfo=UTC)
    tuned = run(_tune(program_code, since=from_, background=background, seed=seed, force=force, save=save_draft, note=note))
    content = msgspec.json.format(msgspec.json.encode(tuned.report), indent=2).decode()
    if out is not None:
        out.write_text(content + "\n", encoding="utf-8")
    if as_json:
        print(content)
    else:
        _show(tuned.report)
    return 0


async def _tune(
    program_code: str | None, *, since: datetime | None, background: int, seed: int, force: bool, save: bool, note: str | None
) -> Tuned:
    async with connection() as conn:
        program = (await administer.choose_program(conn, program_code)).id
        with told("drawn") as tell:
            tuned = await fraud_tune.tune(conn, program=program, since=since, background=background, seed=seed, force=force, tell=tell)
        if not save:
            return tuned
        return await fraud_tune.save(conn, tuned, program=program, note=note, change=BY_COMMAND)


def _show(found: TuningReport) -> None:
    print(f"labels       {found.frauds:,} frauds, {found.honest:,} honest")
    print(f"background   {found.background:,} events taken for honest; each stands for {found.background_weight:,}")
    print(f"measured on  {found.held_out:,} events, one of {HELD_OUT}, which were not tuned on")
    print()
    print(f"{'':22}{f'version {found.base}':>12}{'tuned':>12}")
    before, after = found.before, found.after
    for name, was, is_ in (
        ("recall by value", before.recall, after.recall), ("precision by value", before.precision, after.precision),
        ("recall by event", before.recall_events, after.recall_events),
        ("precision by event", before.precision_events, after.precision_events),
    ):  # fmt: skip
        print(f"{name:22}{was:>12.3f}{is_:>12.3f}")
    print(f"{'honest events held':22}{before.honest_held:>12.4%}{after.honest_held:>12.4%}")
    print(f"{'held from (bp)':22}{found.hold_bp[0]:>12,}{found.hold_bp[1]:>12,}")
    print(f"{'intercept':22}{found.intercept[0]:>12.3f}{found.intercept[1]:>12.3f}")
    moved = sorted(found.weights.items(), key=lambda item: -abs(item[1][1] - item[1][0]))
    for name, (was, is_) in moved[:SHOWN_WEIGHTS]:
        if was != is_:
            print(f"{name:22}{was:>12.3f}{is_:>12.3f}")
    if found.draft is not None:
        print(f"\nsaved as the draft {found.draft}")
