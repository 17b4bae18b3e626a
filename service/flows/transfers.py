"""Points from one consumer to another of the same platform: both accounts under lock in the order of their ids, lot by lot."""

import secrets
from typing import Final

import msgspec
from msgspec import Struct

from schemas.adjustments import TransferAnswer, TransferBody
from schemas.events import Balance
from service import failpoints
from service.domain import idempotency
from service.domain import transfers as rules
from service.domain.errors import InsufficientPoints, InvalidRequest, NotFound
from service.flows.repeats import Answered, in_one_transaction, once
from service.store import balances, purses
from service.store import consumer_transfers as store
from service.store.connection import Connection
from service.store.consumer_transfers import ConsumerTransfer
from service.store.locks import share_catalogue

NO_ROLLUPS: Final = 0
"""In place of a stripe: points that change hands are in no campaign's statistics."""
ID_BYTES: Final = 12
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(TransferAnswer).decode


class Outcome(Struct, frozen=True, kw_only=True):
    """What a request is answered; `balances`, of both, are to be pushed after COMMIT. `replayed`: it is a repeat, and nothing was done."""

    status: int
    answer: TransferAnswer
    replayed: bool
    balances: list[tuple[int, Balance]]


async def transfer(
    connection: Connection,
    body: TransferBody,
    *,
    program: int,
    platform: int,
    sender: str,
    by_platform: bool,
    key: str,
    request_hash: bytes,
) -> Outcome:
    """Give points of a platform's consumer to another. `by_platform`: the platform asks, not the consumer itself.

    Safe to repeat with the same key of the same caller. Raises NotFound (the platform knows no such sender), InsufficientPoints (a consumer
    whom nobody knows has none), InvalidRequest (the receiver, or more than one transfer may move), InvalidState (not in this program, or
    not today), IdempotencyKeyReused, IdempotencyKeyInUse.
    """
    changed: list[tuple[int, Balance]] = []

    async def work() -> tuple[int, str, bool]:
        changed.clear()
        await share_catalogue(connection)  # nobody is erased between the search for their account and its posting
        account = await balances.find_account(connection, platform, sender)
        if account is None:
            raise NotFound("This consumer has no events yet.") if by_platform else InsufficientPoints("You have no points to give.")
        stored = idempotency.of_platform(platform, key) if by_platform else idempotency.of_consumer(platform, account, key)

        async def run() -> Answered:
            given = await _give(connection, body, program=program, platform=platform, sender=account)
            changed.extend(given.balances)
            answer = TransferAnswer(id=given.id, points=body.points, to="", balance=given.balances[0][1])
            return Answered(status=201, body=_encode(answer).decode(), account=account)

        return await once(connection, program=program, key=stored, request_hash=request_hash, run=run)

    status, answer, replayed = await in_one_transaction(connection, work)
    # Whom it went to is not kept with the answer: a repeat brings the name along.
    full = msgspec.structs.replace(_decode(answer), to=body.to)
    return Outcome(status=status, answer=full, replayed=replayed, balances=changed)


class _Given(Struct, frozen=True):
    id: str
    balances: list[tuple[int, Balance]]


async def _give(connection: Connection, body: TransferBody, *, program: int, platform: int, sender: int) -> _Given:
    terms = await purses.terms(connection, program)
    policy = terms.policies.at(terms.now).transfers
    rules.check_points(policy, body.points)
    receiver = await balances.find_account(connection, platform, body.to)
    locked = await purses.lock(connection, [sender] if receiver is None else [sender, receiver])
    giver, taker = locked[sender], None if receiver is None else locked[receiver]
    if taker is giver:
        raise InvalidRequest.at("/to", "is the consumer who gives")
    rules.check_day(policy, body.points, given=await store.given_on(connection, giver.id, terms.today))
    opened = await purses.open_purses(connection, [giver] if taker is None else [giver, taker], terms)
    (number,) = await purses.numbers(connection, 1)
    parts = rules.take(opened[0], number, body.points, platform=platform, message=body.message or None)
    if taker is None:  # last, so that who has nothing to give cannot try names
        raise InvalidRequest.at("/to", "is not known here")
    rules.give(opened[1], number, parts, platform=platform, message=body.message or None)
    await purses.write(connection, opened, terms, stripe=NO_ROLLUPS)
    failpoints.at("transfers.posted")
    id_ = secrets.token_hex(ID_BYTES)
    await store.insert(
        connection,
        ConsumerTransfer(
            account=giver.id, number=number, program=program, platform=platform, id=id_, to_account=taker.id, points=body.points,
            day=terms.today, at=terms.now,
        ),
    )  # fmt: skip
    failpoints.at("transfers.inserted")
    return _Given(id_, [(account.id, account.balance()) for account in (giver, taker)])
