"""Check: every invariant of the ledger (DESIGN §6) and Redis against PostgreSQL, over everything that is stored.

All statements see one snapshot, on a few connections side by side; credits and settlements go on meanwhile.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from schemas.checks import Invariant, Report
from schemas.events import Balance, StoredEvent
from service.domain.fold import OrderState
from service.projection import REDIS_UNREACHABLE, Held, Projection, parse
from service.store import check as store
from service.store import check_adjustments, check_fraud, check_rewards, seals
from service.store.connection import Connection, Pool

CONNECTIONS: Final = 2
"""Statements that run side by side; the pool needs one connection more."""
SHOWN: Final = 10
"""Broken rows told per invariant."""
REDIS_WAIT_S: Final = 5.0

T = TypeVar("T")

Progress: TypeAlias = Callable[[int, int, str], None]
"""Called with the steps done, all steps, and the name of the invariant that the last one belongs to."""


class Rule(Struct, frozen=True):
    """An invariant: its number in DESIGN §6, its name, what must be true, and the statements that find what breaks it."""

    number: int
    name: str
    sentence: str
    statements: tuple[str, ...]


RULES: Final = (
    Rule(
        1, "double_entry",
        "The entries of every transfer, and so of the whole book, sum to zero; what one consumer gave another received; each account's "
        "entries are numbered without a gap; what no event causes has a row that says what it was.",
        (store.TRANSFERS, store.SEQUENCES, check_adjustments.BETWEEN_CONSUMERS, store.TRANSFER_ROWS),
    ),
    Rule(
        2, "balances",
        "Every balance is the sum of its entries and of its awards on hold; its version is the number of its changes.",
        (store.VERSIONS, store.BALANCES, store.PENDING),
    ),
    Rule(
        3, "lots",
        "What is left of the lots is what is available and reserved; what is missing from a lot is the sum of its uses; what is kept apart "
        "in it is what open reservations hold; a redemption's lots have spent what it captured and did not give back.",
        (store.LOT_USES, store.LOT_SUMS, store.RESERVED, store.RESERVED_SUMS, store.REDEMPTIONS),
    ),
    Rule(
        4, "settlements",
        "Every settled award has exactly one transfer and lot, one on hold has none; awards name an existing campaign version and "
        "certificate; the points of events are those of their awards; what was taken over is registered, in the book and a lot, once each; "
        "adjustments that were carried out have one transfer each, and two operators where one may not.",
        (store.SETTLEMENTS, store.OPENINGS, store.EVENT_POINTS, store.EVENT_SUMS, store.PINS, store.EMPTY_HOLDS,
         check_adjustments.ADJUSTMENTS, check_adjustments.FOUR_EYES),
    ),
    Rule(
        5, "caps_and_budgets",
        "What is counted against each cap and budget is the sum of the awards in its window, and within the bound.",
        (store.CAPS, store.ORDER_CAPS, store.BUDGETS),
    ),
    Rule(
        6, "targets",
        "What is reversed of every award is exactly what its order's facts say; no fact waits for a known order.",
        (store.REVERSALS, store.UNFOUNDED_REVERSALS, store.WAITING_IN_VAIN),
    ),
    Rule(
        7, "counted_once",
        "Every event is registered under its id, and stored once; an order belongs to one account, is awarded once, and each line once "
        "per campaign; a claim is held by an award that stands, a trip earned once, and no more packaging counts as given back than was "
        "sent; every reward that is taken, and every code, is of one redemption in its state.",
        (
            store.EVENT_KEYS, store.STORED_ONCE, store.ORDER_KEYS, store.LINES, store.CLAIMS, store.TRIPS, store.RETURNS, store.SENT,
            check_rewards.REWARD_USES, check_rewards.REWARD_STOCKS, check_rewards.VOUCHERS,
        ),
    ),
    Rule(
        8, "redis",
        "No balance in Redis is newer than PostgreSQL's or differs from it at the same version; none is older once quiet for 5 s.",
        (),
    ),
    Rule(
        9, "deadlines",
        "Nothing is unsettled a minute after its hold ended; no fact waits for its order longer than its program allows; no adjustment is "
        "open after its time; no points are free an hour after their last day; every reservation has its end in the queue of ends, and "
        "none is open a minute after it; nothing is held a minute after its deadline, or after it was decided.",
        (
            store.OVERDUE, store.OVERDUE_PARKED, check_adjustments.OVERDUE, store.UNEXPIRED, store.UNRELEASED, store.RESERVATION_ENDS,
            check_fraud.OVERDUE, check_fraud.UNFINISHED,
        ),
    ),
    Rule(
        10, "statistics",
        "Roll-ups and unique consumers are what awards and entries recompute to, and grams are those of the pinned records; "
        "what was given to causes is what the book says.",
        (store.ROLLUPS, store.SPENT_ROLLUPS, store.IMPACT, store.CONSUMERS, check_rewards.CAUSES),
    ),
    Rule(
        11, "seals",
        "The entries of every sealed block are those that were sealed, each in one block; every block follows from the one before.",
        (),
    ),
    Rule(
        12, "fraud_cases",
        "Every event that is held stands in a case, which holds it; what was rejected has nothing left, and its mark; a case is closed "
        "when all of it is decided.",
        (check_fraud.HELD, check_fraud.REJECTED, check_fraud.STATUSES),
    ),
)  # fmt: skip


class _Findings:
    """What one step found: the first broken rows in words, how many there are, and what was counted on the way."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.found = 0
        self.checked: dict[str, int] = {}

    def add(self, words: str) -> None:
        self.found += 1
        if len(self.words) < SHOWN:
            self.words.append(words)


class _Step(Struct, frozen=True):
    """A piece of work on one connection; `rule` 0 only counts."""

    rule: int
    run: Callable[[Connection], Awaitable[_Findings]]


async def check(pool: Pool, projection: Projection, *, progress: Progress | None = None) -> Report:
    """Judge every invariant. Reads only; the pool needs three connections. Raises what PostgreSQL raises.

    A Redis that cannot be reached breaks number 8: nothing is known about what it holds.
    """
    begun = time.monotonic()
    steps = deque(_steps(pool, projection))
    total = len(steps)
    results: dict[int, list[_Findings]] = defaultdict(list)
    took_s: dict[int, float] = defaultdict(float)

    async def work(connection: Connection) -> None:
        while steps:
            step = steps.popleft()
            started = time.monotonic()
            results[step.rule].append(await step.run(connection))
            took_s[step.rule] += time.monotonic() - started
            if progress is not None:
                progress(sum(map(len, results.values())), total, RULES[step.rule - 1].name if step.rule else "counts")

    async def assist(snapshot: str) -> None:
        async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            await store.import_snapshot(connection, snapshot)
            await store.prepare(connection)
            await work(connection)

    async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        snapshot, as_of = await store.export_snapshot(connection)
        await store.prepare(connection)
        await _together([work(connection), *(assist(snapshot) for _ in range(CONNECTIONS - 1))])

    invariants = [_invariant(rule, results[rule.number], took_s[rule.number]) for rule in RULES]
    checked: dict[str, int] = {}
    for findings in results.values():
        for one in findings:
            checked |= one.checked
    return Report(
        ok=all(i.ok for i in invariants), as_of=as_of, took_s=round(time.monotonic() - begun, 3), checked=dict(sorted(checked.items())),
        invariants=invariants,
    )  # fmt: skip


def _invariant(rule: Rule, findings: Iterable[_Findings], took_s: float) -> Invariant:
    words = [words for one in findings for words in one.words]
    return Invariant(
        number=rule.number, name=rule.name, sentence=rule.sentence, ok=not words, found=sum(one.found for one in findings),
        broken=words[:SHOWN], took_s=round(took_s, 3),
    )  # fmt: skip


async def _together(work: Sequence[Awaitable[None]]) -> None:
    """Run side by side; when one fails the others end, too, and its error is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# Steps ------------------------------------------------------------------------------------------------------


def _steps(pool: Pool, projection: Projection) -> Iterable[_Step]:
    """Those first that keep this process busy, not PostgreSQL, so that both have something to do; then the longest."""
    yield _Step(8, lambda connection: _redis(connection, pool, projection))
    yield _Step(6, _targets)
    yield _Step(11, _seals)
    for rule in RULES:
        for statement in rule.statements:
            yield _Step(rule.number, lambda connection, statement=statement: _broken(connection, statement))  # type: ignore[misc]
    for table in store.COUNTED:
        yield _Step(0, lambda connection, table=table: _count(connection, table))  # type: ignore[misc]


async def _broken(connection: Connection, statement: str) -> _Findings:
    findings = _Findings()
    findings.words, findings.found = await store.broken(connection, statement, SHOWN)
    return findings


async def _count(connection: Connection, table: str) -> _Findings:
    findings = _Findings()
    plural = "entries" if table == "entry" else f"{table}s"
    findings.checked[plural] = await store.count(connection, table)
    return findings


async def _seals(connection: Connection) -> _Findings:
    """Hash every sealed entry again (roll-ups and seals are one number in DESIGN §6; here each has its own)."""
    findings = _Findings()
    findings.words, findings.found = await seals.broken(connection, SHOWN)
    findings.checked["sealed_entries"] = (await seals.count(connection)).entries
    return findings


# Facts and targets --------------------------------------------------------------------------------------------

_decode_event = msgspec.json.Decoder(StoredEvent).decode


async def _targets(connection: Connection) -> _Findings:
    """Recompute, from its facts, what every refunded or cancelled order should have left of its awards."""
    findings = _Findings()
    orders = 0
    async for order in store.refunded_orders(connection):
        orders += 1
        state = OrderState(order.account)
        try:
            for facts in order.facts:
                state.add(_decode_event(facts))
        except msgspec.MsgspecError as error:
            findings.add(f"account {order.account}: the facts behind award {order.awards[0][0]} cannot be read: {error}")
            continue
        for event, n, action, line, points, posted in order.awards:
            target = points - state.facts.target(points, action=action, line=line)
            # What a shipment took the place of is awarded anew when that is declared wrong, if it still may: the old award stays reversed.
            superseded = action == "packaging" and posted == points and bool(state.facts.declared_wrong)
            if posted != target and not superseded:
                findings.add(
                    f"account {order.account}: award {event}/{n} of {points} points has {posted} reversed, its order's facts say {target}"
                )
    findings.checked["refunded_orders"] = orders
    return findings


# Redis ----------------------------------------------------------------------------------------------------------


class _RedisUnreadable(Exception):
    """Redis did not answer; the text says why."""


async def _redis(connection: Connection, pool: Pool, projection: Projection) -> _Findings:
    """Compare what Redis holds; where it differs from the snapshot, it is judged again by PostgreSQL as it is now."""
    findings = _Findings()
    compared = 0
    try:
        await _answered(projection.redis.ping())
        async for page in store.account_pages(connection):
            held = await _held(projection, [account for account, _ in page])
            compared += len(held)
            if different := [account for account, balance in page if account in held and not _same(held[account], balance)]:
                await _judge(pool, projection, different, findings)
    except _RedisUnreadable as error:
        findings.add(f"not checked: the balance Redis cannot be read ({error})")
    findings.checked["redis_balances"] = compared
    return findings


async def _judge(pool: Pool, projection: Projection, accounts: Sequence[int], findings: _Findings) -> None:
    """Redis first, PostgreSQL second: what Redis holds that PostgreSQL does not know by then never was."""
    held = await _held(projection, accounts)
    async with pool.acquire() as fresh:
        balances = await store.quiet_balances(fresh, list(held))
    for account, value in held.items():
        if account not in balances:
            continue
        balance, quiet = balances[account]
        if value is None:
            findings.add(f"account {account}: what Redis holds is no balance")
        elif value.version > balance.version:
            findings.add(f"account {account}: Redis has version {value.version}, PostgreSQL only {balance.version}")
        elif value.version == balance.version and not _same(value, balance):
            findings.add(
                f"account {account}: at version {balance.version} Redis has {_words(_decoded(value))}, PostgreSQL {_words(balance)}"
            )
        elif value.version < balance.version and quiet:
            findings.add(f"account {account}: Redis has version {value.version}, PostgreSQL has had {balance.version} for more than 5 s")


async def _held(projection: Projection, accounts: Sequence[int]) -> dict[int, Held | None]:
    """What Redis has of these accounts; None: something that is no balance. Those that it does not have are left out."""
    values = await _answered(projection.redis.mget([projection.key(account) for account in accounts]))
    return {account: _parsed(value) for account, value in zip(accounts, values, strict=True) if value is not None}


async def _answered(question: Awaitable[T]) -> T:
    """Redis's answer. Raises _RedisUnreadable."""
    try:
        async with asyncio.timeout(REDIS_WAIT_S):
            return await question
    except REDIS_UNREACHABLE as error:
        raise _RedisUnreadable(str(error) or type(error).__name__) from None


def _parsed(value: bytes) -> Held | None:
    try:
        held = parse(value)
    except ValueError:
        return None
    return None if _decoded(held) is None else held


def _decoded(held: Held) -> Balance | None:
    try:
        return msgspec.json.decode(b"{" + held.body + b"}", type=Balance)
    except msgspec.MsgspecError:
        return None


def _same(held: Held | None, balance: Balance) -> bool:
    return held is not None and held.version == balance.version and _decoded(held) == balance


def _words(balance: Balance | None) -> str:
    assert balance is not None
    return f"{balance.pending} pending, {balance.reserved} reserved, {balance.available} available, {balance.debt} debt"
