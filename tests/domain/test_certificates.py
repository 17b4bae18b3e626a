"""Certificates by the program's calendar, and what their numbers say."""

import re
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from service.domain.certificates import CertificateFacts, state_at
from service.domain.schemes import SCHEMES, check_number

SHANGHAI = ZoneInfo("Asia/Shanghai")
CERTIFICATE = CertificateFacts(id=1, scheme="eu-ecolabel", number="IT/016/007", valid_from=date(2026, 1, 1), valid_until=date(2026, 12, 31))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def state(certificate: CertificateFacts, moment: datetime) -> str:
    return state_at(certificate, moment, moment.astimezone(SHANGHAI).date())


@pytest.mark.parametrize(
    ("occurred_at", "expected"),
    [
        ("2025-12-31T15:59:59+00:00", "not_yet_valid"),
        ("2025-12-31T16:00:00+00:00", "valid"),
        ("2026-12-31T15:59:59.999999+00:00", "valid"),
        ("2026-12-31T16:00:00+00:00", "expired"),
        ("2027-01-01T00:00:00+14:00", "valid"),
    ],
)
def test_its_days_are_the_programs(occurred_at: str, expected: str) -> None:
    assert state(CERTIFICATE, at(occurred_at)) == expected


@pytest.mark.parametrize("field", ["revoked_at", "suspended_at"])
def test_revoked_and_suspended_count_from_their_moment_on(field: str) -> None:
    moment = datetime(2026, 6, 1, 12, tzinfo=UTC)
    certificate = CertificateFacts(**{f: getattr(CERTIFICATE, f) for f in CERTIFICATE.__struct_fields__} | {field: moment})
    assert state(certificate, at("2026-06-01T11:59:59.999999+00:00")) == "valid"
    assert state(certificate, moment) == field.removesuffix("_at")
    assert state(certificate, at("2030-01-01T00:00:00+00:00")) == field.removesuffix("_at")


def test_a_number_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(ValueError, match="IT/016/007"):
        check_number("eu-ecolabel", "nonsense")
    assert check_number("eu-ecolabel", "IT/123/00042") == []


def test_an_unverified_format_and_an_unknown_scheme_only_warn() -> None:
    assert len(check_number("kr-eco-label", "x")) == 1
    assert len(check_number("a-scheme-of-our-own", "x")) == 1
    assert "company" in check_number("fsc", "FSC-C123456")[0]


def test_the_reference_facts_hold_together() -> None:
    assert len(SCHEMES) == 48
    for scheme in SCHEMES.values():
        assert scheme.sources
        assert scheme.verification.split()[0].strip(";") in ("primary", "secondary", "recall")
        assert scheme.number.pattern or not scheme.number.pattern_enforced
        if scheme.number.pattern:
            assert all(re.fullmatch(scheme.number.pattern, example) for example in scheme.number.examples)
