"""Receive: many facts, one transaction (DESIGN §1): register, lock, read, decide, write, commit."""

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from schemas.events import Event, EventAnswer, OrderFulfilled, OrderPaid
from service.domain.catalogue import Catalogue
from service.domain.errors import GreenpointsError, IdReused
from service.domain.fold import Account, Fact, Fold, OrderKey, OrderState, Parked, PostedAward, Stored
from service.domain.hours import start_of_hour
from service.domain.keys import Kind, bucket_of, platform_key
from service.domain.ledger import Lot
from service.domain.usage import BudgetKey, CapKey, Usage, budget_keys, cap_keys
from service.flows.knowledge import Knowledge
from service.store import credit as store
from service.store.connection import Connection

MAX_CATALOGUE_RELOADS = 3
_ACTIONS = {"order.paid": "purchase", "packaging.returned": "return", "activity.completed": "activity"}
_event_decoder = msgspec.json.Decoder(Event)
_encoder = msgspec.json.Encoder()
EVENT, ORDER = int(Kind.EVENT), int(Kind.ORDER)


class Outcome(Struct, kw_only=True, gc=False):
    """What came of one fact: an answer (JSON), or an error."""

    answer: bytes = b""
    replayed: bool = False
    error: GreenpointsError | None = None


class Received(Struct, kw_only=True):
    """What came of a batch; `changed` are the accounts whose balances are to be pushed, after COMMIT."""

    outcomes: list[Outcome]
    changed: list[Account]
    due_now: bool
    """Something may settle at once: ring the doorbell."""


class _Batch:
    """The facts of one transaction, told apart by key."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.facts = facts
        self.first: dict[tuple[int, str], int] = {}
        """(program, event key) → index of the first fact with it; later ones are repeats."""
        for i, fact in enumerate(facts):
            self.first.setdefault(fact.key, i)
        self.distinct = [facts[i] for i in self.first.values()]


class _BudgetContended(Exception):
    """The batch was decided on a reading of a budget that does not hold: roll back, and lock it first."""


async def receive(connection: Connection, facts: Sequence[Fact], knowledge: Knowledge, *, stripe: int | None = None) -> Received:
    """Credit facts in one transaction; a repeat gets the stored first answer. `stripe`: which roll-up rows to write.

    Safe to repeat: a fact that is registered is never credited again. Raises what PostgreSQL raises; then nothing of the
    batch is written, and the caller may split it.
    """
    batch = _Batch(facts)
    stripe = knowledge.stripe if stripe is None else stripe
    try:
        return await _receive(connection, batch, knowledge, stripe, careful=False)
    except _BudgetContended:
        return await _receive(connection, batch, knowledge, stripe, careful=True)


async def _receive(connection: Connection, batch: _Batch, knowledge: Knowledge, stripe: int, *, careful: bool) -> Received:
    """One attempt. A budget is read without its lock and guarded when it is written, so that batches do not queue for it.

    Near its end, or when `careful`, its row is locked first: only then may it cut an award.
    """
    async with connection.transaction():
        accounts, opened = await _accounts_of_references(connection, batch, knowledge)
        new, orders = await _register(connection, batch, accounts)
        repeats = [fact for fact in batch.distinct if fact.key not in new]
        fresh = [fact for fact in batch.distinct if fact.key in new]
        if needless := opened - {_reference(fact) for fact in fresh if _opens_account(fact.event)}:
            # Only a changed repeat names a consumer that nobody knew: it is refused, and a refusal changes nothing.
            await store.close_accounts(connection, sorted(needless))
            accounts = {reference: account for reference, account in accounts.items() if reference not in needless}
        stored = await store.stored_answers(connection, [(*f.key, f.platform) for f in repeats]) if repeats else {}
        fold, locked = await _fold(connection, fresh, accounts, orders, knowledge, careful=careful)
        for fact in _paid_first(fresh):
            fold.credit(fact, new[fact.key], _account(fold, fact, accounts))
        if fold.usage.cut_by_budget and not locked:
            raise _BudgetContended
        written = await _write(connection, fold, stripe)
    knowledge.remember(accounts)
    # What was parked by an earlier batch and picked up by this one keeps its first answer.
    answers = {key: answer for key, answer in written.items() if key in new}
    outcomes = [_outcome(fact, i, batch, answers, stored) for i, fact in enumerate(batch.facts)]
    changed = [a for a in fold.accounts.values() if a.version != a.was]
    soon = fold.now + timedelta(seconds=1)
    return Received(
        outcomes=outcomes, changed=changed, due_now=any(p.granted is not None and p.granted.due_at <= soon for _, p in fold.granted)
    )


async def preview(connection: Connection, fact: Fact, knowledge: Knowledge, as_of: datetime | None) -> EventAnswer:
    """What `receive` would answer, with nothing written, locked or counted. `as_of`: the time to decide at (None: now)."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        reference = (fact.platform, fact.event.consumer or "")
        accounts = await store.find_accounts(connection, [reference])
        account = accounts.get(reference, 0)
        orders = await _known_orders(connection, [fact])
        fold, _ = await _fold(connection, [fact], accounts, orders, knowledge, dry=True)
        if as_of is not None:
            fold.now = as_of
        known = fold.accounts.get(account) or Account(id=0, program=fact.program)
        return fold.credit(fact, 0, known)


# Register --------------------------------------------------------------------------------------------


async def _accounts_of_references(
    connection: Connection, batch: _Batch, knowledge: Knowledge
) -> tuple[dict[tuple[int, str], int], set[tuple[int, str]]]:
    """Accounts by (platform, reference); opened for those that earn for the first time, and which these are."""
    accounts: dict[tuple[int, str], int] = {}
    opened: set[tuple[int, str]] = set()
    unknown: dict[tuple[int, str], int] = {}
    for fact in batch.distinct:
        if fact.event.consumer is None or not _opens_account(fact.event):
            continue
        reference = (fact.platform, fact.event.consumer)
        account = knowledge.account_of(*reference)
        if account is None:
            unknown[reference] = fact.program
        else:
            accounts[reference] = account
    if unknown:
        wanted = sorted((program, *reference, secrets.randbits(63)) for reference, program in unknown.items())
        found, opened = await store.find_or_create_accounts(connection, wanted)
        accounts |= found
    return accounts, opened


def _opens_account(event: Event) -> bool:
    """What depends on an order belongs to the order's account, whatever consumer it names."""
    return isinstance(event, OrderPaid) or event.order_id is None


async def _register(
    connection: Connection, batch: _Batch, accounts: dict[tuple[int, str], int]
) -> tuple[dict[tuple[int, str], int], dict[OrderKey, OrderState]]:
    """Register event and order keys. Returns the number of each new event, and the state of each order that is met."""
    keys: dict[tuple[int, int, str], store.NewKey] = {}
    bucket: int | None
    order_keys: dict[tuple[int, str], OrderKey] = {}
    for fact in batch.distinct:
        account = accounts.get((fact.platform, fact.event.consumer or "")) if _opens_account(fact.event) else None
        bucket = None if account is None else bucket_of(account)
        program, key = fact.key
        keys[program, EVENT, key] = (program, EVENT, key, fact.request_hash, bucket, account)
        if (order := fact.order_key) is not None:
            key = platform_key(*order)
            order_keys[program, key] = order
            # The first order.paid fixes the order's account; what else is about the order fixes nothing.
            known = keys.get((program, ORDER, key))
            if known is None or (known[-1] is None and isinstance(fact.event, OrderPaid)):
                paid = isinstance(fact.event, OrderPaid)
                keys[program, ORDER, key] = (program, ORDER, key, None, bucket if paid else None, account if paid else None)
    made = await store.register(connection, [keys[k] for k in sorted(keys)])
    new = {(program, key): number for (program, kind, key), number in made.items() if kind == EVENT}
    orders = {order: OrderState(None) for order in order_keys.values()}
    registered = sorted(k for k in order_keys if (k[0], ORDER, k[1]) not in made)
    if registered:
        for key_of_order, owner in (await store.lock_orders(connection, registered)).items():
            orders[order_keys[key_of_order]].account = owner
            orders[order_keys[key_of_order]].registered_before = True
    return new, orders


async def _known_orders(connection: Connection, facts: Sequence[Fact]) -> dict[OrderKey, OrderState]:
    """The same for a dry run: nothing is registered or locked."""
    orders: dict[OrderKey, OrderState] = {}
    for fact in facts:
        if (order := fact.order_key) is not None:
            orders[order] = OrderState(None)
            for owner in (await store.lock_orders(connection, [(fact.program, platform_key(*order))], lock=False)).values():
                orders[order].account = owner
                orders[order].registered_before = True
    return orders


# Lock and read ---------------------------------------------------------------------------------------


async def _fold(
    connection: Connection, facts: Sequence[Fact], references: dict[tuple[int, str], int], orders: dict[OrderKey, OrderState],
    knowledge: Knowledge, *, careful: bool = False, dry: bool = False,
) -> tuple[Fold, bool]:  # fmt: skip
    """Lock the accounts, then read what the decision needs, each in a later statement; and whether the budgets are locked."""
    ids = {a for f in facts if (a := references.get((f.platform, f.event.consumer or "")))}
    ids |= {o.account for o in orders.values() if o.account is not None}
    accounts = await store.lock_accounts(connection, sorted(ids), lock=not dry) if ids else {}
    lots = await _read_orders(connection, facts, orders)
    reading, locked, catalogue = await _read(connection, facts, references, orders, knowledge, careful=careful, dry=dry)
    products = await knowledge.refresh_products(connection, reading.registry_version, facts)
    fold = Fold(
        now=reading.now, catalogue=catalogue, products=products, usage=Usage(reading.caps, reading.budgets),
        accounts=accounts, orders=orders, lots=lots,
    )  # fmt: skip
    return fold, locked


async def _read_orders(connection: Connection, facts: Sequence[Fact], orders: dict[OrderKey, OrderState]) -> dict[int, list[Lot]]:
    """Facts, awards and lots of the orders that were known before; facts that wait for those that are paid now."""
    programs = {f.order_key: f.program for f in facts if f.order_key is not None}
    waiting = [
        (programs[key], *key) for key, order in orders.items() if order.registered_before and order.account is None and key in programs
    ]
    codes = {f.platform: f.platform_code for f in facts}
    for row in await store.parked(connection, waiting) if waiting else ():
        fact = Fact(
            program=programs[row["platform"], row["order_id"]], platform=row["platform"], platform_code=codes[row["platform"]],
            event=_event_decoder.decode(row["facts"]), facts=row["facts"].encode(), request_hash=b"",
        )  # fmt: skip
        orders[row["platform"], row["order_id"]].parked.append(
            Parked(number=row["number"], fact=fact, received_at=row["received_at"], answer=row["answer"])
        )
    known = [(order.account, *key) for key, order in orders.items() if order.account is not None]
    if not known:
        return {}
    for row in await store.order_events(connection, known):
        orders[row["platform"], row["order_id"]].add(_event_decoder.decode(row["facts"]))
    settled = set()
    for row in await store.order_awards(connection, known):
        orders[row["order_platform"], row["order_id"]].awards.append(
            PostedAward(
                event=row["event"],
                n=row["n"],
                campaign=row["campaign"],
                code=row["code"],
                version=row["version"],
                action=row["action"],
                platform=row["platform"],
                line=row["line"],
                points=row["points"],
                reversed=row["reversed"],
                day=row["day"],
                settled=row["settled"],
            )
        )
        if row["settled"]:
            settled.add(row["account"])
    return await store.open_lots(connection, sorted(settled)) if settled else {}


async def _read(
    connection: Connection, facts: Sequence[Fact], references: dict[tuple[int, str], int], orders: dict[OrderKey, OrderState],
    knowledge: Knowledge, *, careful: bool, dry: bool,
) -> tuple[store.Reading, bool, Catalogue]:  # fmt: skip
    """Versions, caps and budgets; whether budgets are locked; and the campaigns that all this belongs to.

    Read again if the campaigns have changed since this process loaded them. The catalogue is held fast here: another writer
    may load a newer one meanwhile, and a window that was not asked for would count as unused.
    """
    catalogue = knowledge.catalogue
    for _ in range(MAX_CATALOGUE_RELOADS):
        caps, budgets = _windows(facts, references, orders, catalogue)
        reading = await store.read(connection, sorted(budgets), sorted(caps), lock=False)
        if reading.catalogue_version != catalogue.version:
            catalogue = await knowledge.catalogue_at(connection, reading.catalogue_version)
            continue
        if dry:
            return reading, False, catalogue
        if missing := budgets - reading.budgets.keys():
            # The first award of a day in a daily budget: there must be a row before anybody counts. Before any of them is
            # locked, too: who waits here for another's new row must not hold what that one will lock next.
            await store.create_budgets(connection, sorted(missing))
        locked = careful or Usage({}, reading.budgets).short(catalogue.budget_limits(budgets))
        if locked:
            reading = await store.read(connection, sorted(budgets), sorted(caps), lock=True)
        return reading, locked, catalogue
    raise RuntimeError("the catalogue changed in every attempt although its lock is held")


def _windows(
    facts: Sequence[Fact], references: dict[tuple[int, str], int], orders: dict[OrderKey, OrderState], catalogue: Catalogue
) -> tuple[set[CapKey], set[BudgetKey]]:
    """Every cap and budget window that these facts can touch: of candidate campaigns, and of awards that may be taken back."""
    caps: set[CapKey] = set()
    budgets: set[BudgetKey] = set()
    # What depends on an order that is paid in this batch counts for its buyer, whatever consumer it names. The first report counts.
    buyers = {fact.order_key: _reference(fact) for fact in reversed(facts) if isinstance(fact.event, OrderPaid)}
    for fact in facts:
        event = fact.event
        if (program := catalogue.programs.get(fact.program)) is None:
            continue  # not read yet: the catalogue's version differs, and this is asked again
        order = None if fact.order_key is None else orders[fact.order_key]
        owner = order.account if order and order.account is not None else references.get(buyers.get(fact.order_key) or _reference(fact))
        for each in [event, *(p.fact.event for p in order.parked)] if order else [event]:
            day = each.occurred_at.astimezone(program.zone).date()
            for action in _actions(each):
                for campaign in catalogue.candidates(fact.program, action, fact.platform_code, each.occurred_at):
                    tracked = catalogue.tracked(campaign.id)
                    budgets.update(budget_keys(campaign.id, tracked, day))
                    if owner is not None:
                        caps.update(cap_keys(owner, campaign.id, tracked, day))
        if order and order.account is not None:
            for award in order.awards:
                if catalogue.knows(award.campaign):
                    tracked = catalogue.tracked(award.campaign)
                    budgets.update(budget_keys(award.campaign, tracked, award.day))
                    caps.update(cap_keys(order.account, award.campaign, tracked, award.day))
    return caps, budgets


def _reference(fact: Fact) -> tuple[int, str]:
    return fact.platform, fact.event.consumer or ""


def _actions(event: Event) -> list[str]:
    actions = [_ACTIONS[event.TYPE]] if event.TYPE in _ACTIONS else []
    if isinstance(event, OrderPaid | OrderFulfilled) and event.packaging is not None:
        actions.append("packaging")
    return actions


# Decide and write ------------------------------------------------------------------------------------


def _paid_first(facts: Sequence[Fact]) -> list[Fact]:
    """Within one batch an order comes before what depends on it; otherwise the order of arrival stays."""
    return sorted(facts, key=lambda f: not _opens_account(f.event))


def _account(fold: Fold, fact: Fact, references: dict[tuple[int, str], int]) -> Account | None:
    """The consumer's account; one that was opened in this transaction has nothing on it yet."""
    id_ = references.get((fact.platform, fact.event.consumer or ""))
    return None if id_ is None else fold.accounts[id_]


async def _write(connection: Connection, fold: Fold, stripe: int) -> dict[tuple[int, str], bytes]:
    """Write what the fold decided: one statement for what every credit does, more for what few do. Returns the answers by event key."""
    answers = {event.fact.key: _encoder.encode(event.answer) for event in (*fold.stored, *fold.parked)}
    hours = {id_: start_of_hour(fold.now, program.zone) for id_, program in fold.catalogue.programs.items()}
    stored: list[tuple[Stored, str, str | None]] = []
    for event in fold.stored:
        answer = answers[event.fact.key].decode()
        stored.append((event, answer, None) if event.first_answer is None else (event, event.first_answer, answer))
    usage = fold.usage
    if stored and not await store.write(
        connection,
        store.Writing(
            stored=stored, granted=fold.granted, accounts=[a for a in fold.accounts.values() if a.version != a.was],
            caps={key: usage.caps[key] for key in usage.cap_changes}, hours=hours, budgets=usage.budget_changes, limits=usage.budget_limits,
            sums=[(campaign, hours[program], platform, sums) for (program, campaign, platform), sums in sorted(fold.sums.items())],
            stripe=stripe,
        ),
    ):  # fmt: skip
        raise _BudgetContended
    earlier = {id(award): (order.account, award) for order in fold.orders.values() for award in order.awards}
    reversed_ = [pair for pair in earlier.values() if pair[1].granted is None and pair[1].reversed != pair[1].reversed_was]
    if reversed_:
        await store.update_reversed(connection, [(account, award) for account, award in reversed_ if account is not None])
    if fold.entries:
        await store.insert_entries(connection, fold.entries, fold.now)
    if fold.lot_uses:
        await store.use_lots(connection, fold.lot_uses)
    if fold.parked:
        await store.park(connection, [(p, answers[p.fact.key].decode()) for p in fold.parked])
    await _pick_up(connection, fold)
    return answers


async def _pick_up(connection: Connection, fold: Fold) -> None:
    """Orders that only parked facts had named now have an account, and what waited for them waits no more."""
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
    fact: Fact, index: int, batch: _Batch, answers: dict[tuple[int, str], bytes], stored: dict[tuple[int, str], tuple[bytes, str]]
) -> Outcome:
    """The answer to one fact: its own, that of an earlier one in the batch, or the stored one."""
    key = fact.key
    first = batch.first[key]
    if key in answers:
        answer, known_hash = answers[key], batch.facts[first].request_hash
    else:
        known_hash, text = stored[key]
        answer = text.encode()
    if key in answers and first == index:
        return Outcome(answer=answer)
    if known_hash != fact.request_hash and not fact.newer_wins:
        return Outcome(error=IdReused(f"The id {fact.event.id!r} was used before with different content."))
    return Outcome(answer=answer, replayed=True)
