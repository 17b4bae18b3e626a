"""What links accounts, what people are told, what becomes of an event."""

import pytest

from service.domain.fraud.signals import SIGNALS
from service.domain.fraud_cases import MAX_LINKS, MAX_SHARING, links, outcome, softly


def test_what_two_accounts_have_in_common_links_them() -> None:
    shared = [
        (3, "device", "d"),
        (1, "device", "d"),
        (1, "ip", "i"),
        (3, "ip", "i"),
        (2, "ip", "i"),
        (2, "device", "e"),
        (1, "device", "d"),
    ]
    assert links(shared) == [((1, 3), ["device", "ip"]), ((1, 2), ["ip"]), ((2, 3), ["ip"])]


def test_a_value_of_another_kind_is_something_else() -> None:
    assert links([(1, "device", "x"), (2, "payment", "x")]) == []


def test_a_crowd_is_linked_with_its_first_account_only() -> None:
    crowd = range(MAX_SHARING + 1)
    assert links((n, "ip", "i") for n in crowd) == [((0, n), ["ip"]) for n in crowd[1:]]
    assert len(links((n, "ip", "i") for n in crowd[1:])) == MAX_LINKS


def test_what_a_person_is_told_names_no_signal_and_repeats_nothing() -> None:
    told = softly([signal.name for signal in SIGNALS[:3]] + [SIGNALS[0].name])
    assert told == list(dict.fromkeys(signal.softly for signal in SIGNALS[:3]))
    assert softly(["of-another-version"]) == softly([]) == ["An automatic check found something unusual."]


@pytest.mark.parametrize(
    ("kind", "left", "taken", "state"),
    [
        ("approve", 5, False, "approved"),
        ("approve", 0, False, "voided"),
        ("release", 5, False, "released"),
        ("release", 0, False, "voided"),
        ("void", 0, False, "voided"),
        ("void", 5, False, None),
        ("reject", 5, False, None),
        ("reject", 0, False, "voided"),
        ("reject", 0, True, "rejected"),
    ],
)
def test_what_becomes_of_an_event(kind: str, left: int, taken: bool, state: str | None) -> None:  # noqa: FBT001 - a parameter
    assert outcome(kind, left=left, taken=taken) == state  # type: ignore[arg-type]
