"""The plastics ledger: rows come in, a half-year is closed, its report is read.

Who writes entries shares the lock of the program's periods, who closes one holds it alone: what was reported before the closing is in the
report, what comes after it is refused. A closed period's report is the bytes that were kept when it was closed.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal
from zoneinfo import ZoneInfo

from schemas.plastics import ClosedPeriod, PeriodHashes, PlasticBody, PlasticResult, PlasticsAnswer, PlasticsReport
from schemas.problems import FieldError
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.plastics import (
    Book,
    Content,
    Period,
    Sum,
    as_csv,
    as_json,
    content_of,
    half_of,
    half_year,
    make_report,
    reportable_classes,
)
from service.flows.administer import Change
from service.store import audit, locks, packaging_classes
from service.store import plastics as store
from service.store.callers import Platform
from service.store.connection import Connection
from service.store.registries import clock

WRITERS: Final[Mapping[store.Format, Callable[[PlasticsReport], bytes]]] = {"json": as_json, "csv": as_csv}


# Rows ----------------------------------------------------------------------------------------------------


async def report(conn: Connection, rows: Sequence[PlasticBody | FieldError], *, platform: Platform, change: Change) -> PlasticsAnswer:
    """Enter each row, or correct what it said before, in order; safe to repeat. A bad row stops no other."""
    results: dict[int, PlasticResult] = {}
    given: dict[int, tuple[str, Content]] = {}
    reportable = reportable_classes(await packaging_classes.of_program(conn, platform.program))
    for n, row in enumerate(rows):
        if isinstance(row, FieldError):
            results[n] = _rejected(n, None, InvalidRequest(row.detail, [row]))
            continue
        try:
            given[n] = row.id, content_of(row, reportable)
        except InvalidRequest as error:
            results[n] = _rejected(n, row.id, error)
    if given:
        async with conn.transaction():
            await locks.share_plastic_periods(conn, platform.program)
            await locks.lock_plastic_rows(conn, platform.id)
            book = await _book(conn, platform, list(given.values()))
            for n, (row_id, content) in given.items():
                try:
                    results[n] = PlasticResult(row=n, status=book.take(row_id, content), id=row_id)
                except (InvalidRequest, InvalidState) as error:
                    results[n] = _rejected(n, row_id, error)
            if book.entries:
                await store.insert_entries(conn, book.entries, program=platform.program, platform=platform.id, actor=change.actor)
                counts = Counter(result.status for result in results.values())
                await audit.record(
                    conn, program=platform.program, actor=change.actor, action="plastics.report", subject=f"platform:{platform.code}",
                    after={"created": counts["created"], "updated": counts["updated"]}, request_id=change.request_id,
                )  # fmt: skip
    return _answer([results[n] for n in sorted(results)])


async def _book(conn: Connection, platform: Platform, given: Sequence[tuple[str, Content]]) -> Book:
    names = {name for row, content in given for name in (row, content.corrects) if name is not None}
    current = await store.current_entries(conn, platform=platform.id, rows=sorted(names))
    named = sorted({content.period.half for _, content in given})
    halves = sorted({*named, *(entry.content.period.half for entry in current)})
    now, zone = await clock(conn, platform.program)
    return Book(
        current,
        lines=await store.lines(conn, program=platform.program, platform=platform.id, halves=named),
        closed=await store.closed(conn, program=platform.program, halves=halves),
        today=now.astimezone(ZoneInfo(zone)).date(),
    )


def _rejected(row: int, id_: str | None, error: InvalidRequest | InvalidState) -> PlasticResult:
    code: Literal["invalid_state", "invalid_request"] = "invalid_state" if isinstance(error, InvalidState) else "invalid_request"
    return PlasticResult(row=row, status="rejected", id=id_, code=code, errors=error.errors)


def _answer(results: list[PlasticResult]) -> PlasticsAnswer:
    counts = Counter(result.status for result in results)
    return PlasticsAnswer(
        created=counts["created"], updated=counts["updated"], unchanged=counts["unchanged"], rejected=counts["rejected"], results=results
    )


async def entries(
    conn: Connection, *, program: int, after: int, platform: str | None, half: str | None, row: str | None, limit: int
) -> list[store.NumberedEntry]:
    """At most `limit` entries numbered above `after`, oldest first. Raises InvalidRequest for what is no half-year."""
    period = None if half is None else _asked(half)
    return await store.page(
        conn, program=program, after=after, platform=platform, half=None if period is None else period.half, row=row, limit=limit
    )


# Closing -------------------------------------------------------------------------------------------------


async def close(conn: Connection, half: str, *, program: int, change: Change) -> ClosedPeriod:
    """Close a half-year for ever and keep its reports; a repeat answers the same.

    Raises NotFound (no half-year, or nothing was reported of it), InvalidState (it is not over).
    """
    try:
        period = half_year(half)
    except ValueError:
        raise NotFound("Nothing was reported of such a period.") from None
    async with conn.transaction():
        await locks.lock_plastic_periods(conn, program)
        closed_at = (await store.closed(conn, program=program, halves=[period.half])).get(period.half)
        if closed_at is not None:
            return await _closed(conn, program, period, closed_at)
        if not await store.has_entries(conn, program=program, half=period.half):
            raise NotFound("Nothing was reported of such a period.")
        now, zone = await clock(conn, program)
        if now.astimezone(ZoneInfo(zone)).date() <= period.last:
            raise InvalidState(f"The period {period.half} is not over before the end of {period.last} ({zone}).")
        closed_at = await store.close(conn, program=program, half=period.half, actor=change.actor)
        await store.freeze(conn, await _reports(conn, program, period, zone, closed_at), program=program, half=period.half)
        answer = await _closed(conn, program, period, closed_at)
        await audit.record(
            conn, program=program, actor=change.actor, action="plastics.close", subject=f"plastics:{period.half}",
            after={"closed_at": closed_at, "sha256": {"json": answer.sha256.json, "csv": answer.sha256.csv}}, request_id=change.request_id,
        )  # fmt: skip
    return answer


async def _closed(conn: Connection, program: int, period: Period, closed_at: datetime) -> ClosedPeriod:
    hashes = await store.hashes(conn, program=program, half=period.half)
    return ClosedPeriod(period=period.half, closed_at=closed_at, sha256=PeriodHashes(json=hashes["json"], csv=hashes["csv"]))


async def _reports(conn: Connection, program: int, period: Period, zone: str, closed_at: datetime) -> list[tuple[int, store.Format, bytes]]:
    """Of the whole program and of each platform by itself, in each format; all from one reading of the entries and awards."""
    sums = await store.sums(conn, program=program, half=period.half, platform=None)
    avoided = await store.avoided(conn, program=program, first=period.first, last=period.last, platform=None)
    made = {store.WHOLE_PROGRAM: make_report(sums, avoided, period=period, time_zone=zone, closed_at=closed_at)}
    by_platform: dict[str, list[Sum]] = {}
    for s in sums:
        by_platform.setdefault(s.platform, []).append(s)
    for id_, code in (await store.platforms(conn, program=program)).items():
        own = {code: avoided[code]} if code in avoided else {}
        made[id_] = make_report(by_platform.get(code, []), own, period=period, time_zone=zone, closed_at=closed_at)
    return [(id_, format_, write(of)) for id_, of in made.items() for format_, write in WRITERS.items()]


# The report ----------------------------------------------------------------------------------------------


async def read_report(conn: Connection, half: str | None, *, program: int, platform: int | None, format_: store.Format) -> bytes:
    """The report on a half-year (None: the present one), of one platform or of all. Raises InvalidRequest for what is no half-year.

    Of a closed period always the same bytes; a platform that came after the closing has nothing in it. An open period is summed up as it
    stands, from one snapshot.
    """
    asked = None if half is None else _asked(half)
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        now, zone = await clock(conn, program)
        period = asked or half_of(now.astimezone(ZoneInfo(zone)).date())
        kept = await store.frozen(conn, program=program, half=period.half, platform=platform or store.WHOLE_PROGRAM, format_=format_)
        if kept is not None:
            return kept
        closed_at = (await store.closed(conn, program=program, halves=[period.half])).get(period.half)
        sums: list[Sum] = []
        avoided: dict[str, Decimal] = {}
        if closed_at is None:
            sums = await store.sums(conn, program=program, half=period.half, platform=platform)
            avoided = await store.avoided(conn, program=program, first=period.first, last=period.last, platform=platform)
    return WRITERS[format_](make_report(sums, avoided, period=period, time_zone=zone, closed_at=closed_at))


def _asked(half: str) -> Period:
    try:
        return half_year(half)
    except ValueError:
        raise InvalidRequest.at("/period", "must be a half-year such as 2026H1") from None
