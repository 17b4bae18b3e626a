"""From traffic as files to observations, in the place of the intake and the ledger: who, how old, for how many points."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from loadtests.traffic.format import Label, Sent
from loadtests.traffic.reckoning import MAX_ORDER, MAX_RETURN, certificate_of
from schemas.events import Event, OrderPaid
from service.domain.fraud.account import Account, after
from service.domain.fraud.observation import Context, Observation, OrderBefore, observe

MOST: Final = {"order.paid": MAX_ORDER, "packaging.returned": MAX_RETURN}
"""The caps of the reckoning in docs/fraud-traffic.md, without the packaging choice."""
_decode = msgspec.json.Decoder(Event).decode


def observations(traffic: Iterable[tuple[Sent, Label]]) -> Iterator[tuple[Observation, Label]]:
    """What the checks see of each event, with its label. Repeats of an id are left out, as the intake does.

    Whose an event is says the label, as the ledger would: a refund or a box may name nobody. An account opens with its first event; its
    record, and orders by id, are kept in memory, where the worker has tables.
    """
    accounts: dict[tuple[str, str], tuple[int, Account]] = {}
    orders: dict[tuple[str, str], OrderBefore] = {}
    seen: set[tuple[str, str]] = set()
    for number, (sent, label) in enumerate(traffic):
        if (label.platform, label.event) in seen:
            continue
        seen.add((label.platform, label.event))
        event = _decode(sent.event)
        order_key, key = (sent.platform, event.order_id or ""), (sent.platform, label.consumer)
        id_, account = accounts.get(key) or (len(accounts), Account(opened_at=int(event.occurred_at.timestamp())))
        o = observe(event, Context(
            number=number, platform=sent.platform, account=account, account_id=id_, points=label.points, received_at=sent.at,
            certificates=_certificates(event), order=orders.get(order_key), most=MOST.get(event.TYPE, 0),
        ))  # fmt: skip
        accounts[key] = id_, after(account, o.step)
        if o.type == "order.paid":
            orders[order_key] = OrderBefore(at=o.at, entities=o.entities, merchant=o.merchant, packaging=o.packaging)
        yield o, label


def _certificates(event: Event) -> dict[str, str]:
    """The certificate of each certified line, as the registry would tell it."""
    if not isinstance(event, OrderPaid):
        return {}
    return {line.id: certificate for line in event.lines if line.sku and (certificate := certificate_of(line.sku))}
