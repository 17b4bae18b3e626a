"""From one event to its verdict, and to the state in which the next one is judged: the entry for whoever runs the checks."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct

from schemas.events import Event, OrderPaid
from service.domain.activities import ActivityKind
from service.domain.fraud.account import Account, after
from service.domain.fraud.history import Again
from service.domain.fraud.model import Judge
from service.domain.fraud.observation import Context, Observation, OrderBefore, observe
from service.domain.fraud.pipeline import Judged, Pipeline
from service.domain.fraud.state import State


class Facts(Struct, frozen=True, kw_only=True):
    """What the ledger knows of an event, beside what the event says."""

    number: int
    """Of the event, in the deployment."""
    platform: str
    account_id: int
    opened_at: datetime
    """When the account was opened; looked at with its first event only."""
    points: int
    """What it would earn; negative: what it takes back."""
    received_at: datetime
    certificates: Mapping[str, str] = {}
    """Of lines that earn as certified, by the line's id."""
    most: int = 0
    """Points that an event of its kind can earn at most in this program, by its caps; 0: nobody says."""
    kinds: Mapping[str, ActivityKind] = {}
    """The program's own activities."""


class Judging:
    """Judges the events of one program, one after the other, in order of arrival, each once: repeats are sorted out before.

    `hash_key`: for what is hashed of events (assets, waybills, evidence, tags), at most 64 bytes; the same for the life of the state.
    """

    def __init__(self, judge: Judge, state: State, *, hash_key: bytes) -> None:
        self.state = state
        self._hash_key = hash_key
        self._pipeline = Pipeline(judge, windows=state.windows, rings=state.rings, norms=state.norms, records=state.records)

    def judge_event(self, event: Event, facts: Facts) -> Judged:
        """The verdict on an event as it is stored (attributes hashed; see intake.minimised); the state then includes the event."""
        return self._pipeline.judge(self.observed(event, facts))

    def clear(self, accounts: Iterable[int]) -> None:
        """As Pipeline.clear."""
        self._pipeline.clear(accounts)

    def convict(self, accounts: Iterable[int]) -> tuple[Again, ...]:
        """As Pipeline.convict."""
        return self._pipeline.convict(accounts)

    def observed(self, event: Event, facts: Facts) -> Observation:
        """The observation of an event, made with its account's record and its order, which then include it."""
        accounts, orders, id_ = self.state.accounts, self.state.orders, facts.account_id
        account = accounts.get(id_) or Account(opened_at=int(facts.opened_at.timestamp()))
        order = event.order_id
        o = observe(event, Context(
            number=facts.number, platform=facts.platform, account=account, account_id=id_, points=facts.points,
            received_at=facts.received_at, hash_key=self._hash_key, certificates=facts.certificates,
            order=None if order is None else orders.get(facts.platform, order), most=facts.most, kinds=facts.kinds,
        ))  # fmt: skip
        accounts[id_] = after(account, o.step)
        if order is not None and isinstance(event, OrderPaid):
            orders.put(facts.platform, order, OrderBefore(at=o.at, entities=o.entities, merchant=o.merchant, packaging=o.packaging))
        return o
