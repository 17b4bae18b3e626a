"""What events about packaging and activities must satisfy, beside their shape."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from schemas.events import Event
from service.domain.activities import ActivityKind
from service.domain.errors import InvalidRequest, Undeclared
from service.domain.packaging import PackagingClass
from service.domain.validate import check_event
from service.domain.vocabulary import Vocabulary

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FACT = {"id": "e", "occurred_at": NOW.isoformat(), "consumer": "c"}
BOX = "04012345555554987"
RETURNED = FACT | {"type": "packaging.returned"}
FULFILLED = FACT | {"type": "order.fulfilled", "order": {"id": "o"}}
WRONG = FACT | {"type": "event.error_declared"}
DEPOSIT = {"amount": "5.00", "currency": "CNY"}
OWN = Vocabulary(
    classes={
        "crate": PackagingClass(code="crate", group="reuse", name_en="Crate", needs_asset=True),
        "old_crate": PackagingClass(code="old_crate", group="reuse", name_en="Old crate", needs_asset=True, active=False),
    },
    kinds={
        "cup_day": ActivityKind(code="cup_day", name="Cup day", schema={"type": "object", "properties": {"cup": {"type": "string"}}}),
        "old_day": ActivityKind(code="old_day", name="Old day", schema={"type": "object"}, active=False),
    },
)


def errors(event: dict[str, Any], own: Vocabulary = OWN) -> dict[str, str]:
    try:
        check_event(msgspec.convert(event, Event), NOW, own)
    except InvalidRequest as error:
        return {each.pointer: each.detail for each in error.errors}
    return {}


def sent(**packaging: Any) -> dict[str, Any]:
    return FULFILLED | {"packaging": packaging}


def returned(*items: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return RETURNED | {"returns": list(items)} | changes


def done(activity: str, **evidence: Any) -> dict[str, Any]:
    return FACT | {"type": "activity.completed", "activity": activity, "evidence": evidence}


@pytest.mark.parametrize(
    "event",
    [
        sent(**{"class": "reused_carton", "waybill": "SF 100"}),
        sent(**{"class": "crate"}),
        sent(assets=[BOX, "box-2"]),
        returned({"asset": BOX}, {"asset": "box-2", "deposit": DEPOSIT}),
        returned({"asset": BOX}, {"asset": "box-2"}, consumer=None),
        returned({"class": "plastic_mailer", "waybill": "SF100"}, {"class": "foam_box", "waybill": "SF100"}),
        returned({"class": "plastic_mailer"}, {"class": "plastic_mailer"}),
        returned({"asset": "b1", "waybill": "SF100"}, {"asset": "b2", "waybill": "SF100"}),
        done("refill", station="s"),
        done("cup_day", cup="a"),
        done("trade_in"),
        WRONG | {"error": {"event": "x", "reason": "did_not_occur"}},
        WRONG | {"consumer": None, "error": {"event": "x", "reason": "incorrect_data", "corrected_by": ["y"]}},
    ],
)
def test_what_is_taken(event: dict[str, Any]) -> None:
    assert errors(event) == {}


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (sent(), {"/packaging/class": "is required without assets"}),
        (sent(**{"class": "golden_box"}), {"/packaging/class": "is not a known packaging class"}),
        (sent(**{"class": "old_crate"}), {"/packaging/class": "is a packaging class that was retired"}),
        (sent(assets=[BOX, "x", f"(8003){BOX}"]), {"/packaging/assets/2": "is there twice"}),
        (sent(assets=["BOX 1", "box-1"]), {"/packaging/assets/1": "is there twice"}),
        (returned({"quantity": 1}), {"/returns/0/class": "is required without an asset"}),
        (returned({"class": "foam_box"}, {"class": "golden_box"}), {"/returns/1/class": "is not a known packaging class"}),
        (returned({"asset": BOX}, {"class": "foam_box"}, consumer=None), {"/consumer": "is required unless every item names an asset"}),
        (returned({"asset": BOX}, {"asset": f" {BOX}"}), {"/returns/1/asset": "is that of another item, too"}),
        (
            returned({"class": "foam_box", "waybill": "sf-100"}, {"class": "foam_box", "waybill": "SF 100"}),
            {"/returns/1/waybill": "is that of another item, too"},
        ),
        (returned({"class": "foam_box", "deposit": DEPOSIT}), {"/returns/0/deposit": "needs an asset"}),
        (returned({"asset": BOX, "deposit": DEPOSIT | {"amount": "0.00"}}), {"/returns/0/deposit/amount": "must be above 0"}),
        (returned({"asset": BOX, "deposit": DEPOSIT | {"amount": "-5"}}), {"/returns/0/deposit/amount": "must be above 0"}),
        (done("trade-in", serial="x"), {"/activity": "is neither built in nor an activity of this program's own"}),
        (done("old_day"), {"/activity": "is retired"}),
        (done("cup_day", cup=1), {"/evidence/cup": 'must be of type "string"'}),
        (done("trade_in", serial={}), {"/evidence/serial": 'must be of type ["string","integer"]'}),
        (WRONG | {"error": {"event": "e", "reason": "did_not_occur"}}, {"/error/event": "must be another event"}),
        (
            WRONG | {"error": {"event": "x", "reason": "incorrect_data", "corrected_by": ["y", "x"]}},
            {"/error/corrected_by/1": "is the event that is declared wrong"},
        ),
    ],
)
def test_what_is_refused_and_where(event: dict[str, Any], told: dict[str, str]) -> None:
    assert errors(event) == told


@pytest.mark.parametrize(
    ("event", "pointer"),
    [
        (sent(assets=["x", "(8003)04012345555555987"]), "/packaging/assets/1"),
        (sent(**{"class": "foam_box", "waybill": "(00)106141412345678909"}), "/packaging/waybill"),
        (returned({"asset": "urn:epc:id:sscc:0614141.1234567890"}), "/returns/0/asset"),
        (returned({"class": "foam_box", "waybill": "(00)1"}), "/returns/0/waybill"),
    ],
)
def test_an_identifier_that_cannot_be_read_is_refused_in_its_own_words(event: dict[str, Any], pointer: str) -> None:
    told = errors(event)
    assert list(told) == [pointer]
    assert told[pointer]


@pytest.mark.parametrize(
    ("event", "may_be_new"),
    [
        (sent(**{"class": "golden_box"}), True),
        (returned({"class": "golden_box"}), True),
        (done("golden_day"), True),
        (done("cup_day", cup=1), True),
        (sent(), False),
        (returned({"class": "foam_box", "quantity": 0}), False),
        (done("trade_in", serial={}), False),
    ],
)
def test_only_what_names_something_own_is_worth_asking_again(event: dict[str, Any], *, may_be_new: bool) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_event(msgspec.convert(event, Event), NOW, OWN)
    assert isinstance(refused.value, Undeclared) == may_be_new
