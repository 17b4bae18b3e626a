"""Assets in place of the tags that events name."""

from datetime import UTC, datetime, timedelta

from schemas.events import Event, Order, OrderCancelled, OrderFulfilled, Packaging, PackagingReturned, Return
from service.domain.tags import names_in, with_assets

NOW = datetime(2026, 11, 22, tzinfo=UTC)
BOX, TAG = "04012345555554987", "giai:400000112345"
FOUND = {(TAG, NOW): BOX}


def shipped(*assets: str) -> Event:
    return OrderFulfilled(id="s", occurred_at=NOW, order=Order(id="o"), packaging=Packaging(assets=list(assets)))


def returned(id_: str, asset: str, *, at: datetime = NOW) -> Event:
    return PackagingReturned(id=id_, occurred_at=at, returns=[Return(asset=asset, station="s-1")])


def test_names_are_canonical_and_have_their_time() -> None:
    events = [
        shipped("https://id.gs1.org/8003/04012345555554987"),
        returned("r", TAG),
        OrderCancelled(id="c", occurred_at=NOW, order=Order(id="o")),
    ]
    assert list(names_in(events)) == [(BOX, NOW), (TAG, NOW)]


def test_a_box_and_its_tag_are_one_box() -> None:
    assert with_assets([shipped(TAG, "box17", BOX)], FOUND) == [shipped(BOX, "box17")]
    assert with_assets([returned("r", TAG)], FOUND) == [returned("r", BOX)]
    for read in (["box", "tag"], ["tag", "box"]):
        events = [returned(name, BOX if name == "box" else TAG) for name in read]
        assert with_assets(events, FOUND) == [returned("box", BOX)], read


def test_what_has_no_tag_stays_as_it_was() -> None:
    later = NOW + timedelta(seconds=1)
    events = [returned("1", BOX), returned("2", BOX), returned("3", "box17"), shipped("box17", "box17"), returned("4", TAG, at=later)]
    assert with_assets(events, FOUND) == events
