"""Which asset a tag stands for at a time: any order of arrival, declared errors, other platforms and programs."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.connectors import Association
from service.flows import administer
from service.flows.associations import remember, resolve_aliases
from service.store.asset_tags import RESOLVE
from tests.worlds import World

BOX, CRATE, TAG = "04012345555554987", "04012345555554988", "giai:400000112345"
START = datetime(2026, 11, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    return START + timedelta(days=number)


def put_on(event: str, asset: str, at: int, **changes: object) -> Association:
    return Association(event=event, asset=asset, tag=TAG, at=day(at), joined=True, **changes)  # type: ignore[arg-type]


def taken_off(event: str, asset: str, at: int, tag: str | None = TAG) -> Association:
    return Association(event=event, asset=asset, tag=tag, at=day(at), joined=False)


@pytest.fixture
async def tagged(world: World) -> World:
    """Two registered assets."""
    await register(world, world.program, BOX, CRATE)
    return world


async def register(world: World, program: int, *keys: str) -> None:
    for key in keys:
        await world.rows("INSERT INTO asset (program, key, class) VALUES ($1, $2, 'circular_box')", program, key)


async def said(world: World, *associations: Association, platform: str = "shop") -> None:
    async with world.pool.acquire() as conn:
        await remember(conn, world.program, world.platforms[platform].platform, associations)


async def stands_for(world: World, at: int, *, platform: str = "shop", name: str = TAG, program: int | None = None) -> str | None:
    async with world.pool.acquire() as conn:
        found = await resolve_aliases(
            conn, program=program or world.program, platform=world.platforms[platform].platform, assets=[(name, day(at))]
        )
    return found.get((name, day(at)))


async def test_a_tag_stands_for_its_asset_from_when_it_was_put_on(tagged: World) -> None:
    await said(tagged, put_on("1", BOX, 2))
    assert [await stands_for(tagged, at) for at in (1, 2, 3)] == [None, BOX, BOX]


STORY = [put_on("1", BOX, 1), taken_off("2", BOX, 3), put_on("3", CRATE, 3), taken_off("4", BOX, 5), taken_off("5", CRATE, 7, tag=None)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::7])
async def test_reports_come_in_any_order_and_again(tagged: World, order: tuple[int, ...]) -> None:
    for number in order:
        await said(tagged, STORY[number])
    await said(tagged, *STORY, *STORY)
    assert [await stands_for(tagged, at) for at in range(9)] == [None, BOX, BOX, CRATE, CRATE, CRATE, CRATE, None, None]


@pytest.mark.parametrize("first", ["the report", "its error"])
async def test_what_was_declared_wrong_never_was(tagged: World, first: str) -> None:
    both = [put_on("1", BOX, 1), put_on("1", BOX, 1, void=True)]
    for association in both if first == "the report" else both[::-1]:
        await said(tagged, association)
    assert await stands_for(tagged, 2) is None
    await said(tagged, both[0])
    assert await stands_for(tagged, 2) is None


async def test_a_removal_that_was_declared_wrong_removed_nothing(tagged: World) -> None:
    wrong = Association(event="2", asset=BOX, tag=TAG, at=day(2), joined=False, void=True)
    await said(tagged, put_on("1", BOX, 1), wrong)
    assert await stands_for(tagged, 3) == BOX


async def test_the_first_report_under_an_id_counts(tagged: World) -> None:
    await said(tagged, put_on("1", BOX, 1))
    await said(tagged, put_on("1", BOX, 5), put_on("1", BOX, 5))
    assert await stands_for(tagged, 2) == BOX


async def test_a_registered_asset_is_itself_whatever_is_said_to_be_on_what(tagged: World) -> None:
    """Else whoever may report associations could let all returns of somebody's box count for another one."""
    await said(tagged, Association(event="1", asset=BOX, tag=CRATE, at=day(1), joined=True), platform="market")
    assert await stands_for(tagged, 2, name=CRATE) is None


async def test_a_tag_leads_to_registered_assets_only(tagged: World) -> None:
    await said(tagged, put_on("1", "04012345555554989", 1))
    assert await stands_for(tagged, 2) is None
    await register(tagged, tagged.program, "04012345555554989")
    assert await stands_for(tagged, 2) == "04012345555554989"


async def test_what_a_platform_itself_reported_goes_before_what_others_did(tagged: World) -> None:
    await said(tagged, put_on("1", BOX, 1), platform="shop")
    assert await stands_for(tagged, 9, platform="market") == BOX
    await said(tagged, put_on("1", CRATE, 5), taken_off("2", BOX, 6), taken_off("3", BOX, 6, tag=None), platform="market")
    assert await stands_for(tagged, 9, platform="market") == CRATE
    assert await stands_for(tagged, 9, platform="shop") == BOX


async def test_another_program_knows_nothing_of_it(tagged: World) -> None:
    async with tagged.pool.acquire() as conn:
        other = await administer.create_program(conn, code="other", name="Other", currency="x", time_zone="UTC")
    await register(tagged, other.id, BOX)
    await said(tagged, put_on("1", BOX, 1))
    assert await stands_for(tagged, 2) == BOX
    assert await stands_for(tagged, 2, program=other.id) is None


async def test_tags_are_found_by_index_among_many(tagged: World) -> None:
    platform = tagged.platforms["shop"]
    await tagged.rows(
        "INSERT INTO asset_tag (program, platform, event, tag, asset, at, joined) "
        "SELECT $1, $2, 'e' || n, 'giai:' || n, $3, now(), true FROM generate_series(1, 200000) n",
        platform.program, platform.platform, BOX,
    )  # fmt: skip
    await tagged.rows("ANALYZE asset_tag")
    rows = await tagged.rows(f"EXPLAIN {RESOLVE}", platform.program, platform.platform, ["giai:17"], [day(40)])
    plan = "\n".join(row["QUERY PLAN"] for row in rows)
    assert "asset_tag_tag" in plan, plan
    assert "Seq Scan" not in plan, plan
