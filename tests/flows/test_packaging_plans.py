"""However many boxes, trips, waiting returns and claims there are: each statement of a credit looks its own rows up by their keys."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from service.store import packaging as store
from service.store import personal_export
from service.store.connection import Connection, plan_by_index
from tests.worlds import World

ROWS = 50_000
SMALL = {"deployment", "program", "platform", "campaign"}
"""One row a program, a platform or a campaign: whether they are read by key or whole is nobody's concern."""
AT = datetime(2026, 6, 1, tzinfo=UTC)
DAY = date(2026, 6, 1)
BOX, ACCOUNT = "box77", 77


@pytest.fixture
async def connection(world: World) -> AsyncIterator[Connection]:
    """Rows of each kind: box n is of account n, out for the second time, and once more in returns that wait."""
    program, platform = world.program, world.platforms["shop"].platform
    async with world.pool.acquire() as conn:
        for sql in (
            "INSERT INTO asset (program, key, class) SELECT $1, 'box' || n, 'circular_box' FROM generate_series(1, $3::int) n WHERE $2::int > 0",
            (
                "INSERT INTO trip (program, asset, shipped_event, shipped_at, platform, order_id, bucket, account)"
                " SELECT $1, 'box' || n, n, now(), $2, 'o' || n, n & 1023, n FROM generate_series(1, $3::int) n"
            ),
            (
                "INSERT INTO waiting_return (program, asset, number, item, platform, occurred_at, bucket, account)"
                " SELECT $1, 'box' || n, n, 0, $2, now(), n & 1023, n FROM generate_series(1, $3::int) n"
            ),
            (
                "INSERT INTO parked (program, platform, order_id, number, id, type, occurred_at, received_at, facts, answer)"
                " SELECT $1, $2, '', n, 'r' || n, 'packaging.returned', now(), now(), '{}', '{}' FROM generate_series(1, $3::int) n"
            ),
            (
                "INSERT INTO claim (program, kind, fingerprint, bucket, account, event, item)"
                " SELECT $1, 1, sha256(n::text::bytea), n & 1023, n, n, 0 FROM generate_series(1, $3::int) n WHERE $2::int > 0"
            ),
            (
                "INSERT INTO packaging_sent (bucket, account, class, day, units)"
                " SELECT n & 1023, n, 'paper_mailer', '2026-06-01', 1 FROM generate_series(1, $3::int) n WHERE $1::int + $2::int > 0"
            ),
            (
                "INSERT INTO packaging_back (bucket, account, event, item, class, day, units)"
                " SELECT n & 1023, n, n, 0, 'paper_mailer', '2026-06-01', 1 FROM generate_series(1, $3::int) n WHERE $1::int + $2::int > 0"
            ),
            (
                "INSERT INTO consumer_reference (platform, reference, bucket, account)"
                " SELECT $2, 'c' || n, n & 1023, n FROM generate_series(1, $3::int) n WHERE $1::int > 0"
            ),
            (
                "INSERT INTO registry (program, kind, key, number, bucket, account)"
                " SELECT $1, 1, $2::int || ':r' || n, n, n & 1023, n FROM generate_series(1, $3::int) n"
            ),
            (
                "INSERT INTO event (bucket, account, number, program, platform, id, type, occurred_at, received_at, version, points, facts, answer)"
                " SELECT n & 1023, n, n, $1, $2, 'e' || n, 'packaging.returned', now(), now(), 1, 0, '{}', '{}' FROM generate_series(1, $3::int) n"
            ),
            (
                "INSERT INTO award (bucket, account, event, n, program, platform, campaign, version, points, day, due_at)"
                " SELECT n & 1023, n, n, 0, $1, $2, 1, 1, 5, '2026-06-01', now() FROM generate_series(1, $3::int) n"
            ),
            "INSERT INTO due SELECT n & 1023, now(), n, n FROM generate_series(1, $3::int) n WHERE $1::int + $2::int > 0",
            (
                "INSERT INTO erasure (bucket, account, program, platform, state)"
                " SELECT n & 1023, n, $1, $2, 'done' FROM generate_series(1, $3::int) n"
            ),
        ):
            await conn.execute(sql, program, platform, ROWS)
        await conn.execute("ANALYZE")
        yield conn


def statements(world: World) -> Iterator[tuple[str, str, tuple[Any, ...], set[str]]]:
    """name, statement, its values, the indexes by which it may look up rows of the large tables."""
    program, platform = world.program, world.platforms["shop"].platform
    bucket, one, claim = ACCOUNT & 1023, [ACCOUNT], ([program], [1], ["SF1007"])
    box = ([program], [BOX])
    yield "LOCK_ASSETS", store.LOCK_ASSETS, box, {"asset_pkey"}
    yield "FIND_ASSETS", store.FIND_ASSETS, box, {"asset_pkey"}
    yield "TRIPS", store.TRIPS, box, {"trip_pkey"}
    yield (
        "WAITING", store.WAITING, (*box, [AT]),
        {"waiting_return_pkey", "consumer_reference_account", "parked_number", "event_pkey"},
    )  # fmt: skip
    yield "RETURNED_FACTS", store.RETURNED_FACTS, ([platform], one), {"event_platform"}
    yield "LEAVE_TRIPS", store.LEAVE_TRIPS, (*box, one), {"trip_pkey"}
    yield "UPDATE_ASSETS", store.UPDATE_ASSETS, (*box, ["shipped"], [AT]), {"asset_pkey"}
    yield "DELETE_WAITING", store.DELETE_WAITING, (*box, one, [0]), {"waiting_return_pkey", "waiting_return_number"}
    yield "NAME_WAITING", store.NAME_WAITING, ([program], one, [bucket], one), {"waiting_return_number"}
    yield "FORGET_WAITING", store.FORGET_WAITING, (program, ACCOUNT), {"waiting_return_number"}
    yield "AWARDS", store.AWARDS, ([bucket], one, one), {"award_pkey", "due_pkey", "due_account"}
    yield "PLACE_CLAIMS", store.PLACE_CLAIMS, claim, set()
    yield "HOLDERS", store.HOLDERS, claim, {"claim_pkey"}
    yield "TAKE_CLAIMS", store.TAKE_CLAIMS, (*claim, one, one, [0]), set()
    yield "LEAVE_CLAIMS", store.LEAVE_CLAIMS, claim, {"claim_pkey"}
    yield "RELEASE_CLAIMS", store.RELEASE_CLAIMS, ([bucket], one, one, [0]), {"claim_event"}
    yield "SENT", store.SENT, ([bucket], one, ["paper_mailer"], False), {"packaging_sent_pkey"}
    yield (
        "CHANGE_SENT", store.CHANGE_SENT, ([bucket], one, ["paper_mailer"], [DAY], [Decimal(0)], [Decimal(1)]), {"packaging_sent_pkey"}
    )  # fmt: skip
    yield "BACK_OF", store.BACK_OF, (bucket, ACCOUNT, ACCOUNT), {"packaging_back_pkey"}
    yield "DELETE_BACK", store.DELETE_BACK, (bucket, ACCOUNT, ACCOUNT), {"packaging_back_pkey"}
    yield (
        "FIND_DECLARED", store.FIND_DECLARED, (program, platform, f"{platform}:r{ACCOUNT}"),
        {"registry_pkey", "event_platform", "parked_number"},
    )  # fmt: skip
    yield "DECLARE_PARKED_WRONG", store.DECLARE_PARKED_WRONG, (program, ACCOUNT), {"waiting_return_number", "parked_number"}
    yield "export: SHIPPED", personal_export.SHIPPED, (program, [BOX], one, bucket, ACCOUNT), {"trip_pkey", "trip_account"}
    yield "export: BROUGHT", personal_export.BROUGHT, (program, [BOX], one, bucket, ACCOUNT), {"trip_return", "trip_pkey"}
    yield "export: WAITING", personal_export.WAITING, (program, one), {"waiting_return_number"}
    yield "export: CLAIMS", personal_export.CLAIMS, (bucket, ACCOUNT, one), {"claim_event"}
    yield "export: BACK", personal_export.BACK, (bucket, ACCOUNT, one), {"packaging_back_pkey"}
    yield (
        "export: SENT", personal_export.SENT, (bucket, ACCOUNT, platform),
        {"packaging_sent_pkey", "consumer_reference_account", "erasure_pkey"},
    )  # fmt: skip


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


async def plan_of(connection: Connection, statement: str, values: tuple[Any, ...], *, generic: bool) -> dict[str, Any]:
    """Its plan for these values; `generic`: for whatever values, as writers have PostgreSQL plan."""
    if not generic:
        (plan,) = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *values))
        return plan["Plan"]  # type: ignore[no-any-return]
    await connection.execute(f"PREPARE asked AS {statement}")
    nothing = ", ".join(["NULL"] * len(values))
    (plan,) = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE asked ({nothing})"))
    await connection.execute("DEALLOCATE asked")
    return plan["Plan"]  # type: ignore[no-any-return]


async def faults(
    connection: Connection, statement: str, values: tuple[Any, ...], indexes: set[str], *, generic: bool = False
) -> list[str]:  # fmt: skip
    """What is wrong with how PostgreSQL carries a statement out."""
    plan = await plan_of(connection, statement, values, generic=generic)
    found = []
    used = set()
    for node in nodes(plan):
        table = node.get("Relation Name")
        if node["Node Type"] == "Seq Scan" and table not in SMALL:
            found.append(f"reads all of {table}")
        if (index := node.get("Index Name")) is not None and not index.startswith(tuple(f"{name}_pkey" for name in SMALL)):
            used.add(index)
            if index in indexes and "Index Cond" not in node:
                found.append(f"reads all of {index}")
            if node.get("Plan Rows", 0) > ROWS / 100:
                found.append(f"expects {node['Plan Rows']} rows of {index}")
    if used - indexes:
        found.append(f"looks up by {sorted(used - indexes)}")
    if indexes and not used:
        found.append("uses no index")
    return found


async def test_no_statement_of_packaging_reads_more_than_its_rows(world: World, connection: Connection) -> None:
    """As PostgreSQL likes it for these values, and with what writers set: no scans, one plan for whatever values."""
    for by_index in (False, True):
        if by_index:
            await plan_by_index(connection)
        wrong = {}
        for name, statement, values, indexes in statements(world):
            if what := await faults(connection, statement, values, indexes, generic=by_index):
                wrong[name] = what
        assert wrong == {}, f"{by_index=}"
    scan = "SELECT * FROM trip WHERE order_id = $1"
    assert await faults(connection, scan, ("o7",), {"trip_pkey"}) == ["reads all of trip", "uses no index"], "it would be noticed"


async def test_young_tables_are_looked_up_by_index_all_the_same(world: World) -> None:
    """Nothing is loaded and nothing analysed: the planner thinks that they are tiny, and writers must not believe it."""
    async with world.pool.acquire() as conn:
        await plan_by_index(conn)
        for name, statement, values, indexes in statements(world):
            found = [fault for fault in await faults(conn, statement, values, indexes, generic=True) if fault.startswith("reads all")]
            assert found == [], name
