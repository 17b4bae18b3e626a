"""Tuning: a program's model fitted to what its labels say, and measured on events that it was not fitted to.

Labels are few and of what was suspicious. What honest events look like, a sample of those says that passed, settled and that nobody
labelled since: each stands for as many as it was drawn from.
"""

import asyncio
import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.adjustments import Reason
from service.domain.errors import InvalidRequest, InvalidState
from service.domain.fraud.model import Model
from service.domain.fraud.tuning import tune as fit
from service.domain.fraud_models import complete
from service.domain.fraud_tuning import Seen, TuningReport, is_held_out, measured, rows_of
from service.flows.administer import Change
from service.flows.fraud_models import save_tuned
from service.store import fraud_labels as store
from service.store import fraud_models
from service.store.connection import Connection

LEAST_LABELS: Final = 50
"""Of each kind: with fewer the figures are chance."""
BACKGROUND: Final = 50_000
"""Events that are drawn as a background, at most."""
SETTLED_AFTER: Final = timedelta(days=14)
"""The usual hold of an order: by then most of what was fraud has been reported."""
DRAW_ROWS: Final = 5_000

Tell = Callable[[int, int], None]


class Tuned(Struct, frozen=True, kw_only=True):
    """A model and how it does; the model has no version yet."""

    model: Model
    report: TuningReport


async def tune(
    conn: Connection, *, program: int, since: datetime | None = None, background: int = BACKGROUND, seed: int = 1, force: bool = False,
    tell: Tell = lambda _, __: None,
) -> Tuned:  # fmt: skip
    """Fit the program's running model to its labels; writes nothing, and says the same again on the same data.

    `tell` is called with how many places of the background were looked at, of how many. Raises InvalidState with fewer than
    LEAST_LABELS frauds or honest events, unless forced; with none of a kind always.
    """
    frauds, honest = await store.count(conn, program, since=since)
    least = 1 if force else LEAST_LABELS
    if frauds < least or honest < (0 if force else least):
        raise InvalidState(
            f"There are {frauds:,} labelled frauds and {honest:,} labelled honest events; tuning needs at least {LEAST_LABELS} of each. "
            "Decisions about cases are labels; `greenpoints fraud labels import` brings others; --force tunes with what there is."
        )
    base = (await fraud_models.active(conn, program)).running
    labels = [seen async for seen in store.labels(conn, program, since=since)]
    others, weight = await _background(conn, program, since=since, size=background, seed=seed, tell=tell)
    return await asyncio.to_thread(_fit, base, labels, others, weight=weight, since=since)


async def _background(
    conn: Connection, program: int, *, since: datetime | None, size: int, seed: int, tell: Tell
) -> tuple[list[Seen], int]:
    """At most `size` events that nobody labelled, drawn at random, and how many each stands for."""
    places = await store.settled_range(conn, program, older_than=SETTLED_AFTER, since=since)
    count = max(0, places.last - places.first + 1)
    drawn = sorted(random.Random(seed).sample(range(places.first, places.last + 1), min(size, count)))  # noqa: S311 - no secret
    found: list[Seen] = []
    for at in range(0, len(drawn), DRAW_ROWS):
        found += await store.passed(conn, program, drawn[at : at + DRAW_ROWS])
        tell(min(at + DRAW_ROWS, len(drawn)), len(drawn))
    return found, max(1, round(count / len(drawn))) if drawn else 1


def _fit(base: Model, labels: list[Seen], others: list[Seen], *, weight: int, since: datetime | None) -> Tuned:
    seen = labels + [replace(other, weight=weight) for other in others]
    kept = [each for each in seen if is_held_out(each.event)]
    try:
        model, fitted = fit(rows_of(each for each in seen if not is_held_out(each.event)), start=complete(base))
    except ValueError:
        raise InvalidState("There must be frauds and honest events beside the fifth that is kept for measuring.") from None
    rows = rows_of(kept)
    return Tuned(
        model=model,
        report=TuningReport(
            base=base.version, draft=None, since=None if since is None else since.isoformat(), frauds=sum(each.fraud for each in labels),
            honest=sum(not each.fraud for each in labels), background=len(others), background_weight=weight, held_out=len(kept),
            before=measured(base, rows), after=measured(model, rows), hold_bp=(base.hold_bp, model.hold_bp),
            intercept=(base.intercept, model.intercept), weights=fitted.weights, loss=(fitted.loss_before, fitted.loss),
        ),
    )  # fmt: skip


async def save(conn: Connection, tuned: Tuned, *, program: int, note: str | None, change: Change) -> Tuned:
    """Save what was found as a draft; the same with its version. Raises InvalidRequest (the note), InvalidState (too many versions)."""
    _check_note(note)
    text = msgspec.json.encode(tuned.report).decode()
    version = await save_tuned(conn, tuned.model, program=program, report=text, note=note, change=change)
    return replace(tuned, report=replace(tuned.report, draft=version))


def _check_note(note: str | None) -> None:
    try:
        msgspec.convert(note, Reason | None)
    except msgspec.ValidationError as error:
        raise InvalidRequest.at("/note", str(error)) from None
