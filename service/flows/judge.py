"""Judge: each event gets a verdict before it settles; one judge a program, under a lease, in batches.

The judge remembers what it has seen: that is what tells a burst from an order. Its memory is of this process; what it rests on is in
PostgreSQL (`verdict` says in which order events were taken in), so that another judge can rebuild it. A batch is announced before it is
judged (`judge.taking`): an event at which judges end, again and again, is found, and held for a person.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, Literal

import msgspec
import structlog

from schemas.events import StoredEvent
from service import failpoints
from service.domain.catalogue import Catalogue
from service.domain.fraud.mind import Case, Mind
from service.domain.fraud.model import BASIS, Judge, Model, Reason, reasons
from service.domain.fraud.pipeline import Judged
from service.domain.fraud.signals import SIGNALS
from service.flows.knowledge import Knowledge
from service.store import fraud_holds as holds
from service.store import leases
from service.store import screening as store
from service.store.connection import Connection, Pool, plan_by_index
from service.store.fraud_holds import Suspected
from service.store.leases import Lease, LeaseLost
from service.store.screening import VerdictRow, Waiting
from service.telemetry import metrics, tallies

BATCH: Final = 500
"""Events of one transaction: a tenth of a second of a core."""
MAX_BATCHES: Final = 40
"""Under one lease; then it is given back, and other work of this process has a turn."""
PAGE: Final = 2_000
MEMORY: Final = timedelta(days=120)
"""What a rebuilt judge looks back on: a quarter for evidence, and the longest hold of an order."""
MAX_TRIES: Final = 3
"""How often an event may end its judge: once in a batch, twice alone. Then it is held unjudged."""
CHECK_TIMEOUT_S: Final = 5.0

_events = msgspec.json.Decoder(StoredEvent)
_ACTIONS: Final = {
    "order.paid": "purchase",
    "order.fulfilled": "packaging",
    "packaging.returned": "return",
    "activity.completed": "activity",
}
_DOOR: Final = {
    1: ("block_list", "On a block list.", "An earlier review concerns this account or what it used."),
    2: ("door_burst", "Far more events within an hour than people make.", "Unusually many actions in a short time."),
}
_OUTCOMES: Final = {"pass": store.PASS, "hold": store.HOLD, "reject": store.REJECT}

log = structlog.get_logger("greenpoints.judge")


class JudgeStuck(Exception):
    """A batch took longer than it may; what was being judged is under suspicion now."""


class Judging:
    """The judges of one process: a mind for each program that it has judged, as long as nobody else judges it."""

    def __init__(
        self,
        pool: Pool,
        knowledge: Knowledge,
        *,
        mode: Literal["enforce", "shadow"],
        hash_key: bytes,
        check_timeout_s: float = CHECK_TIMEOUT_S,
    ) -> None:
        self._pool = pool
        self._knowledge = knowledge
        self._mode = mode
        self._hash_key = hash_key
        self._timeout_s = check_timeout_s
        self.model = Model()
        self._minds: dict[int, tuple[int, Mind]] = {}
        """Program → place of the last verdict that the mind knows of, and the mind."""

    async def judge_waiting(self) -> int:
        """Judge until nothing waits, or for a while; the number of events.

        Safe to run side by side: a lease, and the place of the last verdict, keep two judges of a program apart.
        """
        done = 0
        async with self._pool.acquire() as connection:
            await plan_by_index(connection)
            for program in await store.programs(connection):
                done += await self._judge_program(connection, program)
        return done

    async def _judge_program(self, connection: Connection, program: int) -> int:
        lease = await leases.take(connection, "judge", program)
        if lease is None:
            return 0
        failpoints.at("judge.leased")
        done = 0
        try:
            mind, seq = await self._mind(connection, program, lease)
            failpoints.at("judge.remembered")
            for _ in range(MAX_BATCHES):
                judged, last = await self._batch(connection, program, lease, mind, seq)
                seq = last
                self._minds[program] = (seq, mind)
                done += judged
                if not judged:
                    break
            await leases.give_back(connection, lease)
        except LeaseLost:
            self._minds.pop(program, None)
            tallies.count(metrics.LEASES_LOST).add()
        except BaseException:
            self._minds.pop(program, None)  # it may have taken in what was not written
            raise
        return done

    # Memory

    async def _mind(self, connection: Connection, program: int, lease: Lease) -> tuple[Mind, int]:
        """What this process remembers, if nobody has judged meanwhile; else rebuilt."""
        known = self._minds.pop(program, None)
        progress = await store.progress(connection, program)
        failpoints.at("judge.asked")
        if known is not None and known[0] == progress.seq:
            return known[1], progress.seq
        return await self._rebuild(connection, program, lease, progress.seq)

    async def _rebuild(self, connection: Connection, program: int, lease: Lease, last: int) -> tuple[Mind, int]:
        began = time.monotonic()
        mind = Mind(Judge(self.model), hash_key=self._hash_key)
        now, version = await store.now_and_catalogue(connection)
        catalogue = await self._knowledge.catalogue_at(connection, version)
        seq = first = await store.place_at(connection, program, now - MEMORY, last)
        while seq < last:
            page = await store.replay(connection, program, seq, PAGE)
            if not page:
                break
            cases = [self._case(w, catalogue, program) for _, w in page]
            await asyncio.to_thread(_take_in, mind, cases)
            seq = page[-1][0]
            await leases.still_mine(connection, lease)
        if last > first:
            log.info("rebuilt what the judge remembers", program=program, events=last - first, took_s=round(time.monotonic() - began, 1))
        return mind, last

    # One batch

    async def _batch(self, connection: Connection, program: int, lease: Lease, mind: Mind, seq: int) -> tuple[int, int]:
        """Judge a batch in one transaction after announcing it; how many events, and the place of the last verdict."""
        progress = await store.progress(connection, program)
        failpoints.at("judge.looked")
        alone = bool(progress.taking)
        if alone:
            head = await store.suspect(connection, program, progress.taking[0])
            waiting = [] if head is None else [head]
            if head is None:
                rest = progress.taking[1:]
                await store.reset(connection, program, taking=rest, tries=1 if rest else 0)
                return 1, seq  # look again
        else:
            waiting = await store.waiting(connection, program, BATCH)
        if not waiting:
            return 0, seq
        rest = progress.taking[1:] if alone else []
        unjudged = alone and progress.tries >= MAX_TRIES
        if not unjudged:
            await store.begin(connection, program, progress.taking if alone else [w.event for w in waiting])
        failpoints.at("judge.begun")
        verdicts = await self._judge(connection, program, mind, waiting, skip=unjudged)
        failpoints.at("judge.judged")
        last = await self._write(connection, program, lease, waiting, verdicts, seq, rest)
        failpoints.at("judge.committed")
        return len(waiting), last

    async def _judge(
        self, connection: Connection, program: int, mind: Mind, waiting: Sequence[Waiting], *, skip: bool
    ) -> list[Judged | Exception]:
        if skip:
            return [JudgeStuck("the checks ended or hung at this event, again and again") for _ in waiting]
        _, version = await store.now_and_catalogue(connection)
        catalogue = await self._knowledge.catalogue_at(connection, version)
        cases = [self._case(w, catalogue, program) for w in waiting]
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                verdicts = await asyncio.to_thread(_judge_all, mind, cases)
        except TimeoutError:
            raise JudgeStuck(f"judging {len(waiting)} events took longer than {self._timeout_s} s") from None
        tallies.spread(metrics.JUDGE_SECONDS).add(time.perf_counter() - began)
        return verdicts

    def _case(self, w: Waiting, catalogue: Catalogue, program: int) -> Case:
        event = _events.decode(w.facts)
        known = catalogue.programs.get(program)
        caps = 0
        if (action := _ACTIONS.get(w.type)) is not None:
            for campaign in catalogue.candidates(program, action, w.platform_code, event.occurred_at):
                if campaign.body.caps is not None and campaign.body.caps.order is not None:
                    caps += campaign.body.caps.order
        certificates: dict[str, str] = {} if w.certificates is None else json.loads(w.certificates)
        return Case(
            event=event, number=w.event, platform=w.platform_code, account=w.account, points=w.points, replaced=w.replaced,
            received_at=w.received_at,
            certificates=certificates, most=caps, **({} if known is None else {"kinds": known.activity_kinds}),
        )  # fmt: skip

    async def _write(
        self, connection: Connection, program: int, lease: Lease, waiting: Sequence[Waiting], verdicts: Sequence[Judged | Exception],
        seq: int, rest: Sequence[int],
    ) -> int:  # fmt: skip
        """One transaction: verdicts, what is held, and what may settle. Raises LeaseLost: nothing has changed."""
        rows = [self._row(w, v) for w, v in zip(waiting, verdicts, strict=True)]
        suspected = [s for w, v in zip(waiting, verdicts, strict=True) if (s := _suspected(w, v)) is not None]
        last = seq + len(rows)
        async with connection.transaction():
            held: list[holds.Held] = []
            if suspected and self._mode == "enforce":
                await holds.lock(connection, sorted({s.account for s in suspected}))
            await leases.still_mine(connection, lease)
            failpoints.at("judge.held")
            if not await store.finish(connection, program, before=seq, seq=last, taking=rest, tries=1 if rest else 0):
                raise LeaseLost(f"another judge of program {program} has written verdicts after {seq}")
            failpoints.at("judge.moved")
            await store.insert_verdicts(connection, program, seq, rows)
            failpoints.at("judge.told")
            opened = 0
            if suspected and self._mode == "enforce":
                held = await holds.hold(connection, program, suspected)
                failpoints.at("judge.kept")
                opened = await holds.file(connection, program, held, await holds.terms(connection, program))
            failpoints.at("judge.filed")
            stays = {h.suspected.event for h in held if h.state == "held"}
            await store.free(connection, [(w.bucket, w.event) for w in waiting if w.event not in stays])
            failpoints.at("judge.freed")
            for w, v in zip(waiting, verdicts, strict=True):
                if isinstance(v, Exception):
                    await holds.alert(
                        connection, program, w.event, f"Event {w.event} could not be judged and is held: {type(v).__name__}: {v}"
                    )
                    log.error("an event could not be judged; it is held", number=w.event, error=repr(v))
            failpoints.at("judge.written")
        _count(rows, held, opened)
        return last

    def _row(self, w: Waiting, v: Judged | Exception) -> VerdictRow:
        if isinstance(v, Exception):
            return VerdictRow(
                bucket=w.bucket, account=w.account, event=w.event, points=w.points, outcome=store.UNJUDGED,
                enforced=self._mode == "enforce", model=0, score=0, own=0,
            )  # fmt: skip
        earns = bool(v.strengths)
        outcome = (
            store.EARNS_NOTHING if not earns else store.HOLD if w.hint and v.verdict.outcome == "pass" else _OUTCOMES[v.verdict.outcome]
        )
        return VerdictRow(
            bucket=w.bucket, account=w.account, event=w.event, points=w.points, outcome=outcome,
            enforced=self._mode == "enforce", model=v.verdict.model, score=v.verdict.score_bp, own=v.verdict.own_bp,
            strengths=strengths_json(v.strengths) if earns else None,
        )  # fmt: skip


def _take_in(mind: Mind, cases: Sequence[Case]) -> None:
    for case in cases:
        with contextlib.suppress(Exception):  # it was held when it was judged; what it left is as it was then
            mind.take(case)


def _judge_all(mind: Mind, cases: Sequence[Case]) -> list[Judged | Exception]:
    """Judge one after the other; an event whose check raises does not stop the others."""
    verdicts: list[Judged | Exception] = []
    for case in cases:
        try:
            verdicts.append(mind.take(case))
        except Exception as error:  # noqa: BLE001 - whatever it is: the event is held, and somebody is told
            verdicts.append(error)
    return verdicts


def _suspected(w: Waiting, v: Judged | Exception) -> Suspected | None:
    if isinstance(v, Exception):
        if w.points <= 0:
            return None
        reason = Reason(
            signal="unchecked",
            strength=1,
            bp=BASIS,
            says=f"The checks could not judge it ({type(v).__name__}).",
            softly="A check is not finished.",
        )
        return Suspected(account=w.account, event=w.event, ring=w.account, score=0, reasons=_json([reason]), found="unchecked")
    if w.hint and v.strengths:
        signal, says, softly = _DOOR[w.hint]
        reason = Reason(signal=signal, strength=1, bp=BASIS, says=says, softly=softly)
        return Suspected(account=w.account, event=w.event, ring=w.account, score=v.verdict.score_bp, reasons=_json([reason]), found="door")
    if v.verdict.outcome == "pass" or v.features is None:
        return None
    why = _json(reasons(v.verdict, v.strengths, v.features))
    return Suspected(
        account=w.account, event=w.event, ring=v.ring, score=v.verdict.score_bp, reasons=why, found="arrival",
        at_once=v.verdict.outcome == "reject",
    )  # fmt: skip


def _json(why: Sequence[Reason]) -> str:
    return msgspec.json.encode(why).decode()


def strengths_json(strengths: Sequence[float]) -> str | None:
    """Strengths above 0 as JSON {signal: quarters}; None: there is none."""
    fired: Mapping[str, int] = {SIGNALS[i].name: round(4 * s) for i, s in enumerate(strengths) if s}
    return json.dumps(fired, separators=(",", ":")) if fired else None


def _count(rows: Sequence[VerdictRow], held: Sequence[holds.Held], opened: int) -> None:
    for outcome, n in _tally(rows).items():
        tallies.count(metrics.VERDICTS, outcome).add(n)
    if held:
        tallies.count(metrics.HELD_POINTS).add(sum(h.points for h in held if h.state == "held"))
    if opened:
        tallies.count(metrics.CASES_OPENED).add(opened)


_NAMES: Final = {0: "earns nothing", 1: "pass", 2: "hold", 3: "reject", 4: "unjudged"}


def _tally(rows: Sequence[VerdictRow]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for row in rows:
        name = _NAMES[row.outcome]
        sums[name] = sums.get(name, 0) + 1
    return sums


async def drain(pool: Pool) -> int:
    """Mode off: let everything pass that waits for a verdict; the number of events."""
    done = 0
    async with pool.acquire() as connection:
        while went := await store.drain(connection, PAGE):
            done += went
            if went < PAGE:
                break
    return done
