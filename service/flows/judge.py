"""Judge: each event gets a verdict before it settles; one judge a program, under a lease, in batches.

The judge remembers what it has seen: that is what tells a burst from an order. Its memory is of this process; a snapshot in Redis spares
the next one most of the work, and what all of it rests on is in PostgreSQL (`verdict` says in which order events were taken in): without
Redis a judge looks at those events again before it judges another. A batch is announced before it is judged (`judge.taking`): an event at
which judges end, again and again, is found, and held for a person.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final, Literal, cast

import msgspec
import structlog
from msgspec import Struct

from schemas.events import Event, StoredEvent
from service import failpoints
from service.domain.catalogue import Catalogue
from service.domain.fraud.judging import Facts, Judging
from service.domain.fraud.lists import ListName, Lists
from service.domain.fraud.model import BASIS, Judge, Model, Reason, Verdict, reasons
from service.domain.fraud.pipeline import Judged
from service.domain.fraud.signals import SIGNALS
from service.domain.fraud.state import OtherFormat, State
from service.flows.knowledge import Knowledge
from service.fraud_memory import Memory, Overtaken, Record
from service.projection import REDIS_UNREACHABLE
from service.store import fraud_holds as holds
from service.store import fraud_hours, fraud_lists, fraud_models, fraud_policy, leases
from service.store import screening as store
from service.store.connection import Connection, Pool, plan_by_index
from service.store.fraud_holds import Suspected
from service.store.fraud_models import Active
from service.store.fraud_policy import Policy
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
SAVE_EVERY_S: Final = 5.0
"""What was judged since the snapshot in Redis is looked at again by the next judge: as many events as fit in there."""

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


class _Mind:
    """The judge of one program in this process, up to the verdict with the place `seq`."""

    def __init__(self, judge: Judge, state: State, *, hash_key: bytes, seq: int) -> None:
        self.judging = Judging(judge, state, hash_key=hash_key[:64])
        self.seq = seq
        self.saved: int | None = None
        """Up to where the snapshot in Redis goes; None: there is none of this memory."""
        self.unsaved: list[Record] = []
        """What changed, and could not be saved."""
        self.save_at = 0.0
        """The first time at once: everything there is, if there is no snapshot."""


class _Rules:
    """What a program says at the moment: models, policy, lists."""

    def __init__(self, models: Active, policy: Policy, lists: Lists) -> None:
        self.judge = Judge(models.running)
        self.shadow = None if models.shadow is None else Judge(models.shadow)
        self.policy = policy
        self.lists = lists


class _Told(Struct, kw_only=True):
    """An event with what came of it."""

    waiting: Waiting
    judged: Judged | None
    """None: it could not be judged."""
    error: Exception | None = None
    says: ListName | None = None
    shadow: Verdict | None = None

    @property
    def outcome(self) -> int:
        """As table `verdict` has it."""
        if self.judged is None:
            return store.UNJUDGED
        if not self.judged.strengths:
            return store.EARNS_NOTHING
        found = _OUTCOMES[self.judged.verdict.outcome]
        return store.HOLD if found == store.PASS and self.at_door else found

    @property
    def at_door(self) -> bool:
        """Whether the checks at the door, or a block list, hold it."""
        return self.says == "block" or (self.waiting.hint > 0 and self.says != "allow")


class Judges:
    """The judges of one process: one for each program that it has judged, as long as nobody else judges it."""

    def __init__(
        self, pool: Pool, knowledge: Knowledge, memory: Memory, *, mode: Literal["enforce", "shadow"], hash_key: bytes,
        check_timeout_s: float = CHECK_TIMEOUT_S, save_every_s: float = SAVE_EVERY_S,
    ) -> None:  # fmt: skip
        self._pool = pool
        self._knowledge = knowledge
        self._memory = memory
        self._mode = mode
        self._hash_key = hash_key
        self._timeout_s = check_timeout_s
        self._save_every_s = save_every_s
        self.model: Model | None = None
        """In place of what the program has; for tests."""
        self.minds: dict[int, _Mind] = {}

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
            rules = await self._rules(connection, program)
            mind = await self._mind(connection, program, lease, rules)
            failpoints.at("judge.remembered")
            for _ in range(MAX_BATCHES):
                judged = await self._batch(connection, program, lease, mind, rules)
                done += judged
                if not judged:
                    break
            self.minds[program] = mind
            if time.monotonic() >= mind.save_at:
                await self._save(program, lease, mind)
                failpoints.at("judge.saved")
            await leases.give_back(connection, lease)
        except LeaseLost:
            self.minds.pop(program, None)  # it may have taken in what was not written
            tallies.count(metrics.LEASES_LOST).add()
        except BaseException:
            self.minds.pop(program, None)
            raise
        return done

    async def _rules(self, connection: Connection, program: int) -> _Rules:
        models = await fraud_models.active(connection, program)
        if self.model is not None:
            models = Active(running=self.model)
        return _Rules(models, await fraud_policy.policy(connection, program), await fraud_lists.active(connection, program))

    # Memory

    async def _mind(self, connection: Connection, program: int, lease: Lease, rules: _Rules) -> _Mind:
        """What this process remembers, if nobody has judged meanwhile; else what another one saved, and what was judged since."""
        mind = self.minds.pop(program, None)
        progress = await store.progress(connection, program)
        failpoints.at("judge.asked")
        if mind is not None and mind.seq == progress.seq:
            mind.judging.use(rules.judge)
            return mind
        began = time.monotonic()
        now, version = await store.now_and_catalogue(connection)
        catalogue = await self._knowledge.catalogue_at(connection, version)
        mind = await self._saved(program, progress.seq, rules)
        if mind is None:
            first = await store.place_at(connection, program, now - MEMORY, progress.seq)
            mind = _Mind(rules.judge, State(tracked=True), hash_key=self._hash_key, seq=first)
        start = mind.seq
        while mind.seq < progress.seq:
            page = await store.replay(connection, program, mind.seq, PAGE)
            await asyncio.to_thread(_take_in, mind.judging, [self._case(w, catalogue, program) for _, w in page])
            mind.seq = page[-1][0] if page else progress.seq
            await leases.still_mine(connection, lease)
        if start < progress.seq:
            log.info(
                "a judge looked at what was judged before it", program=program, events=progress.seq - start,
                of_snapshot=mind.saved is not None, took_s=round(time.monotonic() - began, 1),
            )  # fmt: skip
        return mind

    async def _saved(self, program: int, last: int, rules: _Rules) -> _Mind | None:
        try:
            snapshot = await self._memory.load(program)
        except REDIS_UNREACHABLE as error:
            log.warning("Redis does not answer; looking at PostgreSQL instead", program=program, error=type(error).__name__)
            return None
        if snapshot is None or snapshot.seq > last:
            return None
        try:
            state = await asyncio.to_thread(State.restored, snapshot.records)
        except (OtherFormat, msgspec.DecodeError) as error:
            log.warning("the snapshot cannot be read; looking at PostgreSQL instead", program=program, error=str(error))
            return None
        mind = _Mind(rules.judge, state, hash_key=self._hash_key, seq=snapshot.seq)
        mind.saved = snapshot.seq
        return mind

    async def _save(self, program: int, lease: Lease, mind: _Mind) -> None:
        """Save what changed, or everything where Redis has no snapshot to add it to. What cannot be saved now comes with the next time."""
        mind.save_at = time.monotonic() + self._save_every_s
        state, seq = mind.judging.state, mind.seq
        if mind.saved == seq:
            return
        mind.unsaved += await asyncio.to_thread(state.changed)
        try:
            if mind.saved is not None and await self._memory.save(program, lease.token, mind.unsaved, before=mind.saved, seq=seq):
                mind.saved, mind.unsaved = seq, []
                return
            mind.saved, mind.unsaved = None, []  # Redis was lost, or has somebody else's
            await self._memory.save_everything(program, lease.token, await asyncio.to_thread(_everything, state), seq=seq)
            mind.saved = seq
        except Overtaken:
            mind.saved = None
        except REDIS_UNREACHABLE as error:
            mind.saved, mind.unsaved = None, []  # whether it was written nobody knows
            tallies.count(metrics.FRAUD_REDIS_FAILURES).add()
            log.warning("what the judge remembers cannot be saved; trying again", program=program, error=type(error).__name__)

    # One batch

    async def _batch(self, connection: Connection, program: int, lease: Lease, mind: _Mind, rules: _Rules) -> int:
        """Judge a batch in one transaction after announcing it; how many events."""
        progress = await store.progress(connection, program)
        failpoints.at("judge.looked")
        alone = bool(progress.taking)
        if alone:
            head = await store.suspect(connection, program, progress.taking[0])
            waiting = [] if head is None else [head]
            if head is None:
                rest = progress.taking[1:]
                await store.reset(connection, program, taking=rest, tries=1 if rest else 0)
                return 1  # look again
        else:
            waiting = await store.waiting(connection, program, BATCH)
        if not waiting:
            return 0
        rest = progress.taking[1:] if alone else []
        unjudged = alone and progress.tries >= MAX_TRIES
        if not unjudged:
            await store.begin(connection, program, progress.taking if alone else [w.event for w in waiting])
        failpoints.at("judge.begun")
        told = await self._judge(connection, program, mind.judging, waiting, rules, skip=unjudged)
        failpoints.at("judge.judged")
        mind.seq = await self._write(connection, program, lease, told, mind.seq, rest, rules.policy)
        failpoints.at("judge.committed")
        return len(waiting)

    async def _judge(
        self, connection: Connection, program: int, judging: Judging, waiting: Sequence[Waiting], rules: _Rules, *, skip: bool
    ) -> list[_Told]:
        if skip:
            stuck = JudgeStuck("the checks ended or hung at this event, again and again")
            return [_Told(waiting=w, judged=None, error=stuck) for w in waiting]
        _, version = await store.now_and_catalogue(connection)
        catalogue = await self._knowledge.catalogue_at(connection, version)
        cases = [self._case(w, catalogue, program) for w in waiting]
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                told = await asyncio.to_thread(_judge_all, judging, waiting, cases, rules)
        except TimeoutError:
            raise JudgeStuck(f"judging {len(waiting)} events took longer than {self._timeout_s} s") from None
        tallies.spread(metrics.JUDGE_SECONDS).add(time.perf_counter() - began)
        return told

    def _case(self, w: Waiting, catalogue: Catalogue, program: int) -> tuple[StoredEvent, Facts]:
        event = _events.decode(w.facts)
        known = catalogue.programs.get(program)
        caps = 0
        if (action := _ACTIONS.get(w.type)) is not None:
            for campaign in catalogue.candidates(program, action, w.platform_code, event.occurred_at):
                if campaign.body.caps is not None and campaign.body.caps.order is not None:
                    caps += campaign.body.caps.order
        certificates: dict[str, str] = {} if w.certificates is None else json.loads(w.certificates)
        facts = Facts(
            number=w.event, platform=w.platform_code, account_id=w.account, opened_at=event.occurred_at, points=w.points,
            received_at=w.received_at, certificates=certificates, most=caps, kinds={} if known is None else known.activity_kinds,
        )  # fmt: skip
        return event, facts

    async def _write(
        self, connection: Connection, program: int, lease: Lease, told: Sequence[_Told], seq: int, rest: Sequence[int], policy: Policy
    ) -> int:
        """One transaction: verdicts, what is held, and what may settle. Raises LeaseLost: nothing has changed."""
        enforces = self._mode == "enforce"
        rows = [_row(t, enforces=enforces) for t in told]
        suspected = [s for t in told if (s := _suspected(t)) is not None]
        last = seq + len(rows)
        held: list[holds.Held] = []
        opened = 0
        async with connection.transaction():
            if suspected and enforces:
                await holds.lock(connection, sorted({s.account for s in suspected}))
            await leases.still_mine(connection, lease)
            failpoints.at("judge.held")
            if not await store.finish(connection, program, before=seq, seq=last, taking=rest, tries=1 if rest else 0):
                raise LeaseLost(f"another judge of program {program} has written verdicts after {seq}")
            failpoints.at("judge.moved")
            await store.insert_verdicts(connection, program, seq, rows)
            failpoints.at("judge.told")
            if suspected and enforces:
                held = await holds.hold(connection, program, suspected)
                failpoints.at("judge.kept")
                opened = await holds.file(connection, program, held, policy)
            failpoints.at("judge.filed")
            stays = {h.suspected.event for h in held if h.state == "held"}
            await store.free(connection, [(t.waiting.bucket, t.waiting.event) for t in told if t.waiting.event not in stays])
            failpoints.at("judge.freed")
            await fraud_hours.add(connection, program, rows, reasons={s.event: s.reasons for s in suspected})
            failpoints.at("judge.counted")
            for t in told:
                if t.error is not None:
                    await holds.alert(connection, program, t.waiting.event, _alert(t.waiting.event, t.error))
                    log.error("an event could not be judged; it is held", number=t.waiting.event, error=repr(t.error))
            failpoints.at("judge.written")
        _count(rows, held, opened)
        return last


Case = tuple[StoredEvent, Facts]


def _take_in(judging: Judging, cases: Sequence[Case]) -> None:
    for event, facts in cases:
        with contextlib.suppress(Exception):  # it was held when it was judged; what it left is as it was then
            judging.judge_event(cast("Event", event), facts)


def _judge_all(judging: Judging, waiting: Sequence[Waiting], cases: Sequence[Case], rules: _Rules) -> list[_Told]:
    """Judge one after the other; an event whose check raises does not stop the others."""
    told: list[_Told] = []
    for w, (event, facts) in zip(waiting, cases, strict=True):
        try:
            judged = judging.judge_event(cast("Event", event), facts)
            says = rules.lists.says(w.account, event.attributes) if judged.strengths else None
            shadow = rules.shadow.decide(judged.strengths) if rules.shadow is not None and judged.strengths else None
            told.append(_Told(waiting=w, judged=judged, says=says, shadow=shadow))
        except Exception as error:  # noqa: BLE001 - whatever it is: the event is held, and somebody is told
            told.append(_Told(waiting=w, judged=None, error=error))
    return told


def _everything(state: State) -> list[Record]:
    return state.changed(everything=True)


def _row(t: _Told, *, enforces: bool) -> VerdictRow:
    w, v, shadow = t.waiting, t.judged, t.shadow
    if v is None:
        return VerdictRow(
            bucket=w.bucket,
            account=w.account,
            event=w.event,
            points=w.points,
            outcome=t.outcome,
            enforced=enforces,
            model=0,
            score=0,
            own=0,
        )
    return VerdictRow(
        bucket=w.bucket, account=w.account, event=w.event, points=w.points, outcome=t.outcome, enforced=enforces and t.says != "allow",
        model=v.verdict.model, score=v.verdict.score_bp, own=v.verdict.own_bp, strengths=strengths_json(v.strengths),
        shadow_model=None if shadow is None else shadow.model, shadow_score=None if shadow is None else shadow.score_bp,
        shadow_outcome=None if shadow is None else _OUTCOMES[shadow.outcome],
    )  # fmt: skip


def _suspected(t: _Told) -> Suspected | None:
    """What is to be held of it, and why; None: it passes."""
    w, v = t.waiting, t.judged
    if v is None:
        if w.points <= 0:
            return None
        says = f"The checks could not judge it ({type(t.error).__name__})."
        reason = Reason(signal="unchecked", strength=1, bp=BASIS, says=says, softly="A check is not finished.")
        return Suspected(account=w.account, event=w.event, ring=w.account, score=0, reasons=_json([reason]), found="unchecked")
    if t.outcome in (store.EARNS_NOTHING, store.PASS) or t.says == "allow":
        return None
    why = [] if v.features is None or v.verdict.outcome == "pass" else reasons(v.verdict, v.strengths, v.features)
    if t.at_door:
        signal, says, softly = _DOOR[1 if t.says == "block" else w.hint]
        why.insert(0, Reason(signal=signal, strength=1, bp=BASIS, says=says, softly=softly))
    return Suspected(
        account=w.account, event=w.event, ring=v.ring or w.account, score=v.verdict.score_bp, reasons=_json(why),
        found="door" if t.at_door else "arrival", at_once=v.verdict.outcome == "reject",
    )  # fmt: skip


def _alert(event: int, error: Exception) -> str:
    return f"Event {event} could not be judged and is held: {type(error).__name__}: {error}"[:500]


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
