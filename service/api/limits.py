"""Which limit a request falls under, and what a limited answer says (docs/api.md, rate limits).

Who proves who he is counts for himself alone. An address counts what comes from it without proof; beyond its limit such requests are
answered 429, while those that prove who they are go on: nobody is held up by others behind the same address. A platform has the limits that
an administrator gave it, out of the box none.
"""

from collections import OrderedDict
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec
from litestar.types import HTTPScope

from schemas.callers import RateLimit
from service.api.limiter import Limiter, Standing, Who
from service.api.visits import Visit, current
from service.domain.addresses import client_of, read_networks
from service.domain.errors import RateLimited
from service.domain.limits import Limit
from service.settings import Settings

PER_S: Final = 60
"""The window of the limits that are settings."""
SIGN_IN: Final = frozenset({"/v1/operators/sign-in", "/v1/oauth/token"})
CREDIT: Final = frozenset({"/v1/events", "/v1/events/batch"})
NEVER_LIMITED: Final = frozenset({"/healthz", "/readyz", "/metrics"})
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_CROWDED: Final = 8_192
"""Addresses beyond their limit that are remembered."""


def class_of(method: str, path: str) -> str:
    """The class of a route for platforms and operators."""
    if method in SAFE_METHODS:
        return "read"
    return "credit" if path in CREDIT else "write"


def read_limits(stored: str) -> dict[str, Limit]:
    """A platform's limits by class, as they are stored."""
    given = msgspec.json.decode(stored, type=dict[str, RateLimit])
    return {kind: Limit(limit.requests, limit.per_s) for kind, limit in given.items()}


class Limits:
    """What one process admits."""

    def __init__(self, limiter: Limiter, settings: Settings) -> None:
        self._limiter = limiter
        self._trusted = read_networks(settings.trusted_proxies)
        self._consumer = _per_minute(settings.limit_consumer_per_min)
        self._station = _per_minute(settings.limit_station_per_min)
        self._operator = _per_minute(settings.limit_operator_per_min)
        self._sign_in = _per_minute(settings.limit_sign_in_per_min)
        self._anonymous = _per_minute(settings.limit_anonymous_per_min)
        self._crowded: OrderedDict[str, None] = OrderedDict()
        """Addresses whose limit was used up, the one that is longest here first."""

    # Callers who proved who they are. Each raises RateLimited.

    def platform(self, platform: int, limits: Mapping[str, Limit]) -> None:
        """A platform that has limits."""
        visit = current()
        if visit is not None:
            kind = class_of(visit.scope["method"], visit.scope["path"])
            self._admit(visit, kind, (platform,), limits.get(kind))

    def consumer(self, platform: int, reference: str) -> None:
        """A consumer, whatever token he shows."""
        if self._consumer is not None:
            self._admit(current(), "me", (platform, reference), self._consumer)

    def station(self, station: int) -> None:
        """A collection station, with whichever of its keys."""
        self._admit(current(), "station", (station,), self._station)

    def operator(self, operator: int) -> None:
        """An operator."""
        visit = current()
        if visit is not None:
            kind = class_of(visit.scope["method"], visit.scope["path"])
            self._admit(visit, kind, ("operator", operator), self._operator)

    def hook(self, hook: str, limits: Mapping[str, Limit]) -> None:
        """A delivery that the hook's platform signed."""
        self._admit(current(), "hooks", (hook,), limits.get("hooks"))

    def _admit(self, visit: Visit | None, kind: str, who: Who, limit: Limit | None) -> None:
        """Once a request."""
        if visit is None or visit.limited or limit is None:
            return
        visit.limited = True
        standing = self._limiter.take(kind, who, limit)
        visit.fields += fields(kind, limit, standing)
        if not standing.admitted:
            raise RateLimited(
                f"Admitted are {limit.requests:,} per {limit.per_s} s ({kind}); come back in {standing.after_s} s.",
                retry_after_s=standing.after_s,
            )

    # Addresses

    def at_the_door(self, visit: Visit) -> RateLimited | None:
        """The refusal of a request that need not be looked at: to sign in too often, or without any proof from a crowded address."""
        path = visit.scope["path"]
        try:
            if path in SIGN_IN and visit.scope["method"] == "POST":
                self._admit(visit, "sign_in", (self.address(visit.scope),), self._sign_in)
            elif self._crowded and path not in NEVER_LIMITED and not visit.headers.keys() & {b"authorization", b"cookie"}:
                self._crowded_out(visit)
        except RateLimited as refusal:
            return refusal
        return None

    def _crowded_out(self, visit: Visit) -> None:
        address = self.address(visit.scope)
        if address in self._crowded and not visit.scope["path"].startswith("/v1/hooks/"):
            visit.counted = True
            self._anonymous_one(visit, address)

    def at_the_answer(self, visit: Visit, status: int) -> RateLimited | None:
        """The refusal in place of this answer: it went to somebody who proved nothing, and whose address has had enough of those."""
        if self._anonymous is None or visit.counted or not _is_anonymous(visit, status):
            return None
        visit.counted = True
        try:
            self._anonymous_one(visit, self.address(visit.scope))
        except RateLimited as refusal:
            return refusal
        return None

    def _anonymous_one(self, visit: Visit, address: str) -> None:
        """Count a request that proved nothing. Raises RateLimited."""
        try:
            self._admit(visit, "anonymous", (address,), self._anonymous)
        except RateLimited:
            self._crowded[address] = None
            if len(self._crowded) > MAX_CROWDED:
                self._crowded.popitem(last=False)
            raise
        self._crowded.pop(address, None)

    def address(self, scope: HTTPScope) -> str:
        """The client's address: never to be logged or stored as it is."""
        client = scope["client"]
        if client is None:
            return ""
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"] if self._trusted else []
        return client_of(client[0], forwarded, self._trusted)


def _is_anonymous(visit: Visit, status: int) -> bool:
    path = visit.scope["path"]
    if path in NEVER_LIMITED or path in SIGN_IN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return False
    if status == HTTPStatus.UNAUTHORIZED:
        return True
    if visit.known:
        return False
    return status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED) or not path.startswith("/v1/")


def fields(kind: str, limit: Limit, standing: Standing) -> list[tuple[bytes, bytes]]:
    """The fields of draft-ietf-httpapi-ratelimit-headers: the policy, and what is left of it."""
    name = kind.encode()
    return [
        (b"ratelimit-policy", b'"%b";q=%d;w=%d' % (name, limit.requests, limit.per_s)),
        (b"ratelimit", b'"%b";r=%d;t=%d' % (name, standing.remaining, standing.after_s)),
    ]


def _per_minute(requests: int) -> Limit | None:
    """A setting; 0 turns it off."""
    return Limit(requests, PER_S) if requests else None
