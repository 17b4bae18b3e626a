"""Judge: each event gets a verdict before it settles; one judge a program, under a lease, in batches.

The judge remembers what it has seen: that is what tells a burst from an order. Its memory is of this process; a snapshot in Redis spares
the next one most of the work, and what all of it rests on is in PostgreSQL (`verdict` says in which order events were taken in): without
Redis a judge looks at those events again before it judges another. A batch is announced before it is judged (`judge.taking`): an event at
which judges end, again and again, is found, and held for a person.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Literal

import msgspec
import structlog

from service import failpoints
from service.domain.fraud.judging import Judging
from service.domain.fraud.model import Judge, Model
from service.domain.fraud.state import OtherFormat, State
from service.flows.knowledge import Knowledge
from service.flows.verdicts import Rules, Told, Written, alert_words, all_suspected, case_of, count, judge_all, row_of, take_in, tell
from service.fraud_memory import Memory, Overtaken, Record
from service.projection import REDIS_UNREACHABLE
from service.store import fraud_holds as holds
from service.store import fraud_hours, fraud_lists, fraud_models, fraud_policy, leases
from service.store import screening as store
from service.store.connection import Connection, Pool, plan_by_index
from service.store.fraud_models import Active
from service.store.fraud_policy import Policy
from service.store.leases import Lease, LeaseLost
from service.store.screening import Waiting
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
            self.minds[program] = mind  # to go on from, if that took longer than the lease lasts
            failpoints.at("judge.remembered")
            if not await self._goes_on(connection, lease):
                return 0
            failpoints.at("judge.renewed")
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

    async def _goes_on(self, connection: Connection, lease: Lease) -> bool:
        try:
            await leases.still_mine(connection, lease)
        except LeaseLost:
            tallies.count(metrics.LEASES_LOST).add()
            return False
        return True

    async def _rules(self, connection: Connection, program: int) -> Rules:
        models = await fraud_models.active(connection, program)
        if self.model is not None:
            models = Active(running=self.model)
        return Rules(models, await fraud_policy.policy(connection, program), await fraud_lists.active(connection, program))

    # Memory

    async def _mind(self, connection: Connection, program: int, lease: Lease, rules: Rules) -> _Mind:
        """What this process remembers, if nobody has judged meanwhile; else what another one saved, and what was judged since."""
        mind = self.minds.pop(program, None)
        progress = await store.progress(connection, program)
        failpoints.at("judge.asked")
        if mind is not None and mind.seq == progress.seq:
            mind.judging.use(rules.judge)
            return mind
        if mind is not None and mind.seq < progress.seq:
            mind.judging.use(rules.judge)  # another one has judged meanwhile: what it judged is taken in
        else:
            mind = None
        began = time.monotonic()
        now, version = await store.now_and_catalogue(connection)
        catalogue = await self._knowledge.catalogue_at(connection, version)
        if mind is None:
            mind = await self._saved(program, progress.seq, rules)
        if mind is None:
            first = await store.place_at(connection, program, now - MEMORY, progress.seq)
            mind = _Mind(rules.judge, State(tracked=True), hash_key=self._hash_key, seq=first)
        start = mind.seq
        decisions = await store.told_since(connection, program, start)
        while mind.seq < progress.seq:
            page = await store.replay(connection, program, mind.seq, PAGE)
            through = page[-1][0] if page else progress.seq
            now_told = [d for d in decisions if d.told < through]
            decisions = decisions[len(now_told) :]
            cases = [(seq, case_of(w, catalogue, program)) for seq, w in page]
            await asyncio.to_thread(take_in, mind.judging, cases, now_told)
            mind.seq = through
            await leases.still_mine(connection, lease)
        for decided in decisions:
            tell(mind.judging, decided)
        if start < progress.seq:
            log.info(
                "a judge looked at what was judged before it", program=program, events=progress.seq - start,
                of_snapshot=mind.saved is not None, took_s=round(time.monotonic() - began, 1),
            )  # fmt: skip
        return mind

    async def _saved(self, program: int, last: int, rules: Rules) -> _Mind | None:
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

    async def _batch(self, connection: Connection, program: int, lease: Lease, mind: _Mind, rules: Rules) -> int:
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
        decisions = await store.untold(connection, program)
        if not waiting and not decisions:
            return 0
        rest = progress.taking[1:] if alone else []
        unjudged = alone and progress.tries >= MAX_TRIES
        if waiting and not unjudged:
            await store.begin(connection, program, progress.taking if alone else [w.event for w in waiting])
        failpoints.at("judge.begun")
        again = [s for decided in decisions for s in tell(mind.judging, decided)]
        told = await self._judge(connection, program, mind.judging, waiting, rules, skip=unjudged)
        failpoints.at("judge.judged")
        written = Written(told=told, again=again, decisions=[d.number for d in decisions], rest=rest)
        mind.seq = await self._write(connection, program, lease, written, mind.seq, rules.policy)
        failpoints.at("judge.committed")
        return len(waiting)

    async def _judge(
        self, connection: Connection, program: int, judging: Judging, waiting: Sequence[Waiting], rules: Rules, *, skip: bool
    ) -> list[Told]:
        if skip:
            stuck = JudgeStuck("the checks ended or hung at this event, again and again")
            return [Told(waiting=w, judged=None, error=stuck) for w in waiting]
        _, version = await store.now_and_catalogue(connection)
        catalogue = await self._knowledge.catalogue_at(connection, version)
        cases = [case_of(w, catalogue, program) for w in waiting]
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._timeout_s):
                told = await asyncio.to_thread(judge_all, judging, waiting, cases, rules)
        except TimeoutError:
            raise JudgeStuck(f"judging {len(waiting)} events took longer than {self._timeout_s} s") from None
        tallies.spread(metrics.JUDGE_SECONDS).add(time.perf_counter() - began)
        return told

    async def _write(self, connection: Connection, program: int, lease: Lease, w: Written, seq: int, policy: Policy) -> int:
        """One transaction: verdicts, what is held, and what may settle. Raises LeaseLost: nothing has changed."""
        enforces = self._mode == "enforce"
        told, rest = w.told, w.rest
        rows = [row_of(t, enforces=enforces) for t in told]
        suspected = all_suspected(w)
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
            if w.decisions:
                await store.tell(connection, w.decisions, seq)
                failpoints.at("judge.learnt")
            if suspected and enforces:
                held = await holds.hold(connection, program, suspected)
                failpoints.at("judge.kept")
                opened = await holds.file(connection, program, held, policy)
            failpoints.at("judge.filed")
            stays = {h.suspected.event for h in held if h.state == "held"}
            await store.free(connection, [(t.waiting.bucket, t.waiting.event) for t in told if t.waiting.event not in stays])
            failpoints.at("judge.freed")
            await fraud_hours.add(connection, program, rows, reasons={s.event: s.reasons for s in suspected if s.found != "look_back"})
            failpoints.at("judge.counted")
            for t in told:
                if t.error is not None:
                    await holds.alert(connection, program, t.waiting.event, alert_words(t.waiting.event, t.error))
                    log.error("an event could not be judged; it is held", number=t.waiting.event, error=repr(t.error))
            failpoints.at("judge.written")
        count(rows, held, opened)
        return last


async def drain(pool: Pool) -> int:
    """Mode off: let everything pass that waits for a verdict; the number of events."""
    done = 0
    async with pool.acquire() as connection:
        while went := await store.drain(connection, PAGE):
            done += went
            if went < PAGE:
                break
    return done


def _everything(state: State) -> list[Record]:
    return state.changed(everything=True)
