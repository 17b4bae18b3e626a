"""Labels in bulk: which events were fraud, as chargebacks, investigations or simulated traffic tell. Tuning learns from them."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from schemas.problems import FieldError
from schemas.registries import ImportAnswer, ImportResult
from service.domain.fraud_labels import LabelRow
from service.domain.keys import platform_key
from service.flows.administer import BY_COMMAND, Change
from service.store import audit
from service.store import fraud_labels as store
from service.store.connection import Connection
from service.store.fraud_labels import Label, Target

CHUNK_ROWS: Final = 5_000
"""Rows of one statement: what an import holds in memory."""
MAX_TOLD: Final = 10_000
"""Rows that were not taken and are told; more are counted."""


async def load(
    conn: Connection, rows: Iterable[LabelRow | FieldError], *, program: int, change: Change = BY_COMMAND,
    tell: Callable[[int], None] = lambda _: None,
) -> ImportAnswer:  # fmt: skip
    """Save a label for each row, all in one transaction; a bad row stops no other, a repeat changes nothing, what people decided stays.

    `tell` is called with the number of rows done. One audit row holds the counts.
    """
    counts: Counter[str] = Counter()
    told: list[ImportResult] = []
    remaining = iter(rows)
    done = 0
    async with conn.transaction():
        platforms = await store.platforms(conn, program)
        while chunk := list(islice(remaining, CHUNK_ROWS)):
            results = await _load(conn, program, platforms, chunk, done)
            counts.update(result.status for result in results)
            told += [result for result in results if result.errors][: MAX_TOLD - len(told)]
            done += len(chunk)
            tell(done)
        if counts["created"] or counts["updated"]:
            after = {"rows": done} | {name: counts[name] for name in ("created", "updated", "unchanged", "rejected")}
            await audit.record(
                conn, program=program, actor=change.actor, action="fraud_label.import", subject="fraud_labels", after=after,
                request_id=change.request_id,
            )  # fmt: skip
    return ImportAnswer(
        created=counts["created"], updated=counts["updated"], unchanged=counts["unchanged"], rejected=counts["rejected"], results=told
    )


async def _load(
    conn: Connection, program: int, platforms: dict[str, int], rows: Sequence[LabelRow | FieldError], first: int
) -> list[ImportResult]:
    """What becomes of some rows, numbered from `first`. Of an event that is there twice the last row counts."""
    named = {n: row for n, row in enumerate(rows, first) if isinstance(row, LabelRow) and row.platform in platforms}
    found = await store.targets(conn, program, [platform_key(platforms[row.platform], row.event) for row in named.values()])
    targets = dict(zip(named, found, strict=True))
    results: list[ImportResult] = []
    new: dict[int, Label] = {}
    for n, row in enumerate(rows, first):
        judged = row if isinstance(row, FieldError) else _label(row, targets.get(n))
        if isinstance(judged, FieldError):
            results.append(ImportResult(row=n, status="rejected", errors=[judged]))
            continue
        known = targets[n].fraud
        if known != judged.fraud or judged.event in new:
            new[judged.event] = judged
        results.append(ImportResult(row=n, status="created" if known is None else "unchanged" if known == judged.fraud else "updated"))
    if new:
        await store.put(conn, program, list(new.values()))
    return results


def _label(row: LabelRow, target: Target | None) -> Label | FieldError:
    """The label that a row makes, or why it makes none."""
    if target is None:
        return FieldError(pointer="/platform", detail="is not a platform of this program")
    if target.event is None:
        return FieldError(pointer="/event", detail="was never reported by this platform")
    if target.points is None or target.score is None or target.strengths is None:
        return FieldError(pointer="/event", detail="was not judged: it earns nothing, or its verdict is no longer kept")
    if target.source == "decision" and target.fraud != row.is_fraud:
        return FieldError(pointer="/fraud", detail="a person decided otherwise, which stays")
    return Label(event=target.event, fraud=row.is_fraud, points=target.points, score=target.score, strengths=target.strengths)
