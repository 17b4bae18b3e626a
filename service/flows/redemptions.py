"""Redemptions as they are: one, or a list of them."""

from typing import Literal

from msgspec import Struct

from schemas.redemptions import RedemptionAnswer, RedemptionItem
from service.domain.errors import NotFound
from service.domain.redeeming import Redemption
from service.flows.redeem import UNKNOWN, answer_of, voucher_for
from service.sealing import Sealer
from service.store import balances, purses
from service.store import redemptions as store
from service.store.connection import Connection

Step = Literal["capture", "cancel", "refund"]


class Row(Struct, frozen=True, kw_only=True):
    """A redemption in a list, and its position there."""

    number: int
    item: RedemptionItem


async def find(
    connection: Connection, *, sealer: Sealer, program: int, platform: int, id_: str, consumer: str | None = None
) -> RedemptionAnswer:
    """A platform's redemption by its id. `consumer`: only if it was paid from this consumer's purse. Raises NotFound, Unavailable."""
    redemption = await store.find(connection, program=program, platform=platform, id_=id_)
    if redemption is None:
        raise NotFound(UNKNOWN)
    asked = {redemption.account}
    person = None
    if consumer is not None:
        person = await balances.find_account(connection, platform, consumer)
        if person is None:
            raise NotFound(UNKNOWN)
        asked.add(person)
    homes = await purses.homes(connection, asked)
    home = homes[redemption.account]
    if person is not None and homes[person] != home:
        raise NotFound(UNKNOWN)
    (_, balance), *_ = await balances.balances(connection, [home])
    voucher = await voucher_for(connection, sealer, program, redemption)
    return answer_of(redemption, balance, voucher)


async def of_platform(
    connection: Connection, platform: int, *, consumer: str | None, status: str | None, before: int, limit: int
) -> list[Row]:
    """A platform's redemptions, newest first, perhaps of one consumer only."""
    account = None
    if consumer is not None:
        person = await balances.find_account(connection, platform, consumer)
        if person is None:
            return []
        account = (await purses.homes(connection, [person]))[person]
    rows = await store.page(connection, platform=platform, account=account, status=status, before=before, limit=limit)
    return [Row(number=r.number, item=_item(r)) for r in rows]


def _item(r: Redemption) -> RedemptionItem:
    return RedemptionItem(
        id=r.id, status=r.status, points=r.points, captured=r.captured, refunded=r.refunded, reference=r.reference,
        reward=r.reward_code, cause=r.cause_code, created_at=r.created_at, expires_at=r.expires_at,
    )  # fmt: skip
