"""Take balances over from another system: some rows, one transaction; each row once, whatever is repeated or stopped."""

import secrets
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime
from typing import Final
from zoneinfo import ZoneInfo

import asyncpg
import msgspec
from msgspec import Struct

from schemas.bounds import MAX_BALANCE
from schemas.events import Balance
from schemas.openings import OpeningBody, OpeningResult
from schemas.problems import FieldError
from service import failpoints
from service.domain.keys import platform_key
from service.domain.openings import OpeningRow, content_hash, new_error, timeless_error
from service.flows.administer import Change
from service.store import audit, credit
from service.store import openings as store
from service.store.callers import Platform
from service.store.connection import Connection
from service.store.locks import share_catalogue
from service.store.registries import clock

BATCH_ROWS: Final = 1_000
"""Rows of one transaction: credits of the same consumers wait for it no longer than for a batch of events."""
MAX_ATTEMPTS: Final = 5
_CONFLICTS = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class Taken(Struct, kw_only=True):
    """What became of the rows; `balances` are to be pushed, after COMMIT. `points`: of those that are created."""

    results: list[OpeningResult]
    points: int
    balances: list[tuple[int, Balance]]


class _Given(Struct, frozen=True, gc=False):
    row: int
    body: OpeningBody
    key: str
    hash: bytes


async def take_over(
    connection: Connection, rows: Sequence[OpeningRow], *, platform: Platform, change: Change, dry_run: bool = False
) -> Taken:
    """Take rows over in one transaction, at most BATCH_ROWS of them; a row is refused or taken on its own.

    Safe to repeat, side by side too: the registry knows each id for ever. A dry run answers the same, writes and locks nothing.
    Raises what PostgreSQL raises; then nothing of the rows is written. Tries again after a deadlock, MAX_ATTEMPTS times at most.
    """
    if len(rows) > BATCH_ROWS:
        raise ValueError(len(rows))
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            async with connection.transaction(readonly=dry_run):
                await store.prepare(connection)
                taken = await _Import(connection, platform, change, dry_run=dry_run).take(rows)
            failpoints.at("openings.committed")
            return taken  # noqa: TRY300 - the commit may raise, too
        except _CONFLICTS:
            if attempt == MAX_ATTEMPTS:
                raise
    raise AssertionError("the last attempt raises")


class _Import:
    """One transaction's work."""

    def __init__(self, connection: Connection, platform: Platform, change: Change, *, dry_run: bool) -> None:
        self._connection = connection
        self._platform = platform
        self._change = change
        self._dry_run = dry_run
        self._results: dict[int, OpeningResult] = {}
        self._stored: dict[str, bytes | None] = {}
        """Content hash by registry key, of all that is registered in the end."""

    async def take(self, rows: Sequence[OpeningRow]) -> Taken:
        program = self._platform.program
        given = self._readable(rows)
        now, zone = await clock(self._connection, program)
        self._stored = await store.known(self._connection, program=program, keys=[g.key for g in given])
        fresh, again = self._told_apart(given, now, now.astimezone(ZoneInfo(zone)).date())
        points = 0
        balances: list[tuple[int, Balance]] = []
        if fresh:
            taken, balances = await (self._look if self._dry_run else self._write)(list(fresh.values()))
            points = sum(g.body.points for g in taken)
            for g in taken:
                self._results[g.row] = OpeningResult(row=g.row, status="created", id=g.body.id)
                self._stored[g.key] = g.hash
        for g in again:
            if g.key in self._stored:
                self._repeated(g)
            else:
                self._results[g.row] = msgspec.structs.replace(self._results[fresh[g.key].row], row=g.row)
        return Taken(results=[self._results[n] for n in sorted(self._results)], points=points, balances=balances)

    def _readable(self, rows: Sequence[OpeningRow]) -> list[_Given]:
        found = []
        for row, body in rows:
            if isinstance(body, FieldError):
                self._reject(row, None, body)
            elif (error := timeless_error(body)) is not None:
                self._reject(row, body.id, error)
            else:
                found.append(_Given(row, body, platform_key(self._platform.id, body.id), content_hash(body)))
        return found

    def _told_apart(self, given: Sequence[_Given], now: datetime, today: date) -> tuple[dict[str, _Given], list[_Given]]:
        """The first row of each new key, and the rows whose key is known or came before."""
        fresh: dict[str, _Given] = {}
        again = []
        for g in given:
            if g.key in self._stored or g.key in fresh:
                again.append(g)
            elif (error := new_error(g.body, now=now, today=today)) is not None:
                self._reject(g.row, g.body.id, error)
            else:
                fresh[g.key] = g
        return fresh, again

    async def _look(self, fresh: list[_Given]) -> tuple[list[_Given], list[tuple[int, Balance]]]:
        """What would be taken."""
        references = sorted({(self._platform.id, g.body.consumer) for g in fresh})
        accounts = {reference: account for (_, reference), account in (await credit.find_accounts(self._connection, references)).items()}
        locked = await credit.lock_accounts(self._connection, sorted(accounts.values()), lock=False)
        held = {consumer: locked[account].available + locked[account].pending for consumer, account in accounts.items()}
        return self._within_bounds(fresh, held), []

    async def _write(self, fresh: list[_Given]) -> tuple[list[_Given], list[tuple[int, Balance]]]:
        """Open the accounts, register, lock, post: the lock order of ARCHITECTURE.md."""
        conn, platform, program = self._connection, self._platform.id, self._platform.program
        await share_catalogue(conn)  # nobody is erased between the search for their account and its posting
        wanted = sorted((program, platform, consumer, secrets.randbits(63)) for consumer in {g.body.consumer for g in fresh})
        accounts, opened, erased = await credit.find_or_create_accounts(conn, wanted)
        failpoints.at("openings.referenced")
        for g in [g for g in fresh if (platform, g.body.consumer) in erased]:
            self._reject(g.row, g.body.id, FieldError(pointer="/consumer", detail="was erased, and the program takes nothing of theirs"))
        fresh = [g for g in fresh if (platform, g.body.consumer) not in erased]
        account_of = {g.row: accounts[platform, g.body.consumer] for g in fresh}
        numbers = await store.register(conn, program=program, keys=[(g.key, g.hash, account_of[g.row]) for g in fresh])
        failpoints.at("openings.registered")
        if len(numbers) < len(fresh):
            # Somebody else registered these since we looked: a later statement sees them.
            lost = [g for g in fresh if g.key not in numbers]
            self._stored |= await store.known(conn, program=program, keys=[g.key for g in lost])
            for g in lost:
                self._repeated(g)
        mine = [g for g in fresh if g.key in numbers]
        locked = await credit.lock_accounts(conn, sorted({account_of[g.row] for g in mine}))
        held = {g.body.consumer: locked[account_of[g.row]].available + locked[account_of[g.row]].pending for g in mine}
        taken = self._within_bounds(mine, held)
        if len(taken) < len(mine):
            await store.unregister(conn, program=program, keys=sorted({g.key for g in mine} - {g.key for g in taken}))
        failpoints.at("openings.unregistered")
        if needless := opened - {(platform, g.body.consumer) for g in taken}:
            await credit.close_accounts(conn, sorted(needless))
        if not taken:
            return [], []
        posted = [(account_of[g.row], numbers[g.key], g.body) for g in taken]
        balances = await store.post(conn, posted, program=program, platform=platform)
        failpoints.at("openings.posted")
        counts = {"rows": len(taken), "points": sum(g.body.points for g in taken)}
        await audit.record(
            conn, program=program, actor=self._change.actor, action="balances.import", subject=f"platform:{self._platform.code}",
            after=counts, request_id=self._change.request_id,
        )  # fmt: skip
        failpoints.at("openings.written")
        return taken, balances

    def _within_bounds(self, given: Sequence[_Given], held: dict[str, int]) -> list[_Given]:
        """Those that leave their consumer within MAX_BALANCE; `held`: what each consumer has (missing: nothing)."""
        totals = Counter(held)
        found = []
        for g in given:
            if totals[g.body.consumer] + g.body.points > MAX_BALANCE:
                self._reject(g.row, g.body.id, FieldError(pointer="/points", detail=f"would leave more than {MAX_BALANCE:,} points"))
            else:
                totals[g.body.consumer] += g.body.points
                found.append(g)
        return found

    def _repeated(self, g: _Given) -> None:
        """A row whose id came before: a duplicate, or another content under its id."""
        if self._stored[g.key] in (None, g.hash):  # None: its person was erased, and what it looked like is forgotten
            self._results[g.row] = OpeningResult(row=g.row, status="duplicate", id=g.body.id)
        else:
            error = FieldError(pointer="/id", detail="was used with other content")
            self._results[g.row] = OpeningResult(row=g.row, status="rejected", id=g.body.id, code="id_reused", errors=[error])

    def _reject(self, row: int, id_: str | None, error: FieldError) -> None:
        self._results[row] = OpeningResult(row=row, status="rejected", id=id_, code="invalid_request", errors=[error])
