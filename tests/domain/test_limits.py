"""The sliding window, and the address that a request came from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.addresses import MAX_HOPS, client_of, read_networks
from service.domain.limits import Limit, room, wait_s

limits = st.builds(Limit, st.integers(1, 5_000), st.integers(1, 3_600))


def test_the_whole_limit_fits_into_an_empty_window_and_not_one_more() -> None:
    limit = Limit(10, 60)
    assert [room(limit, before=0, counted=n, elapsed_s=0.0) >= 1 for n in range(12)] == [True] * 10 + [False] * 2


def test_the_window_before_counts_by_what_is_still_covered() -> None:
    limit = Limit(10, 60)
    assert room(limit, before=10, counted=0, elapsed_s=0.0) < 1
    assert room(limit, before=10, counted=0, elapsed_s=5.9) < 1
    assert room(limit, before=10, counted=0, elapsed_s=6.0) >= 1
    assert room(limit, before=10, counted=4, elapsed_s=30.0) >= 1
    assert room(limit, before=10, counted=5, elapsed_s=30.0) < 1


@given(limits, st.integers(0, 10_000), st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_after_the_wait_one_fits_and_a_second_earlier_none(limit: Limit, before: int, counted: int, part: float) -> None:
    elapsed = part * limit.per_s

    def fits(after_s: float) -> bool:
        at, then_before, then_counted = elapsed + after_s, before, counted
        while at >= limit.per_s:
            at, then_before, then_counted = at - limit.per_s, then_counted, 0
        return room(limit, before=then_before, counted=then_counted, elapsed_s=at) >= 1

    wait = wait_s(limit, before=before, counted=counted, elapsed_s=elapsed)
    assert fits(wait + 1e-3)
    if wait:
        assert not fits(0)
        assert not any(fits(s) for s in range(max(0, wait - 3), wait - 1))
        assert wait == 1 or not fits(wait - 1 - 1e-3)


TRUSTED = read_networks("10.0.0.0/8, 2001:db8:1::/48, 127.0.0.1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.7", [], "203.0.113.7"),
        ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),  # nobody trusts this peer
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1"], "198.51.100.1"),  # what stands left of it was sent by the client
        ("10.0.0.1", ["1.2.3.4, 198.51.100.1, 10.2.3.4"], "198.51.100.1"),
        ("10.0.0.1", ["1.2.3.4", "198.51.100.1, 10.2.3.4"], "198.51.100.1"),  # two fields are one list
        ("10.0.0.1", ["10.9.9.9, 10.2.3.4"], "10.9.9.9"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, unknown, 10.2.3.4"], "10.2.3.4"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("127.0.0.1", ["[2001:db8:2:3:4:5:6:7]:443"], "2001:db8:2:3::/64"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8:1::5", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("2001:db8:9:9:1:2:3:4", ["198.51.100.1"], "2001:db8:9:9::/64"),
        ("testclient", ["198.51.100.1"], "testclient"),
    ],
)
def test_the_client_is_the_right_most_address_that_is_no_proxy(peer: str, forwarded: list[str], client: str) -> None:
    assert client_of(peer, forwarded, TRUSTED) == client


def test_so_many_proxies_are_looked_at_and_no_more() -> None:
    assert client_of("10.0.0.1", ["198.51.100.1" + ", 10.1.1.1" * (MAX_HOPS - 1)], TRUSTED) == "198.51.100.1"
    assert client_of("10.0.0.1", ["198.51.100.1" + ", 10.1.1.1" * 100_000], TRUSTED) == "10.1.1.1"


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    assert client_of("10.0.0.1", ["198.51.100.1"], ()) == "10.0.0.1"


@pytest.mark.parametrize("text", ["nonsense", "10.0.0.0/33", "10.0.0.1/8"])
def test_networks_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text[:8]):
        read_networks(text)
