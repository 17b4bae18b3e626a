"""What a simulated world needs before its first event counts: platforms, goods, campaigns, stations, boxes; all by the operators' API."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import httpx
import msgspec
from msgspec import Struct

from loadtests.traffic import reckoning
from loadtests.traffic.catalogue import gtin_of
from loadtests.traffic.format import Label, Sent
from loadtests.traffic.places import Station
from schemas.bounds import MAX_IMPORT_ROWS, MAX_STATION_LATE_H
from schemas.events import Event, OrderFulfilled, OrderPaid, PackagingReturned
from service.domain.packaging import CLASS_CODES

ZONE: Final = "Asia/Shanghai"
_OWN_GTINS: Final = 800_000_000
"""From here on are GTINs of certified goods whose platform sends none."""
_ENDS: Final = {"starts_at": "2020-01-01T00:00:00Z", "ends_at": "2100-01-01T00:00:00Z", "expires_after": "P12M"}
_decode = msgspec.json.Decoder(Event).decode


class Goods(Struct, frozen=True, kw_only=True):
    """What registries have to know, as the traffic names it."""

    products: dict[tuple[str, str], tuple[str, str, str]]
    """Platform and SKU of certified goods → GTIN, category, certificate."""
    assets: dict[str, str]
    """Reusable packaging that exists → its class."""


def goods_of(traffic: Iterable[tuple[Sent, Label]]) -> Goods:
    """Certified goods, and boxes that exist: those that were shipped, or that honest people bring back."""
    products: dict[tuple[str, str], tuple[str, str, str]] = {}
    assets: dict[str, str] = {}
    for sent, label in traffic:
        match _decode(sent.event):
            case OrderPaid(lines=lines):
                for line in lines:
                    key = sent.platform, line.sku or ""
                    if key not in products and (certificate := reckoning.certificate_of(key[1])) is not None:
                        gtin = line.gtin or gtin_of(_OWN_GTINS + len(products))
                        products[key] = gtin, line.category or "", certificate
            case OrderFulfilled(packaging=packaging) if packaging is not None and packaging.class_ is not None:
                assets |= dict.fromkeys(packaging.assets, packaging.class_)
            case PackagingReturned(returns=items) if label.pattern is None:
                assets |= {item.asset: item.class_ for item in items if item.asset is not None and item.class_ is not None}
    return Goods(products=products, assets={asset: class_ for asset, class_ in assets.items() if class_ in CLASS_CODES})


def found(operator: httpx.Client, platforms: Iterable[str], stations: Iterable[Station], goods: Goods) -> dict[str, str]:
    """Make all of it; API keys by platform. Raises SystemExit when the API takes something not."""
    for campaign in operator.get("/v1/campaigns", params={"limit": 200}).raise_for_status().json()["items"]:
        if campaign["status"] != "ended":  # the demo's
            _post(operator, f"/v1/campaigns/{campaign['code']}/end")
    keys = {code: _post(operator, "/v1/platforms", {"code": code, "name": code})["api_key"] for code in platforms}
    for station in stations:
        _post(operator, "/v1/stations", _station(station))
    # Not every platform reports what it ships: returns of single-use packaging are the checks' to compare with that, not the rules'.
    operator.patch("/v1/packaging-policy", json={"return_window_days": None}).raise_for_status()
    _register(operator, goods)
    for campaign in _campaigns():
        _post(operator, "/v1/campaigns", campaign)
        _post(operator, f"/v1/campaigns/{campaign['code']}/activate")
    return keys


def _register(operator: httpx.Client, goods: Goods) -> None:
    certified: dict[str, list[str]] = {}
    for gtin, _, certificate in goods.products.values():
        certified.setdefault(certificate, []).append(gtin)
    _import(operator, "/v1/products/import", [
        {"gtin": gtin, "name": sku, "category": category, "skus": [{"platform": platform, "sku": sku}]}
        for (platform, sku), (gtin, category, _) in goods.products.items()
    ])  # fmt: skip
    _import(operator, "/v1/certificates/import", [
        {"scheme": "simulated", "number": number, "holder": "Mill", "valid_from": "2020-01-01", "valid_until": "2099-12-31", "gtins": gtins}
        for number, gtins in certified.items()
    ])  # fmt: skip
    _import(operator, "/v1/packaging/assets/import", [{"asset": asset, "class": class_} for asset, class_ in goods.assets.items()])


def _station(station: Station) -> dict[str, Any]:
    opens, closes = (f"{seconds // 3_600:02}:{seconds // 60 % 60:02}" for seconds in (int(station.opens), int(station.closes)))
    hours = {day: [[opens, closes]] for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun")}
    return {
        "code": station.code, "name": station.code, "time_zone": ZONE, "opening_hours": hours, "needs_proof": False,
        "late_h": MAX_STATION_LATE_H,
    }  # fmt: skip


def _campaigns() -> Iterator[dict[str, Any]]:
    """The reckoning of docs/fraud-traffic.md."""
    per_amount = {"kind": "per_amount", "points": 1, "per": "1.00", "currency": "CNY", "rounding": "floor"}
    yield _campaign("goods", "purchase", "line.certified", per_amount, hold="P14D", order=reckoning.MAX_ORDER)
    for class_, points in reckoning.CHOICES.items():
        yield _campaign(class_.replace("_", "-"), "packaging", f"packaging.class == '{class_}'", _fixed(points), hold="P14D")
    units = {"kind": "per_unit", "points": reckoning.UNIT}
    yield _campaign("assets", "return", "item.asset != ''", _fixed(reckoning.ASSET), hold="P1D")
    yield _campaign("units", "return", "item.asset == ''", units, hold="P1D", order=reckoning.MAX_RETURN)
    yield _campaign("trade-in", "activity", "activity.name == 'trade_in'", _fixed(reckoning.TRADE_IN), hold="P1D")
    yield _campaign("activities", "activity", "activity.name != 'trade_in'", _fixed(reckoning.OTHER), hold="P1D")


def _fixed(points: int) -> dict[str, Any]:
    return {"kind": "fixed", "points": points}


def _campaign(name: str, action: str, when: str, award: dict[str, Any], *, hold: str, order: int | None = None) -> dict[str, Any]:
    code = f"live-{name}"
    made = {"code": code, "name": code, "action": action, "when": when, "award": award, "hold": hold} | _ENDS
    return made if order is None else made | {"caps": {"order": order}}


def _post(operator: httpx.Client, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    answer = operator.post(path) if body is None else operator.post(path, json=body)
    if answer.status_code not in {200, 201, 204}:
        raise SystemExit(f"live: {path} was answered {answer.status_code}: {answer.text}")
    made: dict[str, Any] = answer.json() if answer.content else {}
    return made


def _import(operator: httpx.Client, path: str, rows: Sequence[dict[str, Any]]) -> None:
    for start in range(0, len(rows), MAX_IMPORT_ROWS):
        answer = operator.post(path, json=rows[start : start + MAX_IMPORT_ROWS])
        if answer.status_code != 200 or answer.json()["rejected"]:
            raise SystemExit(f"live: {path} was answered {answer.status_code}: {answer.text[:500]}")
