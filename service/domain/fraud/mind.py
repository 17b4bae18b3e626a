"""What a judge keeps of one program: windows, rings, norms, and a record of each account and order."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final, cast

from msgspec import Struct

from schemas.events import Event, StoredEvent
from service.domain.activities import ActivityKind
from service.domain.fraud.account import Account, after
from service.domain.fraud.model import Judge
from service.domain.fraud.observation import Context, OrderBefore, observe
from service.domain.fraud.pipeline import Judged, Pipeline

NO_KINDS: Final[Mapping[str, ActivityKind]] = {}


class Case(Struct, frozen=True, kw_only=True):
    """An event, and what the ledger knows of it."""

    event: StoredEvent
    number: int
    platform: str
    account: int
    points: int
    replaced: int = 0
    received_at: datetime
    certificates: Mapping[str, str]
    most: int = 0
    kinds: Mapping[str, ActivityKind] = NO_KINDS


class Mind:
    """Takes events in, one after the other, each once."""

    def __init__(self, judge: Judge, *, hash_key: bytes) -> None:
        self.pipeline = Pipeline(judge)
        self._hash_key = hash_key[:64]
        self._accounts: dict[int, Account] = {}
        self._orders: dict[tuple[str, str], OrderBefore] = {}

    def take(self, case: Case) -> Judged:
        """The verdict on an event; it is remembered."""
        event = case.event
        account = self._accounts.get(case.account) or Account(opened_at=int(event.occurred_at.timestamp()))
        key = (case.platform, getattr(event, "order_id", None) or "")
        o = observe(cast("Event", event), Context(
            number=case.number, platform=case.platform, account=account, account_id=case.account, points=case.points,
            replaced=case.replaced, received_at=case.received_at, hash_key=self._hash_key, certificates=case.certificates,
            order=self._orders.get(key),
            most=case.most, kinds=case.kinds,
        ))  # fmt: skip
        judged = self.pipeline.judge(o)
        self._accounts[case.account] = after(account, o.step)
        if o.type == "order.paid":
            self._orders[key] = OrderBefore(at=o.at, entities=o.entities, merchant=o.merchant)
        return judged
