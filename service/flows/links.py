"""Link: two references of one person share one purse; and split a wrong link again.

Facts stay with the account that they came for: what its orders earn and lose is decided as before. Only the points have another home,
so that undoing a link needs nothing but to take them back. The book balances all the time: what leaves one account comes to the other.
"""

import secrets
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from schemas.events import Balance
from schemas.links import LinkAnswer, LinkCodeAnswer
from service import failpoints
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.ledger import Book, Kind
from service.domain.links import LIFE, hash_of, new_code
from service.domain.posting import Account
from service.domain.purse import Part, Purse
from service.flows.administer import Change
from service.flows.repeats import in_one_transaction
from service.projection import Projection
from service.store import audit, balances, credit, purses, vault
from service.store import links as store
from service.store.connection import Connection
from service.store.locks import share_catalogue
from service.store.purses import Moved, Terms

UNKNOWN: Final = "This consumer has no events yet."
JOINED: Final = "Accounts of one person were joined"
SPLIT: Final = "Accounts that had been joined were separated again"


class Joined(Struct, kw_only=True):
    """What is to be told Redis after COMMIT: balances, and accounts whose points another has."""

    consumer: str
    linked: bool
    home: int
    balances: list[tuple[int, Balance]]
    pointers: list[tuple[int, int, int]]
    """account, its version, its home"""

    def answer(self) -> LinkAnswer:
        """As the caller sees it."""
        balance = next(balance for account, balance in self.balances if account == self.home)
        return LinkAnswer(consumer=self.consumer, linked=self.linked, balance=balance)


async def publish(projection: Projection, joined: Joined) -> None:
    """Tell Redis, before the answer."""
    await projection.push(joined.balances)
    failpoints.at("links.pushed")
    await projection.point(joined.pointers)


async def make_code(connection: Connection, *, program: int, platform: int, code: str, reference: str, change: Change) -> LinkCodeAnswer:
    """A code by which another platform can show that this consumer is theirs. Raises NotFound. An earlier code counts no more."""
    text = new_code()
    async with connection.transaction():
        found = (await vault.lock_names(connection, platform, [reference])).get(reference)
        if found is None:
            raise NotFound(UNKNOWN)
        ends = await store.add_code(
            connection, hash_=hash_of(program, text), program=program, platform=platform, account=found[0], life=LIFE
        )
        failpoints.at("links.code_made")
        await _record(connection, change, program, "consumer.link_code", code, {"account": str(found[0])})
    return LinkCodeAnswer(code=text, expires_at=ends)


async def link(
    connection: Connection, *, program: int, platform: int, code: str, reference: str, link_code: str, stripe: int, change: Change
) -> Joined:
    """Put the points of this consumer and of whoever the code stands for into one purse.

    The code counts once; a consumer who is linked to the same purse already stays so. Raises InvalidRequest (the code), InvalidState (open
    reservations; both belong to others already).
    """

    async def work() -> Joined:
        return await _link(
            connection, program=program, platform=platform, code=code, reference=reference, link_code=link_code, stripe=stripe,
            change=change,
        )  # fmt: skip

    joined = await in_one_transaction(connection, work)
    failpoints.at("links.committed")
    return joined


async def _link(
    connection: Connection, *, program: int, platform: int, code: str, reference: str, link_code: str, stripe: int, change: Change
) -> Joined:
    await share_catalogue(connection)  # nobody is erased meanwhile
    theirs = await store.take_code(connection, hash_=hash_of(program, link_code), program=program)
    failpoints.at("links.code_taken")
    if theirs is None:
        return await _linked_before(connection, program=program, platform=platform, reference=reference, link_code=link_code)
    accounts, _, refused = await credit.find_or_create_accounts(connection, [(program, platform, reference, secrets.randbits(63))])
    failpoints.at("links.referenced")
    if refused or (platform, reference) not in accounts:
        raise NotFound(UNKNOWN)
    mine = accounts[platform, reference]
    locked, homes = await purses.lock_with_homes(connection, [theirs, mine])
    home, member = homes[theirs], homes[mine]
    if home == member:
        return Joined(consumer=reference, linked=True, home=home, balances=[(home, locked[home].balance())], pointers=[])
    if await store.members(connection, member):
        home, member = member, home
        if await store.members(connection, member):
            raise InvalidState("Both are linked with others already: separate one of them first.")
    terms = await purses.terms(connection, program)
    source, target = await _purses(connection, [locked[member], locked[home]], terms)
    if source.account.reserved:
        raise InvalidState("Points are reserved: capture or cancel the reservation first.")
    (number,) = await purses.numbers(connection, 1)
    await _outrun(connection, target.account, source.account)
    out = source.begin(Kind.LINK, number, platform=platform, reason=JOINED)
    into = target.begin(Kind.LINK, number, platform=platform, reason=JOINED)
    owed = source.clear_debt(out, Book.LINK)
    await move(connection, source, target, [(lot, lot.free) for lot in source.lots.values() if lot.free], out_of=out.number)
    if owed:
        target.owe(into, owed, Book.LINK)
        target.repay(into)
    pending = source.account.pending
    await purses.write(connection, [source, target], terms, stripe=stripe)
    failpoints.at("links.posted")
    await _move_pending(connection, member, home, number, pending)
    failpoints.at("links.pending_moved")
    await store.set_home(connection, member, home)
    failpoints.at("links.home_set")
    await store.merge_caps(connection, member, home)
    failpoints.at("links.caps_merged")
    await store.add_link(
        connection, account=member, number=number, program=program, home=home, platform=platform, code=hash_of(program, link_code),
        at=terms.now,
    )  # fmt: skip
    failpoints.at("links.noted")
    await _record(connection, change, program, "consumer.link", code, {"account": str(member), "home": str(home), "transfer": str(number)})
    target.account.pending += pending
    return Joined(
        consumer=reference, linked=True, home=home, balances=[(home, target.account.balance())],
        pointers=[(member, source.account.version, home)],
    )  # fmt: skip


async def _linked_before(connection: Connection, *, program: int, platform: int, reference: str, link_code: str) -> Joined:
    """A repeat, whose first answer was lost: this consumer used the code up. Raises InvalidRequest where it is another's, or none."""
    pair = await store.linked_by(connection, hash_=hash_of(program, link_code), program=program, platform=platform)
    mine = await balances.find_account(connection, platform, reference)
    if mine is None or mine not in pair:
        raise InvalidRequest.at("/code", "is unknown, was used before, or is too old")
    locked, homes = await purses.lock_with_homes(connection, [mine])
    home = homes[mine]
    return Joined(consumer=reference, linked=True, home=home, balances=[(home, locked[home].balance())], pointers=[])


async def split(connection: Connection, *, program: int, platform: int, code: str, reference: str, stripe: int, change: Change) -> Joined:
    """Undo the link of this consumer: what is left of the points that came with them, or from their own facts since, goes back.

    What the purse has spent stays spent, what it owes it goes on owing. Who is not linked stays so: a repeat is harmless. Raises NotFound,
    InvalidState (reservations hold those points; several others are linked with it, so that one of them must be named).
    """

    async def work() -> Joined:
        return await _split(
            connection, program=program, platform=platform, code=code, reference=reference, stripe=stripe, change=change
        )  # fmt: skip

    separated = await in_one_transaction(connection, work)
    failpoints.at("split.committed")
    return separated


async def _split(connection: Connection, *, program: int, platform: int, code: str, reference: str, stripe: int, change: Change) -> Joined:
    await share_catalogue(connection)
    found = (await vault.lock_names(connection, platform, [reference])).get(reference)
    if found is None:
        raise NotFound(UNKNOWN)
    member = found[0]
    home = (await purses.homes(connection, [member]))[member]
    if home == member:
        others = await store.members(connection, home)
        if len(others) != 1:
            if others:
                raise InvalidState("Several others are linked with it: name the one to separate.")
            locked, _ = await purses.lock_with_homes(connection, [home])
            return Joined(consumer=reference, linked=False, home=home, balances=[(home, locked[home].balance())], pointers=[])
        (member,) = others
    locked, homes = await purses.lock_with_homes(connection, [member, home])
    if homes[member] != home or home == member:
        raise Moved
    terms = await purses.terms(connection, program)
    source, target = await _purses(connection, [locked[home], locked[member]], terms)
    own = await store.own_lots(connection, member, home)
    if any(source.lots[key].reserved for key in own):
        raise InvalidState("Points are reserved: capture or cancel the reservation first.")
    (number,) = await purses.numbers(connection, 1)
    await _outrun(connection, target.account, source.account)
    out = source.begin(Kind.LINK, number, platform=platform, reason=SPLIT)
    target.begin(Kind.LINK, number, platform=platform, reason=SPLIT)
    await move(connection, source, target, [(source.lots[key], source.lots[key].free) for key in sorted(own)], out_of=out.number)
    pending = await store.on_hold(connection, member)
    await purses.write(connection, [source, target], terms, stripe=stripe)
    failpoints.at("split.posted")
    await _move_pending(connection, home, member, number, pending)
    failpoints.at("split.pending_moved")
    await store.set_home(connection, member, None)
    failpoints.at("split.home_set")
    await store.split_caps(connection, member, home)
    failpoints.at("split.caps_split")
    await store.end_link(connection, member, terms.now)
    failpoints.at("split.ended")
    await _record(connection, change, program, "consumer.split", code, {"account": str(member), "home": str(home), "transfer": str(number)})
    source.account.pending -= pending
    target.account.pending += pending
    both = [(home, source.account.balance()), (member, target.account.balance())]
    return Joined(consumer=reference, linked=False, home=found[0], balances=both, pointers=[])


async def move(connection: Connection, source: Purse, target: Purse, parts: Iterable[Part], *, out_of: int) -> None:
    """Move parts of free lots between two purses whose transfers, with the number `out_of`, have begun."""
    moving = list(parts)
    keys = [lot.key for lot, _ in moving]
    for key, (lot, _) in (await store.lots(connection, target.account.id, keys)).items():
        target.lots.setdefault(key, lot)
    amounts = {key: amount for key, (_, amount) in (await store.lots(connection, source.account.id, keys)).items()}
    leaving = next(t for t in reversed(source.transfers) if t.number == out_of)
    coming = next(t for t in reversed(target.transfers) if t.number == out_of)
    source.take_parts(leaving, moving, Book.LINK)
    target.take_over(coming, moving, amounts, Book.LINK)


async def _purses(connection: Connection, accounts: list[Account], terms: Terms) -> list[Purse]:
    opened = {purse.account.id: purse for purse in await purses.open_purses(connection, accounts, terms)}
    return [opened[account.id] for account in accounts]


async def _outrun(connection: Connection, target: Account, source: Account) -> None:
    """Let the target's version go on from the higher one of both: who reads it from now on may have read the source's before."""
    skipped = max(source.version - target.version, 0)
    target.version += skipped
    await store.skip_versions(connection, target.id, skipped)
    failpoints.at("links.outrun")


async def _move_pending(connection: Connection, source: int, target: int, number: int, points: int) -> None:
    if points:
        await store.move_pending(connection, source, number, -points)
        await store.move_pending(connection, target, number, points)


async def _record(connection: Connection, change: Change, program: int, action: str, code: str, after: dict[str, str]) -> None:
    await audit.record(
        connection,
        program=program,
        actor=change.actor,
        action=action,
        subject=f"platform:{code}",
        after=after,
        request_id=change.request_id,
    )
    failpoints.at("links.recorded")
