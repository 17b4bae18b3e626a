"""SQL of transfers that no event causes, as consumers read them."""

from datetime import datetime
from typing import Final

from msgspec import Struct

from service.domain.keys import bucket_of
from service.domain.ledger import Kind
from service.store.connection import Connection

PAGE: Final = """
SELECT t.number, t.at, t.kind, t.points, t.reason, r.id AS redemption
FROM transfer t LEFT JOIN redemption r ON r.bucket = t.bucket AND r.account = t.account AND r.number = t.redemption
WHERE t.bucket = $1 AND t.account = $2 AND t.number < $3 ORDER BY t.number DESC LIMIT $4
"""


class StoredTransfer(Struct, frozen=True, kw_only=True):
    """One transfer; `points` is the signed change of what the consumer can spend, `redemption` the id of the one that it is about."""

    number: int
    at: datetime
    kind: Kind
    points: int
    reason: str | None
    redemption: str | None


async def page(connection: Connection, account: int, *, before: int, limit: int) -> list[StoredTransfer]:
    """An account's transfers, newest first."""
    return [
        StoredTransfer(
            number=r["number"], at=r["at"], kind=Kind(r["kind"]), points=r["points"], reason=r["reason"], redemption=r["redemption"]
        )
        for r in await connection.fetch(PAGE, bucket_of(account), account, before, limit)
    ]  # fmt: skip
