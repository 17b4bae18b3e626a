"""Rings: families stay small, crowds glue nobody, and order does not matter."""

import random

import pytest

from service.domain.fraud.rings import FORGOTTEN_S, LINKS, MAX_LINKS, MAX_SUSPECTS, Rings
from service.domain.fraud.windows import DAY, MONTH
from tests.fraud.making import T0, observation


def join(rings: Rings, account: int, *, at: int = T0, points: int = 10, young: bool = False, **entities: str) -> None:
    rings.join(observation(account=account, at=at, points=points, entities=entities), young=young)


@pytest.mark.parametrize("kind", ["device", "payment"])
def test_what_is_personal_joins_by_itself(kind: str) -> None:
    rings = Rings()
    for account in (1, 2, 3):
        join(rings, account, **{kind: "x"})
    assert rings.ring(1).size == 3
    assert rings.ring(1).links[0].kinds == (kind,)


def test_an_address_joins_only_with_more() -> None:
    rings = Rings()
    join(rings, 1, address="home", ip="1")
    join(rings, 2, address="home", ip="1")
    assert rings.ring(1).size == 1
    join(rings, 2, device="phone")
    join(rings, 1, device="phone")
    assert rings.ring(1).size == 2


def test_a_family_stays_a_family() -> None:
    rings = Rings()
    for family in range(50):
        for one in range(4):
            join(rings, family * 4 + one, device=f"d{family}", address=f"a{family}", payment=f"p{family}", ip="carrier")
    assert {rings.ring(account).size for account in range(200)} == {4}


@pytest.mark.parametrize("kind", ["ip", "address"])
def test_a_crowd_glues_nobody(kind: str) -> None:
    rings = Rings()
    for account in range(500):
        join(rings, account, **{kind: "shared", "device": f"d{account}"})
    assert {rings.ring(account).size for account in range(500)} == {1}


def test_a_device_that_too_many_use_joins_no_more() -> None:
    rings = Rings()
    most = LINKS["device"].most
    for account in range(10 * most):
        join(rings, account, device="kiosk")
    assert rings.ring(0).size == most
    assert rings.ring(10 * most - 1).size == 1


def test_a_phone_that_was_sold_joins_nobody() -> None:
    rings = Rings()
    join(rings, 1, device="phone")
    join(rings, 2, device="phone", at=T0 + MONTH + 1)
    assert rings.ring(1).size == 1


def test_order_does_not_matter() -> None:
    uses = [
        (account, kind, f"{kind}{account // size}")
        for account in range(24)
        for kind, size in (("device", 3), ("payment", 4), ("address", 2))
    ]
    found = []
    for seed in range(5):
        random.Random(seed).shuffle(uses)
        rings = Rings()
        for account, kind, value in uses:
            join(rings, account, **{kind: value})
        found.append(frozenset(frozenset(a for a in range(24) if rings.ring(a).root == rings.ring(b).root) for b in range(24)))
    assert len(set(found)) == 1
    assert {len(ring) for ring in found[0]} == {12}


def test_sums_follow_when_rings_are_joined_and_evidence_is_bounded() -> None:
    rings = Rings()
    for account in range(100):
        join(rings, account, points=5, young=account % 2 == 0, device=f"d{account // 2}")
        rings.ring(account).sums.add(T0, 0.5)
        rings.ring(account).suspect(account)
    for account in range(100):
        join(rings, account, points=0, payment=f"p{(account + 1) // 2}")
    ring = rings.ring(0)
    assert (ring.size, ring.points, ring.young, ring.sums.odds, ring.events) == (100, 500, 250, 50.0, 200)
    assert len(ring.links) == MAX_LINKS
    assert len(ring.suspects) == MAX_SUSPECTS


def test_things_that_nobody_uses_are_forgotten_and_those_in_use_are_not() -> None:
    rings, days = Rings(), 400
    for day in range(days):
        at = T0 + day * DAY
        join(rings, 1, at=at, device="phone")
        join(rings, 2 + day, at=at, ip=f"ip{day}", address=f"home{day}")
    assert len(rings.tables()["thing"]) < 2 * 4 * FORGOTTEN_S // DAY
    join(rings, days + 2, at=T0 + days * DAY, device="phone")
    assert rings.ring(1).size == 2
