"""From bytes to a fact: texts must be printable wherever they come from, free objects may hold anything."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from schemas.events import Event
from service.domain.errors import InvalidRequest, Unavailable
from service.domain.intake import Sender, fact_of, read_fact

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SENDER = Sender(program=1, platform=1, platform_code="shop")
EVENT: dict[str, Any] = {
    "id": "e-1", "type": "order.paid", "occurred_at": "2026-06-01T00:00:00Z", "consumer": "c-1",
    "order": {"id": "o-1", "currency": "CNY", "total": "10.00"}, "lines": [{"id": "1", "quantity": 1, "unit_price": "10.00"}],
}  # fmt: skip
UNPRINTABLE = ["\x00", "a\nb", "a\n", "\x1f", "\x7f", "\x85", "\u2028", "\u2029"]


def read(event: dict[str, Any], form: str) -> object:
    body = json.dumps(event, ensure_ascii=form == "escaped").encode()
    return read_fact(body, SENDER, now=NOW, hash_key=b"k").event


@pytest.mark.parametrize("form", ["escaped", "raw"])
@pytest.mark.parametrize("text", UNPRINTABLE, ids=repr)
def test_what_cannot_be_printed_is_refused_with_its_place(text: str, form: str) -> None:
    for event, pointer in (
        (EVENT | {"id": text}, "/id"),
        (EVENT | {"consumer": text}, "/consumer"),
        (EVENT | {"order": EVENT["order"] | {"id": text}}, "/order/id"),
        (EVENT | {"lines": [EVENT["lines"][0] | {"sku": text}]}, "/lines/0/sku"),
        (EVENT | {"packaging": {"class": "reused_box", "assets": ["a", text]}}, "/packaging/assets/1"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            read(event, form)
        assert [error.pointer for error in caught.value.errors] == [pointer]
        with pytest.raises(InvalidRequest):
            fact_of(msgspec.convert(event, Event), SENDER, now=NOW, hash_key=b"k")


@pytest.mark.parametrize("form", ["escaped", "raw"])
def test_any_language_and_any_free_object_passes(form: str) -> None:
    event = EVENT | {"consumer": 'Zoë "绿" 🌱 \\', "attributes": {"note": "".join(UNPRINTABLE)}}
    assert read(event, form) == msgspec.convert(event, Event)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        fact_of(msgspec.convert(EVENT | {"id": "\ud800"}, Event), SENDER, now=NOW, hash_key=b"k")


def test_what_identifies_somebody_is_not_hashed_without_the_key() -> None:
    body = json.dumps(EVENT | {"attributes": {"device": "d-1"}}).encode()
    with pytest.raises(Unavailable):
        read_fact(body, SENDER, now=NOW, hash_key=b"")
    assert b"d-1" not in read_fact(body, SENDER, now=NOW, hash_key=b"k").facts
