"""Spending in tests: reservations, captures and refunds through purses, with the rows that belong to them; and days that go by."""

from datetime import UTC, datetime, timedelta
from typing import Any

from service.domain.ledger import Book, Kind
from service.domain.purse import Part, Purse
from service.store import purses
from service.store.connection import Connection
from tests.tampering import allow
from tests.worlds import World

ACCOUNT = "SELECT account FROM consumer_reference r JOIN platform p ON p.id = r.platform WHERE r.reference = $1 AND p.program = $2 LIMIT 1"


async def account_of(world: World, consumer: str) -> int:
    (row,) = await world.rows(ACCOUNT, consumer, world.program)
    return int(row["account"])


async def age(world: World, days: int) -> None:
    """As if everything had happened so many days ago: lots end earlier, and what was done was done earlier."""
    span = timedelta(days=days)
    async with world.pool.acquire() as conn:
        await allow(conn)
    await world.rows("UPDATE lot SET expires_on = expires_on - $1::int", days)
    for table, column in (("event", "received_at"), ("transfer", "at"), ("entry", "at"), ("points_policy", "effective_from")):
        await world.rows(f"UPDATE {table} SET {column} = {column} - $1::interval", span)


async def end_of(world: World, consumer: str, days_ago: int, *, n: int | None = None) -> None:
    """The last day of a consumer's lots was so many local days ago; of all or of the n-th that they got."""
    await world.rows(
        """
        UPDATE lot l SET expires_on = (now() AT TIME ZONE g.time_zone)::date - $2::int
        FROM program g, (SELECT event, row_number() OVER (ORDER BY event, n) - 1 AS place FROM lot WHERE account = $1) w
        WHERE g.id = l.program AND l.account = $1 AND w.event = l.event AND ($3::int IS NULL OR w.place = $3)
        """,
        await account_of(world, consumer), days_ago, n,
    )  # fmt: skip


async def reserve(world: World, consumer: str, points: int, *, ttl_s: float = 900) -> int:
    """Reserve; returns the redemption's number."""
    async with world.pool.acquire() as conn, conn.transaction():
        purse, terms, (number,) = await _open(conn, world, await account_of(world, consumer))
        transfer = purse.begin(Kind.RESERVE, number, platform=world.platforms["shop"].platform, redemption=number)
        parts = purse.reserve(transfer, points)
        bucket, account = purse.account.bucket, purse.account.id
        expires_at = datetime.now(UTC) + timedelta(seconds=ttl_s)
        await conn.execute(
            """
            INSERT INTO redemption (bucket, account, number, program, platform, id, status, points, created_at, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6, 'reserved', $7, now(), $8)
            """,
            bucket, account, number, world.program, world.platforms["shop"].platform, f"rd_{number}", points, expires_at,
        )  # fmt: skip
        await conn.execute("INSERT INTO reservation_due VALUES ($1, $2, $3, $4)", bucket, expires_at, account, number)
        await conn.executemany(
            "INSERT INTO redemption_lot VALUES ($1, $2, $3, $4, $5, $6, 0)",
            [(bucket, account, number, lot.event, lot.n, part) for lot, part in parts],
        )
        await purses.write(conn, [purse], terms, stripe=9)
    return number


async def capture(world: World, number: int, points: int) -> None:
    """Spend some of what a redemption holds; the rest comes back."""
    async with world.pool.acquire() as conn, conn.transaction():
        await _end(conn, world, number, captured=points)


async def release(conn: Connection, world: World, number: int, status: str = "cancelled") -> int:
    """End a reservation; returns the account's version. In the caller's transaction."""
    return await _end(conn, world, number, captured=0, status=status)


async def refund(world: World, number: int, points: int) -> None:
    """Give back what a redemption has spent."""
    async with world.pool.acquire() as conn, conn.transaction():
        (row,) = await conn.fetch("SELECT account FROM redemption WHERE number = $1", number)
        purse, terms, (new,) = await _open(conn, world, row["account"], number)
        transfer = purse.begin(Kind.REFUND, new, platform=world.platforms["shop"].platform, redemption=number)
        back = purse.refund(transfer, await _parts(conn, purse, number, "spent"), points, Book.REDEEMED)
        for lot, part in back:
            await conn.execute(
                "UPDATE redemption_lot SET spent = spent - $3 WHERE redemption = $1 AND event = $2 AND n = $4",
                number,
                lot.event,
                part,
                lot.n,
            )
        await conn.execute("UPDATE redemption SET refunded = refunded + $2 WHERE number = $1", number, points)
        await purses.write(conn, [purse], terms, stripe=9)


async def _open(conn: Connection, world: World, account: int, *redemptions: int) -> tuple[Purse, Any, list[int]]:
    locked = await purses.lock(conn, [account])
    terms = await purses.terms(conn, world.program)
    (purse,) = await purses.open_purses(conn, locked.values(), terms, redemptions=redemptions)
    return purse, terms, await purses.numbers(conn, 1)


async def _parts(conn: Connection, purse: Purse, number: int, column: str) -> list[Part]:
    rows = await conn.fetch(f"SELECT event, n, {column} AS points FROM redemption_lot WHERE redemption = $1 AND {column} > 0", number)
    return [(purse.lots[r["event"], r["n"]], r["points"]) for r in rows]


async def _end(conn: Connection, world: World, number: int, *, captured: int, status: str = "captured") -> int:
    (row,) = await conn.fetch("SELECT account FROM redemption WHERE number = $1", number)
    purse, terms, (new,) = await _open(conn, world, row["account"], number)
    kind = Kind.CAPTURE if captured else Kind.RELEASE
    transfer = purse.begin(kind, new, platform=world.platforms["shop"].platform, redemption=number)
    held = await _parts(conn, purse, number, "reserved")
    if captured:
        spent = purse.capture(transfer, held, captured, Book.REDEEMED)
    else:
        spent = []
        purse.release(transfer, held)
    await conn.execute("UPDATE redemption_lot SET reserved = 0 WHERE redemption = $1", number)
    for lot, part in spent:
        await conn.execute(
            "UPDATE redemption_lot SET spent = $3 WHERE redemption = $1 AND event = $2 AND n = $4", number, lot.event, part, lot.n
        )
    await conn.execute("UPDATE redemption SET status = $2, captured = $3, ended_at = now() WHERE number = $1", number, status, captured)
    await conn.execute("DELETE FROM reservation_due WHERE redemption = $1", number)
    await purses.write(conn, [purse], terms, stripe=9)
    return purse.account.version
