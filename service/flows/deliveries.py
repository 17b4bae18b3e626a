"""Inbound deliveries: from what came over the wire to facts, what is kept of those that failed, and their replay."""

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec
import structlog
from msgspec import Struct

from schemas.connectors import HookSettings
from schemas.deliveries import DeliveryEvent, Outcome, ReplayAnswer, ReplayResult
from schemas.events import EventAnswer
from service.domain.connectors import Headers, Hook, Translated, Untranslatable, translate
from service.domain.deliveries import MAX_DETAIL_CHARS, Delivery, event_of, kept_headers, outcome_of, word
from service.domain.errors import (
    ConsumerErased,
    GreenpointsError,
    InvalidRequest,
    InvalidState,
    NotFound,
    Overloaded,
    Unavailable,
    Undeclared,
)
from service.domain.intake import Sender, fact_of
from service.domain.posting import Fact
from service.domain.vocabulary import Vocabulary
from service.flows import associations, privacy_requests
from service.flows.administer import Change
from service.flows.knowledge import Knowledge
from service.flows.outcomes import Outcome as CreditOutcome
from service.flows.receive import receive
from service.flows.vocabulary import vocabulary_of
from service.sealing import Sealer, Unsealable
from service.store import audit
from service.store import callers as callers_store
from service.store import deliveries as store
from service.store.callers import Hook as StoredHook
from service.store.connection import UNREACHABLE, Connection, Pool

MAX_REPLAY_S = 20.0
"""A page of a replay ends here, whatever its limit; the next one goes on."""

log = structlog.get_logger("greenpoints.deliveries")

_settings = msgspec.json.Decoder(HookSettings)
_answers = msgspec.json.Decoder(EventAnswer)

Submit = Callable[[list[Fact]], Awaitable[list[CreditOutcome]]]
"""Credits facts and gives one outcome for each: a lane's `submit`."""


class Own(Protocol):
    """What a program's events may name beside the reference lists; `anew`: as it is now, not as it was a moment ago."""

    def __call__(self, *, anew: bool) -> Awaitable[Vocabulary]:
        """Of the hook's program."""


Tags = Callable[[Translated], Awaitable[Translated]]
"""What `service.flows.associations.applied` does, on a connection of its own when there is something to do."""

# Reading ----------------------------------------------------------------------------------------------


def hook_of(stored: StoredHook) -> Hook:
    """A stored hook as connectors take it."""
    return Hook(id=stored.id, connector=stored.connector, secrets=tuple(stored.secrets), settings=_settings.decode(stored.settings or "{}"))


async def facts_in(
    stored: StoredHook, headers: Headers, body: bytes, *, now: datetime, hash_key: bytes, own: Own, tags: Tags
) -> tuple[Translated, list[Fact]]:
    """What a verified delivery says, and its events checked like any other.

    Of events that are separate those that break a rule are named in `unread`, unless all that there is does. Raises Untranslatable, also
    for an event that breaks a rule, and what `own` and `tags` raise.
    """
    translated = await tags(translate(hook_of(stored), headers, body))
    facts, broken = _facts(translated, stored, await own(anew=False), now=now, hash_key=hash_key)
    if any(isinstance(error, Undeclared) for error in broken):
        facts, broken = _facts(translated, stored, await own(anew=True), now=now, hash_key=hash_key)
    unread = (*translated.unread, *(error.detail for error in broken))
    if (broken and not translated.separate) or (unread and not facts and not translated.associations):
        raise Untranslatable("; ".join(unread))
    return msgspec.structs.replace(translated, unread=unread), facts


def _facts(
    translated: Translated, stored: StoredHook, known: Vocabulary, *, now: datetime, hash_key: bytes
) -> tuple[list[Fact], list[InvalidRequest]]:
    """The events as facts, and what is wrong with the others."""
    sender = Sender(program=stored.program, platform=stored.platform, platform_code=stored.platform_code, own=known)
    facts, broken = [], []
    for event in translated.events:
        try:
            facts.append(fact_of(event, sender, now=now, hash_key=hash_key, newer_wins=True))
        except InvalidRequest as error:
            broken.append(error)
    return facts, broken


class Result(Struct, frozen=True, kw_only=True):
    """What came of a delivery that had events: those that were credited, now or before."""

    outcome: Outcome
    detail: str
    events: list[DeliveryEvent]


def result_of(outcomes: Sequence[CreditOutcome]) -> Result:
    """The outcome of a delivery from those of its events. That a person was erased is no failure: nobody can mend it.

    Raises Unavailable when one of them may work a moment later.
    """
    outcomes = [outcome for outcome in outcomes if not isinstance(outcome.error, ConsumerErased)]
    if not outcomes:
        return Result(
            outcome="ignored", detail="its consumer was erased, and the program takes no more events of an erased consumer", events=[]
        )
    for each in outcomes:
        if isinstance(each.error, Unavailable):
            raise each.error
    events = [event_of(_answers.decode(each.answer)) for each in outcomes if each.error is None]
    failed = len(events) < len(outcomes)
    outcome, detail = outcome_of(events, failed=failed, new=any(not each.replayed for each in outcomes))
    return Result(outcome=outcome, detail=detail, events=events)


def result_without_events(translated: Translated) -> Result:
    """The outcome of a delivery that reports nothing to credit."""
    outcome: Outcome = "noted" if translated.associations else "ignored"
    detail = associations.NOTED if translated.associations else translated.ignored or ""
    return with_unread(Result(outcome=outcome, detail=detail, events=[]), translated)


def with_unread(result: Result, translated: Translated) -> Result:
    """The same, but to be kept for a replay when a part of the delivery could not be read."""
    if not translated.unread or result.outcome == "failed":
        return result
    return Result(outcome="untranslatable", detail="; ".join(translated.unread), events=result.events)


# Keeping ----------------------------------------------------------------------------------------------


class _Kept(Struct, frozen=True):
    """What is sealed of a delivery."""

    headers: dict[str, str]
    body: bytes


async def keep(conn: Connection, row: Delivery, headers: Headers, body: bytes, sealer: Sealer) -> None:
    """Write down a delivery that verified and failed, with its body, sealed. Raises what PostgreSQL raises: then it is not kept."""
    plain = msgspec.msgpack.encode(_Kept(kept_headers(headers), body))
    sealed = await asyncio.to_thread(sealer.seal, plain)  # some MiB take some 10 ms
    await store.write(conn, [msgspec.structs.replace(row, sealed=sealed)])


def _opened(row: store.KeptDelivery, sealer: Sealer) -> _Kept:
    """Headers and body again. Raises Unsealable; InvalidState when they are not kept."""
    if row.sealed is not None:
        return msgspec.msgpack.decode(sealer.open_bytes(row.sealed), type=_Kept)
    if row.body is not None:  # of an older release, which kept two of the headers
        named = {"x-shopify-topic": row.topic, "webhook-id": row.delivery_id, "x-shopify-webhook-id": row.delivery_id}
        return _Kept({name: value for name, value in named.items() if value is not None}, row.body)
    raise InvalidState("The body of this delivery is not kept: only those of deliveries that verified and failed are, for a time.")


def _printable(result: Result) -> Result:
    return msgspec.structs.replace(result, detail=word(result.detail, max_chars=MAX_DETAIL_CHARS) or "")


def counted(results: Sequence[ReplayResult], *, dry_run: bool) -> ReplayAnswer:
    """What came of several deliveries, counted."""
    outcomes = [result.outcome for result in results]
    credited, duplicates, ignored = (outcomes.count(each) for each in ("credited", "duplicate", "ignored"))
    return ReplayAnswer(
        dry_run=dry_run, credited=credited, duplicates=duplicates, ignored=ignored,
        failed=len(results) - credited - duplicates - ignored, items=list(results), next_cursor=None,
    )  # fmt: skip


# Replaying --------------------------------------------------------------------------------------------


class Replayer:
    """Translates kept deliveries again, with the present settings of their hooks, and credits them like new ones.

    Safe to repeat: what was credited is known by its ids. The signature is not checked again: it was when the delivery came, and what
    is kept has been sealed since.
    """

    def __init__(
        self, pool: Pool, sealer: Sealer, *, submit: Submit, now: Callable[[], datetime], hash_key: Callable[[], bytes], grace: timedelta
    ) -> None:
        """`grace`: what `shop/redact` waits before everybody is erased."""
        self._pool = pool
        self._sealer = sealer
        self._submit = submit
        self._now = now
        self._hash_key = hash_key
        self._grace = grace

    async def one(self, id_: int, *, program: int, change: Change, dry_run: bool = False) -> ReplayResult:
        """Replay one delivery. Raises NotFound, InvalidState (no body is kept), Unavailable, Overloaded."""
        async with self._pool.acquire() as conn:
            row = await store.kept(conn, id_, program=program)
            if row is None:
                raise NotFound("There is no such delivery.")
            if row.sealed is None and row.body is None:
                _opened(row, self._sealer)
            if not dry_run:
                before = {"outcome": row.outcome, "attempts": row.attempts}
                await self._record(conn, program, change, f"delivery:{id_}", before=before, after={"attempts": row.attempts + 1})
        return await self._replay(row, dry_run=dry_run)

    async def page(
        self, selection: store.Selection, *, program: int, change: Change, after: int, limit: int, dry_run: bool = False
    ) -> tuple[list[ReplayResult], int | None]:
        """Replay at most `limit` deliveries with ids above `after`; what came of them, and after which id to go on (None: that was all).

        One that cannot be read or credited stops none of the others.
        """
        until = time.monotonic() + MAX_REPLAY_S
        async with self._pool.acquire() as conn:
            ids = await store.select(conn, selection, program=program, after=after, limit=limit + 1)
            if not dry_run:
                asked = {
                    "from": selection.from_, "to": selection.to, "hook": selection.hook, "platform": selection.platform,
                    "outcome": list(selection.outcomes), "deliveries": [str(id_) for id_ in ids[:limit]],
                }  # fmt: skip
                await self._record(conn, program, change, "deliveries", after=asked)
        results: list[ReplayResult] = []
        for id_ in ids[:limit]:
            if time.monotonic() > until:
                break
            async with self._pool.acquire() as conn:
                row = await store.kept(conn, id_, program=program)
            if row is not None:
                results.append(await self._try(row, dry_run=dry_run))
            after = id_
        return results, after if ids and after < ids[-1] else None

    async def _record(
        self, conn: Connection, program: int, change: Change, subject: str, *, after: dict[str, Any], before: dict[str, Any] | None = None
    ) -> None:
        """The audit row, before anything is credited: a process that is killed in between leaves no replay that nobody asked for."""
        await audit.record(
            conn, program=program, actor=change.actor, action="delivery.replay", subject=subject, before=before, after=after,
            request_id=change.request_id,
        )  # fmt: skip

    async def _try(self, row: store.KeptDelivery, *, dry_run: bool) -> ReplayResult:
        """Replay one of many: what is not there for it now is told, not raised."""
        try:
            return await self._replay(row, dry_run=dry_run)
        except (Overloaded, Unavailable) as error:
            return ReplayResult(id=str(row.id), outcome="unavailable", detail=error.detail, events=[])
        except UNREACHABLE:
            return ReplayResult(id=str(row.id), outcome="unavailable", detail="The database does not answer.", events=[])

    async def _replay(self, row: store.KeptDelivery, *, dry_run: bool) -> ReplayResult:
        result = await self._result(row, dry_run=dry_run)
        if not dry_run:
            async with self._pool.acquire() as conn:
                await store.replayed(conn, row.id, outcome=result.outcome, detail=result.detail, events=result.events)
        return ReplayResult(id=str(row.id), outcome=result.outcome, detail=result.detail, events=result.events)

    async def _result(self, row: store.KeptDelivery, *, dry_run: bool) -> Result:
        async with self._pool.acquire() as conn:
            stored = await callers_store.hook_of_any_state(conn, row.hook)
        if stored is None:
            return Result(outcome="untranslatable", detail="its hook is not there any more", events=[])
        try:
            opened = await asyncio.to_thread(_opened, row, self._sealer)
            own = functools.partial(self._own, stored.program)
            translated, facts = await facts_in(
                stored, opened.headers, opened.body, now=self._now(), hash_key=self._hash_key(), own=own,
                tags=functools.partial(self._tags, stored, dry_run=dry_run),
            )  # fmt: skip
            if translated.demand is not None:
                if not dry_run:
                    await self._ask(stored, translated)
                return Result(outcome="noted", detail=privacy_requests.NOTED, events=[])
            if not facts:
                return _printable(result_without_events(translated))
            result = result_of(await (self._tried_out(facts) if dry_run else self._submit(facts)))
            return _printable(with_unread(result, translated))
        except Untranslatable as error:
            return Result(outcome="untranslatable", detail=word(error.detail) or "", events=[])
        except Unsealable as error:
            return Result(outcome="failed", detail=str(error), events=[])
        except (GreenpointsError, *UNREACHABLE):
            raise
        except Exception:
            log.exception("a delivery could not be replayed", delivery=row.id)
            return Result(outcome="failed", detail="a defect of ours; it has been logged", events=[])

    async def _own(self, program: int, *, anew: bool) -> Vocabulary:  # noqa: ARG002 - PostgreSQL is asked each time
        async with self._pool.acquire() as conn:
            return await vocabulary_of(conn, program)

    async def _ask(self, hook: StoredHook, translated: Translated) -> None:
        assert translated.demand is not None
        async with self._pool.acquire() as conn:
            await privacy_requests.ask(
                conn, program=hook.program, platform=hook.platform, demand=translated.demand, source_key=translated.delivery_id,
                grace=self._grace,
            )  # fmt: skip

    async def _tags(self, stored: StoredHook, translated: Translated, *, dry_run: bool) -> Translated:
        if not associations.concern(translated):
            return translated
        async with self._pool.acquire() as conn:
            return await associations.applied(conn, stored.program, stored.platform, translated, dry_run=dry_run)

    async def _tried_out(self, facts: list[Fact]) -> list[CreditOutcome]:
        """What crediting would give: the real thing, rolled back. What it learns of accounts that are not there is thrown away with it."""
        async with self._pool.acquire() as conn:
            transaction = conn.transaction()
            await transaction.start()
            try:
                return (await receive(conn, facts, Knowledge())).outcomes
            finally:
                await transaction.rollback()
