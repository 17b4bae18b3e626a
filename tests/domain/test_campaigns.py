"""What is wrong with a campaign, durations, states, and the compiled form."""

from datetime import UTC, date, datetime
from typing import Any, get_args
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.campaigns import CampaignBody, CampaignStatus
from service.domain.campaigns import (
    TRANSITIONS,
    Duration,
    add_months,
    after_step,
    check_campaign,
    compile_campaign,
    expires_on,
    parse_duration,
)
from service.domain.errors import InvalidRequest, InvalidState

VALID: dict[str, Any] = {
    "code": "certified-goods", "name": "Certified goods", "action": "purchase",
    "starts_at": "2026-01-01T00:00:00Z", "ends_at": "2027-01-01T00:00:00Z", "award": {"kind": "fixed", "points": 1},
}  # fmt: skip


def body(**changes: Any) -> CampaignBody:
    return msgspec.convert(VALID | changes, CampaignBody)


def pointers(**changes: Any) -> list[str]:
    try:
        check_campaign(body(**changes))
    except InvalidRequest as error:
        return [e.pointer for e in error.errors]
    return []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"when": "line.certified", "segment": "consumer.tier == 'leaf'"}, []),
        ({"award": {"kind": "per_amount", "points": 1, "per": "1.00", "currency": "CNY"}}, []),
        ({"award": {"kind": "multiplier", "factor": "2", "of": ["other"]}}, []),
        ({"ends_at": "2026-01-01T00:00:00Z"}, ["/ends_at"]),
        ({"ends_at": "2026-01-01T00:00:00+08:00"}, ["/ends_at"]),
        ({"hold": "14 days"}, ["/hold"]),
        ({"hold": "P1M"}, ["/hold"]),
        ({"hold": "P367D"}, ["/hold"]),
        ({"hold": "-P1D"}, ["/hold"]),
        ({"hold": "P2W"}, []),
        ({"expires_after": "PT0S"}, ["/expires_after"]),
        ({"expires_after": "P101Y"}, ["/expires_after"]),
        ({"expires_after": "P1Y6M"}, []),
        ({"platforms": []}, ["/platforms"]),
        ({"platforms": ["a", "a"]}, ["/platforms/1"]),
        ({"award": {"kind": "per_amount", "points": 1, "per": "0.00", "currency": "XXX"}}, ["/award/currency", "/award/per"]),
        ({"award": {"kind": "per_amount", "points": 1, "per": "1", "currency": "CNY"}, "action": "return"}, ["/award/kind"]),
        ({"award": {"kind": "per_kg", "points": 1}}, ["/award/kind"]),
        ({"award": {"kind": "per_kg", "points": 1}, "action": "return"}, []),
        ({"award": {"kind": "tiered", "by": "mass", "tiers": [{"from": "1", "points": 1}]}}, ["/award/by"]),
        (
            {
                "award": {
                    "kind": "tiered",
                    "by": "quantity",
                    "currency": "CNY",
                    "tiers": [{"from": "1", "points": 1}, {"from": "1.0", "points": 2}],
                }
            },
            ["/award/currency", "/award/tiers/1/from"],
        ),
        (
            {"award": {"kind": "multiplier", "factor": "1.0", "of": ["certified-goods", "x", "x"]}},
            ["/award/factor", "/award/of/0", "/award/of/2"],
        ),
        ({"when": "line.no", "segment": "line.certified"}, ["/when", "/segment"]),
        ({"ends_at": "2025-01-01T00:00:00Z", "hold": "x", "when": "1"}, ["/ends_at", "/hold", "/when"]),
    ],
)
def test_every_error_has_its_pointer(changes: dict[str, Any], expected: list[str]) -> None:
    assert pointers(**changes) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("P14D", Duration(days=14)),
        ("P2W", Duration(days=14)),
        ("PT0S", Duration()),
        ("P12M", Duration(months=12)),
        ("P1Y2M3DT4H5M6S", Duration(months=14, days=3, seconds=4 * 3600 + 5 * 60 + 6)),
        ("PT15M", Duration(seconds=900)),
    ],
)
def test_durations(text: str, expected: Duration) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1", "1D", "P-1D", "P1.5D", "P1DT", "p1d", "P1D ", "P1S", "PT1D", "P٣D", "P1M1Y", "P9999999D"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        parse_duration(text)


def test_months_end_with_the_month() -> None:
    assert add_months(date(2024, 1, 31), 1) == date(2024, 2, 29)
    assert add_months(date(2024, 2, 29), 12) == date(2025, 2, 28)
    assert add_months(date(2025, 12, 15), 1) == date(2026, 1, 15)


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(0, 1200), st.integers(0, 1200))
def test_more_months_are_never_earlier(day: date, some: int, more: int) -> None:
    assert add_months(day, some) <= add_months(day, some + more)


@pytest.mark.parametrize(
    ("after", "last_day"),
    [
        ("P12M", "2027-03-01"),
        ("P1D", "2026-03-02"),
        ("PT1H", "2026-03-01"),
        ("PT23H", "2026-03-01"),
        ("P1M", "2026-04-01"),
        ("PT24H", "2026-03-02"),
    ],
)
def test_expiry_is_a_local_day(after: str, last_day: str) -> None:
    available = datetime(2026, 2, 28, 16, 30, tzinfo=UTC)  # 2026-03-01 00:30 in Shanghai
    assert expires_on(available, parse_duration(after), ZoneInfo("Asia/Shanghai")) == date.fromisoformat(last_day)


def test_every_step_from_every_state() -> None:
    outcome: dict[tuple[str, str], str] = {}
    for status in get_args(CampaignStatus):
        for step in TRANSITIONS:
            try:
                outcome[status, step] = after_step(status, step)
            except InvalidState:
                outcome[status, step] = "refused"
    assert outcome == {
        ("draft", "activate"): "running", ("draft", "pause"): "refused", ("draft", "end"): "ended",
        ("running", "activate"): "running", ("running", "pause"): "paused", ("running", "end"): "ended",
        ("paused", "activate"): "running", ("paused", "pause"): "paused", ("paused", "end"): "ended",
        ("ended", "activate"): "refused", ("ended", "pause"): "refused", ("ended", "end"): "ended",
    }  # fmt: skip


def test_the_compiled_form() -> None:
    stored = msgspec.json.encode(
        body(hold="P1DT1H", expires_after="P12M", platforms=["a"], stacking="exclusive:goods", when="line.certified")
    ).decode()
    compiled = compile_campaign(7, "running", 3, None, stored)
    assert (compiled.id, compiled.code, compiled.version, compiled.status) == (7, "certified-goods", 3, "running")
    assert compiled.hold_s == 25 * 3600
    assert compiled.expires == Duration(months=12)
    assert compiled.platforms == frozenset({"a"})
    assert compiled.group == "goods"
    assert compiled.when is not None
    assert compiled.segment is None
    assert compile_campaign(7, "running", 4, None, stored).when is compiled.when  # compiled once
