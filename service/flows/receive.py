"""Receive: many facts, one transaction (DESIGN §1): register, lock, read, decide, write, commit."""

import asyncio
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter

import msgspec
from asyncpg import Record
from msgspec import Struct

from schemas.events import (
    ActivityCompleted,
    Balance,
    Event,
    EventAnswer,
    EventErrorDeclared,
    OrderFulfilled,
    OrderPaid,
    PackagingReturned,
    Refusal,
    StoredEvent,
)
from schemas.problems import FieldError
from service import failpoints
from service.domain.catalogue import Catalogue
from service.domain.claims import Claims, NotAsked
from service.domain.errors import ConsumerErased, IdReused, InvalidRequest
from service.domain.fold import Fold, OrderState
from service.domain.fraud.door import Visit
from service.domain.granting import Scope
from service.domain.hours import start_of_hour
from service.domain.keys import Kind, bucket_of, platform_key
from service.domain.posting import Account, Fact, OrderKey, Parked, Stored
from service.domain.privacy import scrub
from service.domain.returns import Declared
from service.domain.usage import Usage
from service.flows import packing
from service.flows.knowledge import Knowledge
from service.flows.outcomes import Outcome, Received
from service.store import credit as store
from service.store import fraud_lists, vault
from service.store import packaging as store_packaging
from service.store.connection import Connection
from service.store.locks import share_catalogue

MAX_ATTEMPTS = 3
"""Of one batch. The second locks budgets before it reads them, the third keeps erasures waiting before it looks for accounts."""
MAX_MOVES = 4
"""Attempts after which a batch whose accounts are linked and split all the time is given up."""
MAX_CATALOGUE_RELOADS = 3
DECIDE_AT_ONCE = 100
"""Facts of a batch that are decided before other requests get a turn."""
NOBODY = 0
"""No account has this id."""
_ACTIONS = {"order.paid": ("purchase",), "packaging.returned": ("return",), "activity.completed": ("activity",)}
_DECLARABLE = frozenset({OrderFulfilled, PackagingReturned, ActivityCompleted})
"""What can be declared wrong; orders are cancelled or refunded."""
_KEY = itemgetter(0, 1, 2)
_event_decoder = msgspec.json.Decoder(StoredEvent)
_encoder = msgspec.json.Encoder()
EVENT, ORDER = int(Kind.EVENT), int(Kind.ORDER)

Reference = tuple[int, str]
"""platform, the platform's name for a consumer."""


class _Batch:
    """The facts of one transaction, told apart by key."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.facts = facts
        self.first: dict[tuple[int, str], int] = {}
        """(program, event key) → index of the first fact with it; later ones are repeats."""
        for i, fact in enumerate(facts):
            self.first.setdefault(fact.key, i)
        self.distinct = [facts[i] for i in self.first.values()]


class _Contended(Exception):
    """The batch was decided on a reading that does not hold: roll back, lock first, and read then."""


class _Moved(Exception):
    """Accounts were linked, or split again, since this process looked: it knows now, and the batch begins anew."""


class _Refused(Exception):
    """These references were erased, and their program wants no events of them any more."""

    def __init__(self, references: set[Reference]) -> None:
        super().__init__()
        self.references = references


async def receive(connection: Connection, facts: Sequence[Fact], knowledge: Knowledge, *, stripe: int | None = None) -> Received:
    """Credit facts in one transaction; a repeat gets the stored first answer. `stripe`: which roll-up rows to write.

    Safe to repeat: a fact that is registered is never credited again. Raises what PostgreSQL raises; then nothing of the
    batch is written, and the caller may split it.
    """
    declarations = [i for i, fact in enumerate(facts) if type(fact.event) is EventErrorDeclared]
    if declarations and len(facts) > 1:
        return await _receive_apart(connection, facts, declarations, knowledge, stripe)
    batch = _Batch(facts)
    stripe = knowledge.stripe if stripe is None else stripe
    careful = False
    moves = attempt = 0
    while True:
        attempt += 1
        vault_version = knowledge.vault_version if attempt < MAX_ATTEMPTS else None  # of whatever account is taken from memory
        try:
            with knowledge.door.visit() as visit:
                if declarations:
                    received = await _declare(connection, facts[0], knowledge, visit, stripe)
                    failpoints.at("declare.committed")
                    return received
                return await _receive(connection, batch, knowledge, visit, stripe, vault_version, careful=careful)
        except (_Contended, NotAsked):
            current = await vault.version(connection)
            if (careful and current == vault_version) or attempt == MAX_ATTEMPTS:
                raise
            knowledge.forget(current)
            careful = True
        except _Moved:
            moves, attempt = moves + 1, attempt - 1
            if moves == MAX_MOVES:
                raise
        except _Refused as refusal:
            return await _receive_others(connection, facts, refusal.references, knowledge, stripe)


async def _receive_apart(
    connection: Connection, facts: Sequence[Fact], apart: Sequence[int], knowledge: Knowledge, stripe: int | None
) -> Received:
    """What declares other events wrong comes after them, each in a transaction of its own."""
    others = [i for i in range(len(facts)) if i not in set(apart)]
    outcomes: dict[int, Outcome] = {}
    received = Received(outcomes=[], changed=[], due_now=False, credited=[])
    for part in [others, *([i] for i in apart)]:
        if part:
            one = await receive(connection, [facts[i] for i in part], knowledge, stripe=stripe)
            outcomes |= dict(zip(part, one.outcomes, strict=True))
            received.changed += one.changed
            received.due_now = received.due_now or one.due_now
            received.credited += one.credited
            received.at_door += one.at_door
    received.outcomes = [outcomes[i] for i in range(len(facts))]
    return received


async def _receive_others(
    connection: Connection, facts: Sequence[Fact], refused: set[Reference], knowledge: Knowledge, stripe: int
) -> Received:
    """Refuse the events of erased persons, receive the others."""
    others = [fact for fact in facts if not (_opens_account(fact) and _reference(fact) in refused)]
    received = Received(outcomes=[], changed=[], due_now=False, credited=[])
    if others:
        received = await receive(connection, others, knowledge, stripe=stripe)
    came = iter(received.outcomes)
    accepted = {id(fact) for fact in others}
    received.outcomes = [next(came) if id(fact) in accepted else Outcome(error=_erased()) for fact in facts]
    return received


def _erased() -> ConsumerErased:
    detail = "was erased, and the program takes no more events of an erased consumer"
    return ConsumerErased(f"The consumer {detail}.", [FieldError(pointer="/consumer", detail=detail)])


async def _receive(
    connection: Connection, batch: _Batch, knowledge: Knowledge, visit: Visit, stripe: int, vault_version: int | None, *, careful: bool
) -> Received:
    """One attempt. A budget is read without its lock and guarded when it is written, so that batches do not queue for it.

    Near its end, or when `careful`, its row is locked first: only then may it cut an award. `vault_version`: that what this process
    remembers was read at; None: lock first, and ask. That is for batches that met one erasure after the other, because opening
    accounts under that lock may have to wait for PostgreSQL to untangle who waits for whom.
    """
    async with connection.transaction():
        if vault_version is None:
            await share_catalogue(connection)
            vault_version = await vault.version(connection)
            knowledge.forget(vault_version)
        accounts, learnt, opened = await _accounts_of_references(connection, batch, knowledge)
        failpoints.at("receive.referenced")
        new, orders, early = await _open(connection, batch, accounts, knowledge, visit, vault_version, careful=careful)
        failpoints.at("receive.opened")
        repeats = [fact for fact in batch.distinct if fact.key not in new]
        fresh = [fact for fact in batch.distinct if fact.key in new] if repeats else batch.distinct
        if opened and (needless := opened - {_reference(fact) for fact in fresh if _opens_account(fact)}):
            # Only a changed repeat names a consumer that nobody knew: it is refused, and a refusal changes nothing.
            await store.close_accounts(connection, sorted(needless))
            accounts = {reference: account for reference, account in accounts.items() if reference not in needless}
        stored = await store.stored_answers(connection, [(*f.key, f.platform) for f in repeats]) if repeats else {}
        failpoints.at("receive.known")
        late = [fact for fact in fresh if not _opens_account(fact) and fact.order_key and orders[fact.order_key].erased]
        for fact in late:
            _scrub(fact)
        fold, met, locked = await _fold(connection, fresh, accounts, orders, knowledge, visit, early=early, careful=careful)
        failpoints.at("receive.read")
        for n, fact in enumerate(_paid_first(fresh), 1):
            if n % DECIDE_AT_ONCE == 0:
                await asyncio.sleep(0)
            account = accounts.get((fact.platform, fact.event.consumer or ""))
            fold.credit(fact, new[fact.key], None if account is None else fold.accounts[account])
        if fold.scope.usage.cut_by_budget and not locked:
            raise _Contended
        late += await _keep_little(connection, fold, accounts)
        failpoints.at("receive.decided")
        written = await _write(connection, fold, met, stripe, vault_version)
        failpoints.at("receive.written")
        if late:
            await _forget_hashes(connection, late)
            failpoints.at("receive.scrubbed")
    failpoints.at("receive.committed")
    if learnt:
        knowledge.remember({reference: account for reference, account in learnt.items() if reference in accounts}, vault_version)
    # What was parked by an earlier batch and picked up by this one keeps its first answer.
    answers = written if len(written) == len(new) else {key: answer for key, answer in written.items() if key in new}
    outcomes = [_outcome(fact, i, batch, answers, stored) for i, fact in enumerate(batch.facts)]
    return _received(fold, outcomes, visit)


def _received(fold: Fold, outcomes: list[Outcome], visit: Visit) -> Received:
    changed = [a for a in fold.accounts.values() if a.version != a.was]
    soon = fold.scope.now + timedelta(seconds=1)
    return Received(
        outcomes=outcomes, changed=changed, due_now=any(p.granted is not None and p.granted.due_at <= soon for _, p in fold.granted),
        credited=[(s.number, s.fact.event.TYPE, s.answer.status) for s in (*fold.stored, *fold.parked) if s.first_answer is None],
        at_door=visit.found,
    )  # fmt: skip


def _scrub(fact: Fact) -> None:
    """Keep nothing free of it."""
    fact.facts = _encoder.encode(scrub(msgspec.structs.replace(fact.event, consumer=None)))


async def _forget_hashes(connection: Connection, facts: Sequence[Fact]) -> None:
    for program in {fact.program for fact in facts}:
        await vault.forget_hashes(connection, program, [fact.key[1] for fact in facts if fact.program == program])


async def _keep_little(connection: Connection, fold: Fold, named: dict[Reference, int]) -> list[Fact]:
    """Scrub returns that count for somebody who was erased, or for somebody else than they name: no erasure would find them later."""
    packaging = fold.packaging
    returns = [
        stored for stored in fold.stored if packaging.assets
        and type(stored.fact.event) is PackagingReturned and stored.account != named.get(_reference(stored.fact))
    ]  # fmt: skip
    if not returns:
        return []
    gone = await vault.unknown(connection, {stored.account for stored in returns})
    little = [
        stored.fact for stored in returns
        if stored.account in gone or stored.fact.event.consumer is not None or packaging.waiting[stored.number].names_another
    ]  # fmt: skip
    for fact in little:
        _scrub(fact)
    return little


async def _declare(connection: Connection, fact: Fact, knowledge: Knowledge, visit: Visit, stripe: int) -> Received:
    """An event that declares another wrong, in a transaction of its own.

    Where the other has not come yet, this takes its key: when it comes it is a repeat, and counts for nothing.
    """
    event = fact.event
    assert type(event) is EventErrorDeclared
    wrong_key = platform_key(fact.platform, event.error.event)
    program, key = fact.key
    async with connection.transaction():
        vault_version = await vault.version(connection)
        knowledge.forget(vault_version)
        keys: list[store.NewKey] = sorted(
            [(program, EVENT, key, fact.request_hash, None, None), (program, EVENT, wrong_key, None, None, None)], key=_KEY
        )
        opening = await store.open_batch(connection, keys, [], [], [])
        failpoints.at("declare.registered")
        number = opening.events.get((program, key))
        if number is None:
            if (program, wrong_key) in opening.events:
                await store_packaging.unregister(connection, program, wrong_key)
                failpoints.at("declare.unregistered")
            stored = await store.stored_answers(connection, [(program, key, fact.platform)])
            return Received(outcomes=[_outcome(fact, 0, _Batch([fact]), {}, stored)], changed=[], due_now=False, credited=[])
        found, is_erased = await _lock_declared(connection, fact, wrong_key)
        if found["type"] is None:
            return await _declare_unapplied(connection, fact, event, number, found, opening.events.get((program, wrong_key)))
        declared = Declared(number=found["number"], account=found["account"], event=_event_decoder.decode(found["facts"]), awards=[])
        if type(declared.event) not in _DECLARABLE:
            declared = Declared(number=0, account=declared.account, event=event, awards=[])
            fact.order_key = None  # it changes nothing of the order, which may be somebody else's
        orders: dict[OrderKey, OrderState] = {}
        if fact.order_key is not None:
            order = orders[fact.order_key] = OrderState(found["account"])
            order.registered_before = True
            order.erased = is_erased
        await _ask_lists(connection, visit, knowledge, opening.fraud_version, [fact])
        fold, met, locked = await _fold(connection, [fact], {}, orders, knowledge, visit, careful=True, declared=declared)
        failpoints.at("declare.read")
        if not met.accounts | {declared.account} <= fold.accounts.keys():
            raise _Contended
        late = [fact] if await vault.is_erased(connection, declared.account, fact.platform) else []
        for each in late:
            _scrub(each)
        fold.declare_wrong(fact, event, number, declared)
        if fold.scope.usage.cut_by_budget and not locked:
            raise _Contended
        late += await _keep_little(connection, fold, {})
        written = await _write(connection, fold, met, stripe, vault_version)
        failpoints.at("declare.written")
        await _forget_declared(connection, program, declared, late)
    return _received(fold, [Outcome(answer=written[fact.key])], visit)


async def _lock_declared(connection: Connection, fact: Fact, key: str) -> tuple[Record, bool]:
    """What is declared wrong, with its order locked, or itself while it waits; and whether the order's consumer was erased."""
    found = await store_packaging.find_declared(connection, fact.program, fact.platform, key)
    assert found is not None, "its key is registered"
    is_erased = False
    if order_id := found["order_id"] or found["parked_order"]:
        fact.order_key = (fact.platform, order_id)
        owners = await store.lock_orders(connection, [(fact.program, platform_key(*fact.order_key))])
        is_erased = any(erased for _, erased in owners.values())
    if found["parked_type"] is not None:
        await store_packaging.lock_parked(connection, [(fact.program, found["number"])])
    if order_id or found["parked_type"] is not None:  # a later statement: it sees what these have waited for
        found = await store_packaging.find_declared(connection, fact.program, fact.platform, key)
        assert found is not None
    return found, is_erased


async def _forget_declared(connection: Connection, program: int, declared: Declared, late: Sequence[Fact]) -> None:
    """What was declared wrong waits for nothing and was never given back."""
    await _forget_hashes(connection, late)
    if type(declared.event) is PackagingReturned:
        await store_packaging.forget_waiting(connection, program, declared.number)
        await store_packaging.forget_back(connection, declared.account, declared.number)
    failpoints.at("declare.forgotten")


async def _declare_unapplied(
    connection: Connection, fact: Fact, event: EventErrorDeclared, number: int, found: Record, unknown: int | None
) -> Received:  # fmt: skip
    """What is declared wrong has not come, or waits: it will never count."""
    now: datetime = await connection.fetchval("SELECT now()")
    _scrub(fact)  # it is about nobody whom an erasure would find it by
    if found["scrubbed_at"] is not None:
        await _forget_hashes(connection, [fact])
    detail = "It was declared wrong before it counted."
    refused = [Refusal(code="declared_wrong", detail=detail)]
    answer = EventAnswer(id=event.id, status="ignored", points=0, available_at=None, awards=[], refused=refused, balance=Balance())
    told = Stored(bucket=0, account=0, number=number, fact=fact, received_at=now, points=0, version=0, answer=answer)
    rows = [(told, _encoder.encode(answer).decode())]
    if unknown is not None:
        instead = msgspec.structs.replace(fact, event=msgspec.structs.replace(event, id=event.error.event))
        none = msgspec.structs.replace(answer, id=event.error.event)
        rows.append((msgspec.structs.replace(told, number=unknown, fact=instead, answer=none), _encoder.encode(none).decode()))
    await store.park(connection, rows)
    for stored, _ in rows:
        await store_packaging.declare_parked_wrong(connection, fact.program, stored.number)
    if unknown is None:
        await store_packaging.declare_parked_wrong(connection, fact.program, found["number"])
    failpoints.at("declare.unapplied")
    return Received(outcomes=[Outcome(answer=rows[0][1].encode())], changed=[], due_now=False, credited=[(number, event.TYPE, "ignored")])


async def preview(connection: Connection, fact: Fact, knowledge: Knowledge, as_of: datetime | None) -> EventAnswer:
    """What `receive` would answer, with nothing written, locked or counted. `as_of`: the time to decide at (None: now)."""
    for moves in range(1, MAX_MOVES + 1):
        try:
            return await _preview(connection, fact, knowledge, as_of)
        except _Moved:
            if moves == MAX_MOVES:
                raise
    raise AssertionError("the last attempt raises")


async def _preview(connection: Connection, fact: Fact, knowledge: Knowledge, as_of: datetime | None) -> EventAnswer:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        reference = (fact.platform, fact.event.consumer or "")
        accounts = await store.find_accounts(connection, [reference])
        account = accounts.get(reference, 0)
        if not account and await vault.is_refused(connection, program=fact.program, platform=fact.platform, reference=reference[1]):
            raise _erased()
        orders = await _known_orders(connection, [fact])
        if type(fact.event) is EventErrorDeclared:
            raise InvalidRequest("A declaration cannot be tried out: send it, or leave it.")
        with knowledge.door.visit() as visit:
            await _ask_lists(connection, visit, knowledge, await fraud_lists.version(connection), [fact])
            fold, _, _ = await _fold(connection, [fact], accounts, orders, knowledge, visit, dry=True, as_of=as_of)
            known = fold.accounts.get(account) or Account(id=0, program=fact.program)
            answer = fold.credit(fact, 0, known)
            visit.take_back()
        return answer


# Register --------------------------------------------------------------------------------------------


async def _accounts_of_references(
    connection: Connection, batch: _Batch, knowledge: Knowledge
) -> tuple[dict[Reference, int], dict[Reference, int], set[Reference]]:
    """Accounts by reference, those of them that this process had not met, and those that are opened now, to earn for the first time."""
    accounts: dict[Reference, int] = {}
    learnt: dict[Reference, int] = {}
    opened: set[Reference] = set()
    unknown: dict[Reference, int] = {}
    known = knowledge.references
    for fact in batch.distinct:
        if fact.event.consumer is not None and _opens_account(fact):
            reference = (fact.platform, fact.event.consumer)
            if (account := known.get(reference)) is None:
                unknown[reference] = fact.program
            else:
                accounts[reference] = account
    if unknown:
        wanted = sorted((program, *reference, secrets.randbits(63)) for reference, program in unknown.items())
        learnt, opened, refused = await store.find_or_create_accounts(connection, wanted)
        if refused:
            raise _Refused(refused)
        if len(learnt) < len(wanted):
            raise _Contended  # somebody who was just being opened has just been erased
        accounts |= learnt
    return accounts, learnt, opened


def _opens_account(fact: Fact) -> bool:
    """What depends on an order belongs to the order's account, whatever consumer it names; some returns name nobody."""
    return type(fact.event) is OrderPaid or (fact.order_key is None and fact.event.consumer is not None)


def _is_simple(fact: Fact) -> bool:
    """Whether only the account of the consumer that it names has to be locked: it is about no earlier order and no asset."""
    return _opens_account(fact) and not packing.names_assets(fact.event)


def _all_simple(facts: Sequence[Fact]) -> bool:
    return all(map(_is_simple, facts))


class _Early(Struct):
    """Locked and read in the statement that registers: enough for a batch that meets no order of an earlier one."""

    accounts: dict[int, Account]
    reading: store.Reading | None
    usage: Usage
    catalogue: Catalogue


async def _open(
    connection: Connection,
    batch: _Batch,
    accounts: dict[Reference, int],
    knowledge: Knowledge,
    visit: Visit,
    vault_version: int,
    *,
    careful: bool,
) -> tuple[dict[tuple[int, str], int], dict[OrderKey, OrderState], _Early | None]:
    """Register event and order keys. Returns the number of each new event, the state of each order that is met, and what was read.

    Where every fact opens its account itself, the accounts are locked and read in the same statement. What is about an order
    needs its owner's account, too, and accounts are locked in one order: then they wait for the next statements.
    """
    keys, order_keys = _keys(batch, accounts)
    orders = {order: OrderState(None) for order in order_keys.values()}
    early = None
    if not careful and _all_simple(batch.distinct):
        catalogue = knowledge.catalogue
        early = _Early({}, None, _windows(batch.distinct, accounts, orders, catalogue, knowledge.homes), catalogue)
        opening = await store.open_batch(
            connection, keys, sorted(_with_homes(accounts.values(), knowledge)), sorted(early.usage.budgets), list(early.usage.caps)
        )
        early.accounts, early.reading = _at_home(opening.accounts, knowledge), opening.reading
    else:
        opening = await store.open_batch(connection, keys, [], [], [])
    failpoints.at("receive.registered")
    if opening.vault_version != vault_version:
        raise _Contended  # somebody was erased since the accounts were looked up: perhaps one of these
    await _ask_lists(connection, visit, knowledge, opening.fraud_version, batch.distinct)
    if opening.orders and len(opening.events) < len(batch.distinct):
        await _forget_orders(connection, batch, opening)
    if len(opening.orders) < len(order_keys):
        asked = {fact.order_key for fact in batch.distinct if fact.key in opening.events}  # a mere repeat asks nothing
        registered = sorted(key for key, order in order_keys.items() if order in asked and key not in opening.orders)
        if registered:
            owners = await store.lock_orders(connection, registered, lock=early is None)
            if early is not None:
                if not {owner for owner, _ in owners.values()} <= early.accounts.keys():
                    raise _Contended  # not paid yet, or for somebody else: the locks that this takes would come out of turn
                early.reading = None  # what the order has earned counts in other windows
            for key, (owner, erased) in owners.items():
                orders[order_keys[key]].account = owner
                orders[order_keys[key]].erased = erased
                orders[order_keys[key]].registered_before = True
    return opening.events, orders, early


async def _ask_lists(connection: Connection, visit: Visit, knowledge: Knowledge, version: int, facts: Sequence[Fact]) -> None:
    """The lists that the door goes by, read where this process does not know them at this version."""
    if visit.mode != "off":
        visit.lists = await knowledge.lists_at(connection, version, {fact.program for fact in facts})


async def _forget_orders(connection: Connection, batch: _Batch, opening: store.Opening) -> None:
    """An order that only a fact names which counts for nothing (its id was declared wrong before it came) was not reported."""
    new = [fact for fact in batch.distinct if fact.key in opening.events and fact.order_key is not None]
    about = {(fact.program, platform_key(*fact.order_key)): False for fact in new if fact.order_key is not None}
    about |= {
        (fact.program, platform_key(*fact.order_key)): True for fact in new if fact.order_key is not None and type(fact.event) is OrderPaid
    }
    unpaid = [key for key in sorted(opening.orders) if not about.get(key)]
    if unpaid:
        await store.forget_orders(connection, unpaid, kept=[key in about for key in unpaid])


def _keys(batch: _Batch, accounts: dict[Reference, int]) -> tuple[list[store.NewKey], dict[tuple[int, str], OrderKey]]:
    """What to register, in order; and the orders by (program, order key)."""
    keys: list[store.NewKey] = []
    order_keys: dict[tuple[int, str], OrderKey] = {}
    of_order: dict[tuple[int, str], store.NewKey] = {}
    for fact in batch.distinct:
        account = accounts.get((fact.platform, fact.event.consumer or "")) if _opens_account(fact) else None
        bucket = None if account is None else bucket_of(account)
        program, key = fact.key
        if type(fact.event) is PackagingReturned and packing.names_assets(fact.event):
            keys.append((program, EVENT, key, fact.request_hash, None, None))  # it may count for somebody else than it names
        else:
            keys.append((program, EVENT, key, fact.request_hash, bucket, account))
        if (order := fact.order_key) is not None:
            of = (program, platform_key(*order))
            order_keys[of] = order
            # The first order.paid fixes the order's account; what else is about the order fixes nothing.
            if (known := of_order.get(of)) is None or known[-1] is None:
                of_order[of] = (program, ORDER, of[1], None, bucket, account)
    keys += of_order.values()
    keys.sort(key=_KEY)
    return keys, order_keys


async def _known_orders(connection: Connection, facts: Sequence[Fact]) -> dict[OrderKey, OrderState]:
    """The same for a dry run: nothing is registered or locked."""
    orders: dict[OrderKey, OrderState] = {}
    for fact in facts:
        if (order := fact.order_key) is not None:
            orders[order] = OrderState(None)
            for owner, _ in (await store.lock_orders(connection, [(fact.program, platform_key(*order))], lock=False)).values():
                orders[order].account = owner
                orders[order].registered_before = True
    return orders


# Lock and read ---------------------------------------------------------------------------------------


async def _fold(
    connection: Connection, facts: Sequence[Fact], references: dict[Reference, int], orders: dict[OrderKey, OrderState],
    knowledge: Knowledge, visit: Visit, *, early: _Early | None = None, careful: bool = False, dry: bool = False,
    as_of: datetime | None = None, declared: Declared | None = None,
) -> tuple[Fold, packing.Met, bool]:  # fmt: skip
    """Lock assets, accounts and claims, then read what the decision needs, each in a later statement; and whether the budgets are locked.

    `early` is taken as it is where it holds; `as_of` is the time to decide at (None: the transaction's); `declared`: what the only fact
    declares wrong.
    """
    await _read_parked(connection, facts, orders)
    packed = declared is not None or _are_packed(facts, orders)
    buyers = _buyers(facts, references, orders) if packed else {}
    if early is None:
        met = await packing.meet(connection, facts, orders, buyers, declared=declared, dry=dry) if packed else packing.Met()
        ids = {a for f in facts if (a := references.get(_reference(f)))} | met.accounts
        ids |= {o.account for o in orders.values() if o.account is not None}
        if declared is not None:
            ids.add(declared.account)
        locked_accounts = await store.lock_accounts(connection, sorted(_with_homes(ids, knowledge)), lock=not dry) if ids else {}
        accounts = _at_home(locked_accounts, knowledge)
    else:
        met, accounts = packing.Met(), early.accounts
    failpoints.at("receive.locked")
    settled = await _read_orders(connection, orders)
    if packed:
        settled |= await packing.read_awards(connection, met, declared)
    lots = await store.open_lots(connection, sorted({accounts[a].purse.id for a in settled})) if settled else {}
    if packed:
        theirs = [*_with_accounts(facts, orders, references, buyers), *_shipments(facts, orders, declared)]
        claims = await packing.read(connection, met, facts, theirs, knowledge.catalogue, declared=declared, dry=dry)
        failpoints.at("receive.claimed")
    else:
        claims = Claims.none()
    locked = False
    if early is not None and early.reading is not None and _holds(early, early.reading):
        reading, usage, catalogue = early.reading, early.usage, early.catalogue
        usage.seal(reading.caps, reading.budgets)
    else:
        reading, usage, locked, catalogue = await _read(
            connection, facts, references, orders, met, knowledge, careful=careful, dry=dry, declared=declared
        )  # fmt: skip
    products = await knowledge.refresh_products(connection, reading.registry_version, facts)
    scope = Scope(catalogue=catalogue, products=products, usage=usage, claims=claims, now=as_of or reading.now)
    return Fold(scope, accounts=accounts, orders=orders, lots=lots, packaging=met.state, visit=visit), met, locked


def _are_packed(facts: Sequence[Fact], orders: dict[OrderKey, OrderState]) -> bool:
    """Whether anything is to be known of packaging or claims; of goods alone nothing is."""
    return any(packing.concerns(fact.event) for fact in facts) or any(order.parked for order in orders.values())


def _buyers(facts: Sequence[Fact], references: dict[Reference, int], orders: dict[OrderKey, OrderState]) -> dict[OrderKey, int]:
    """The account of each order that has one, or gets one by what is paid in this batch. The first report counts."""
    buyers = {
        fact.order_key: references[_reference(fact)]
        for fact in reversed(facts)
        if type(fact.event) is OrderPaid and fact.order_key is not None and _reference(fact) in references
    }
    return buyers | {key: order.account for key, order in orders.items() if order.account is not None}


def _with_accounts(
    facts: Sequence[Fact], orders: dict[OrderKey, OrderState], references: dict[Reference, int], buyers: dict[OrderKey, int]
) -> Iterator[tuple[Fact, int]]:
    """These facts and those that wait for their orders, each with the account that it is about, where that is known."""
    for fact in facts:
        if (key := fact.order_key) is None:
            if (owner := references.get(_reference(fact))) is not None:
                yield fact, owner
        elif (owner := buyers.get(key)) is not None:
            yield fact, owner
            yield from ((parked.fact, owner) for parked in orders[key].parked)


def _shipments(facts: Sequence[Fact], orders: dict[OrderKey, OrderState], declared: Declared | None) -> list[tuple[Fact, int]]:
    """Other reports of how an order was packed that may count where one is declared wrong."""
    if declared is None or (key := facts[0].order_key) is None or (bought := orders[key].facts.bought) is None:
        return []
    events = [bought, *orders[key].facts.really_sent()]
    return [(msgspec.structs.replace(facts[0], event=event), declared.account) for event in events]


def _holds(early: _Early, reading: store.Reading) -> bool:
    """Whether a batch may be decided by what was read early: every budget has a row, and none of them is short."""
    return (
        reading.catalogue_version == early.catalogue.version
        and early.usage.budgets.keys() == reading.budgets.keys()
        and not early.usage.short(reading.budgets)
    )


async def _read_parked(connection: Connection, facts: Sequence[Fact], orders: dict[OrderKey, OrderState]) -> None:
    """Facts that wait for orders that are paid now; the orders are locked."""
    programs = {f.order_key: f.program for f in facts if f.order_key is not None}
    waiting = [
        (programs[key], *key) for key, order in orders.items() if order.registered_before and order.account is None and key in programs
    ]
    if not waiting:
        return
    codes = {f.platform: f.platform_code for f in facts}
    for row in await store.parked(connection, waiting):
        event = _event_decoder.decode(row["facts"])
        fact = Fact(
            program=programs[row["platform"], row["order_id"]], platform=row["platform"], platform_code=codes[row["platform"]],
            event=event, facts=row["facts"].encode(), kept=event.attributes, request_hash=b"",
        )  # fmt: skip
        orders[row["platform"], row["order_id"]].parked.append(
            Parked(number=row["number"], fact=fact, received_at=row["received_at"], answer=row["answer"])
        )


async def _read_orders(connection: Connection, orders: dict[OrderKey, OrderState]) -> set[int]:
    """Facts and awards of the orders that were known before; the accounts where some of them have settled."""
    known = [(order.account, *key) for key, order in orders.items() if order.registered_before and order.account is not None]
    if not known:
        return set()
    for row in await store.order_events(connection, known):
        orders[row["platform"], row["order_id"]].add(_event_decoder.decode(row["facts"]))
    settled = set()
    for row in await store.order_awards(connection, known):
        orders[row["order_platform"], row["order_id"]].awards.append(store_packaging.posted(row))
        if row["settled"]:
            settled.add(row["account"])
    return settled


async def _read(
    connection: Connection, facts: Sequence[Fact], references: dict[Reference, int], orders: dict[OrderKey, OrderState], met: packing.Met,
    knowledge: Knowledge, *, careful: bool, dry: bool, declared: Declared | None,
) -> tuple[store.Reading, Usage, bool, Catalogue]:  # fmt: skip
    """Versions; used caps and budgets; whether budgets are locked; and the campaigns that all this belongs to.

    Read again if the campaigns have changed since this process loaded them. The catalogue is held fast here: another writer
    may load a newer one meanwhile, and a window that was not asked for would count as unused.
    """
    catalogue = knowledge.catalogue
    for _ in range(MAX_CATALOGUE_RELOADS):
        usage = _windows(facts, references, orders, catalogue, knowledge.homes)
        packing.ask_windows(met, usage, catalogue)
        if declared is not None:
            _windows_of_declared(facts[0], orders, usage, catalogue, declared)
        budgets, caps = sorted(usage.budgets), list(usage.caps)
        reading = await store.read(connection, budgets, caps, lock=False)
        if reading.catalogue_version != catalogue.version:
            catalogue = await knowledge.catalogue_at(connection, reading.catalogue_version)
            continue
        locked = False
        if not dry and (missing := usage.budgets.keys() - reading.budgets.keys()):
            # The first award of a day in a daily budget: there must be a row before anybody counts. Before any of them is
            # locked, too: who waits here for another's new row must not hold what that one will lock next.
            await store.create_budgets(connection, sorted(missing))
        if not dry and (careful or usage.short(reading.budgets)):
            locked = True
            reading = await store.read(connection, budgets, caps, lock=True)
        usage.seal(reading.caps, reading.budgets)
        return reading, usage, locked, catalogue
    raise RuntimeError("the catalogue changed in every attempt although its lock is held")


def _with_homes(accounts: Iterable[int], knowledge: Knowledge) -> set[int]:
    """These accounts and, of those that are linked as far as this process knows, the ones that have their points."""
    ids = set(accounts)
    return ids | {knowledge.homes[a] for a in ids if a in knowledge.homes} if knowledge.homes else ids


def _at_home(accounts: dict[int, Account], knowledge: Knowledge) -> dict[int, Account]:
    """Locked accounts, each with the one that has its points. Raises _Moved where that is not what this process knew."""
    found = {a.id: a.home for a in accounts.values() if a.home is not None or a.id in knowledge.homes}
    if found:
        if any(knowledge.homes.get(id_) != home or (home is not None and home not in accounts) for id_, home in found.items()):
            knowledge.learn_homes(found)
            raise _Moved
        for id_, home in found.items():
            accounts[id_].other = None if home is None else accounts[home]
    return accounts


def _windows(
    facts: Sequence[Fact],
    references: dict[Reference, int],
    orders: dict[OrderKey, OrderState],
    catalogue: Catalogue,
    homes: Mapping[int, int],
) -> Usage:
    """Every cap and budget window that these facts can touch: of candidate campaigns, and of awards that may be taken back."""
    usage = Usage(catalogue, homes)
    # What depends on an order that is paid in this batch counts for its buyer, whatever consumer it names. The first report counts.
    buyers = {fact.order_key: _reference(fact) for fact in reversed(facts) if type(fact.event) is OrderPaid}
    for fact in facts:
        if (program := catalogue.programs.get(fact.program)) is None:
            continue  # not read yet: the catalogue's version differs, and this is asked again
        order = None if fact.order_key is None else orders[fact.order_key]
        if order is None or order.account is None:
            owner = references.get(buyers.get(fact.order_key) or _reference(fact), NOBODY)
        else:
            owner = order.account
            for award in order.awards:
                if catalogue.knows(award.campaign):
                    usage.windows(owner, award.campaign, award.day)
        for each in [fact, *(p.fact for p in order.parked)] if order and order.parked else (fact,):
            event = each.event
            each.day = event.occurred_at.astimezone(program.zone).date()
            for action in _actions(event):
                for campaign in catalogue.candidates(fact.program, action, fact.platform_code, event.occurred_at):
                    usage.windows(owner, campaign.id, each.day)
    return usage


def _windows_of_declared(
    fact: Fact, orders: dict[OrderKey, OrderState], usage: Usage, catalogue: Catalogue, declared: Declared
) -> None:  # fmt: skip
    """Windows of what is taken back, and of what may count in its place."""
    for award in declared.awards:
        if catalogue.knows(award.campaign):
            usage.windows(declared.account, award.campaign, award.day)
    if (program := catalogue.programs.get(fact.program)) is not None:
        for other, owner in _shipments([fact], orders, declared):
            day = other.event.occurred_at.astimezone(program.zone).date()
            for campaign in catalogue.candidates(fact.program, "packaging", fact.platform_code, other.event.occurred_at):
                usage.windows(owner, campaign.id, day)


def _reference(fact: Fact) -> Reference:
    return fact.platform, fact.event.consumer or ""


def _actions(event: Event) -> tuple[str, ...]:
    actions = _ACTIONS.get(event.TYPE, ())
    if (type(event) is OrderPaid or type(event) is OrderFulfilled) and event.packaging is not None:
        return (*actions, "packaging")
    return actions


# Decide and write ------------------------------------------------------------------------------------


def _paid_first(facts: Sequence[Fact]) -> Sequence[Fact]:
    """Within one batch an order comes before what depends on it; otherwise the order of arrival stays."""
    return facts if _all_simple(facts) else sorted(facts, key=_turn)


def _turn(fact: Fact) -> int:
    if type(fact.event) is PackagingReturned:
        return 2  # after the shipments, which it may depend on
    return 0 if _opens_account(fact) else 1


async def _write(connection: Connection, fold: Fold, met: packing.Met, stripe: int, vault_version: int) -> dict[tuple[int, str], bytes]:
    """Write what the fold decided: one statement for what every credit does, more for what few do. Returns the answers by event key."""
    answers = {event.fact.key: _encoder.encode(event.answer) for event in (*fold.stored, *fold.parked)}
    hours = {id_: start_of_hour(fold.scope.now, program.zone) for id_, program in fold.scope.catalogue.programs.items()}
    stored: list[tuple[Stored, str, str | None]] = []
    for event in fold.stored:
        answer = answers[event.fact.key].decode()
        stored.append((event, answer, None) if event.first_answer is None else (event, event.first_answer, answer))
    usage = fold.scope.usage
    if stored and not await store.write(
        connection,
        store.Writing(
            now=fold.scope.now, catalogue_version=fold.scope.catalogue.version, vault_version=vault_version, stored=stored,
            granted=fold.granted, accounts=[a for a in fold.accounts.values() if a.version != a.was],
            new_caps=usage.changed_caps(stored=False), caps=usage.changed_caps(stored=True), hours=hours, budgets=usage.changed_budgets(),
            sums=[(campaign, hours[program], platform, sums) for (program, campaign, platform), sums in sorted(fold.sums.items())],
            stripe=stripe,
        ),
    ):  # fmt: skip
        raise _Contended
    failpoints.at("receive.stored")
    if linked := [(s.account, s.number, home) for s in fold.stored if s.version and (home := fold.accounts[s.account].home) is not None]:
        await store.set_homes(connection, linked)
    failpoints.at("receive.homes_set")
    if fold.hinted:
        await store.set_hints(connection, fold.hinted)
        failpoints.at("receive.hinted")
    if fold.reversed:
        await store.update_reversed(connection, [(account, award) for (account, _, _), award in fold.reversed.items()])
        failpoints.at("receive.reversed")
    if fold.entries:
        await store.insert_entries(connection, fold.entries, fold.scope.now)
        failpoints.at("receive.posted")
    if fold.lot_uses:
        await store.use_lots(connection, fold.lot_uses)
        failpoints.at("receive.lots_used")
    if fold.parked:
        await store.park(connection, [(p, answers[p.fact.key].decode()) for p in fold.parked])
        failpoints.at("receive.parked")
    await _pick_up(connection, fold)
    failpoints.at("receive.picked_up")
    await packing.write(connection, fold, met, fold.scope.claims)
    return answers


async def _pick_up(connection: Connection, fold: Fold) -> None:
    """Orders that only parked facts had named now have an account, and what waited for them waits no more."""
    if counted := [
        (s.fact.program, s.fact.platform, "", s.number) for s in fold.stored if s.first_answer is not None and s.fact.order_key is None
    ]:  # fmt: skip
        await store.unpark(connection, counted)
    found = [(key, order) for key, order in fold.orders.items() if order.registered_before and order.newly_paid]
    if not found:
        return
    programs = {fact.fact.order_key: fact.fact.program for fact in fold.stored if fact.fact.order_key is not None}
    await store.set_order_accounts(
        connection, [(programs[key], platform_key(*key), order.account) for key, order in found if order.account is not None]
    )
    if gone := [(programs[key], *key, parked.number) for key, order in found for parked in order.picked_up]:
        await store.unpark(connection, gone)


def _outcome(
    fact: Fact, index: int, batch: _Batch, answers: dict[tuple[int, str], bytes], stored: dict[tuple[int, str], tuple[bytes | None, str]]
) -> Outcome:
    """The answer to one fact: its own, that of an earlier one in the batch, or the stored one."""
    key = fact.key
    first = batch.first[key]
    known_hash: bytes | None
    if key in answers:
        answer, known_hash = answers[key], batch.facts[first].request_hash
    else:
        known_hash, text = stored[key]
        answer = text.encode()
    if key in answers and first == index:
        return Outcome(answer=answer)
    # Without a hash its consumer was erased: what it looked like is forgotten, that it came is not.
    if known_hash is not None and known_hash != fact.request_hash and not fact.newer_wins:
        return Outcome(error=IdReused(f"The id {fact.event.id!r} was used before with different content."))
    return Outcome(answer=answer, replayed=True)
