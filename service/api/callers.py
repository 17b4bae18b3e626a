"""Who is calling (CONTRACT §3.1): platforms and stations by key, consumers by a token that a platform signed, operators by token.

One `Callers` per process remembers, bounded, who has proved what, so that the hot path costs a dictionary look-up. It is allowed
to forget at any time and does so when `callers_version` has risen, within the seconds between two calls of `refresh`.
When PostgreSQL cannot be asked about somebody unknown, the answer is 503: nobody is sent away because of our own trouble.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, TypeVar

import asyncpg
import structlog
from litestar import Request
from msgspec import Struct

from schemas.bounds import MAX_TOKEN_CHARS
from service.api.exchange import AnyRequest
from service.api.limits import Limits, read_limits
from service.api.visits import current
from service.domain import secrets, tokens
from service.domain.errors import CallerRefused, Forbidden, NotFound, Overloaded, Unauthenticated, Unavailable
from service.domain.limits import Limit
from service.domain.roles import ConsumerScope, Role, Scope
from service.domain.tokens import Algorithm, TokenError, VerificationKey
from service.domain.vocabulary import Vocabulary
from service.flows.administer import choose_program
from service.flows.jwks import FRESH_S, KeySets, KeySetUnavailable
from service.flows.master_key import open_hook
from service.flows.vocabulary import vocabulary_of
from service.sealing import Sealer, Unsealable
from service.store import access_tokens, stations
from service.store import callers as store
from service.store.connection import UNREACHABLE, Connection, Pool, reading

MAX_REMEMBERED: Final = 8_192
"""Callers of each kind that a process remembers; the one unused for longest makes room."""
MAX_AUTHORIZATION_CHARS: Final = MAX_TOKEN_CHARS + 16
UNKNOWN_S: Final = 1.0
"""How long an unknown key is refused without asking PostgreSQL again."""
MAX_LOOKUPS: Final = 256
"""Look-ups that may wait or run; beyond that 503 `overloaded`."""
PARALLEL_LOOKUPS: Final = 2
"""Connections that look-ups may hold at a time, so that guessing keys cannot take the pool away from credits."""
LOOKUP_TIMEOUT_S: Final = 0.9
REFRESH_TIMEOUT_S: Final = 2.0
"""With the 2 s between two calls this stays below the 5 s after which a revoked key must be refused."""

PROGRAM_HEADER: Final = "X-Greenpoints-Program"
OPAQUE_PREFIXES: Final = (
    secrets.PLATFORM_KEY_PREFIX,
    secrets.ACCESS_TOKEN_PREFIX,
    secrets.STATION_KEY_PREFIX,
    secrets.OPERATOR_TOKEN_PREFIX,
)
"""What is no consumer token, from its beginning."""

log = structlog.get_logger("greenpoints.callers")

T = TypeVar("T")


class PlatformCaller(Struct, frozen=True, kw_only=True):
    """A platform. `scopes` empty: everything that a platform may do. `key`: the API key that proved it, or its token stands for."""

    platform: int
    program: int
    code: str
    scopes: frozenset[str]
    key: int = 0
    limits: dict[str, Limit] | None = None
    """By class; None: none."""

    def require(self, scope: Scope) -> None:
        """Raises Forbidden when the key is limited to other scopes."""
        if self.scopes and scope not in self.scopes:
            raise Forbidden(f"This API key lacks the scope {scope!r}.").about("platform", self.code)


class ConsumerCaller(Struct, frozen=True, kw_only=True):
    """A consumer, as a platform's signed token names it."""

    platform: int
    program: int
    code: str
    reference: str
    scopes: frozenset[str]

    def require(self, scope: ConsumerScope) -> None:
        """Raises Forbidden when the token lacks the scope."""
        if scope not in self.scopes:
            raise Forbidden(f"This consumer token lacks the scope {scope!r}.").about("consumer", self.code)


class StationCaller(Struct, frozen=True, kw_only=True):
    """A collection station; `platform` None: it serves the whole program. `key`: the station's key that proved it."""

    station: int
    program: int
    code: str
    platform: int | None
    platform_code: str | None
    key: int


class OperatorCaller(Struct, frozen=True, kw_only=True):
    """An operator, acting in one program: the token's own, or the one that the header chose, or the only one."""

    operator: int
    email: str
    role: str
    program: int
    token: int = 0
    """The number of the token that proved it."""
    everywhere: bool = False
    """Of every program of the deployment, not of this one alone."""

    @property
    def actor(self) -> str:
        """How the audit names this operator."""
        return f"operator:{self.operator}"


class _Issuer(Struct, frozen=True, kw_only=True):
    """A platform and how its consumer tokens are verified."""

    platform: int
    program: int
    code: str
    named: dict[str, VerificationKey]
    unnamed: list[VerificationKey]
    development: list[str]
    sets: list[tuple[str, Algorithm]]


class Callers:
    """What one process knows of its callers. Not for use from several event loops."""

    def __init__(
        self, pool: Pool, *, sealer: Sealer, limits: Limits | None = None, allow_loopback_jwks: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`clock` is seconds since 1970, for the expiry of keys and tokens; a parameter for tests only. No `limits`: none."""
        self._limits = limits
        self.allow_loopback_jwks = allow_loopback_jwks
        self._pool = pool
        self._sealer = sealer
        self._clock = clock
        self._turns = asyncio.Semaphore(PARALLEL_LOOKUPS)
        self._lookups = 0
        self._version: int | None = None
        self._generation = 0
        self._key_sets = KeySets(allow_loopback=allow_loopback_jwks)
        self._platforms = _Remembered[PlatformCaller](MAX_REMEMBERED)
        self._consumers = _Remembered[ConsumerCaller](MAX_REMEMBERED)
        self._issuers = _Remembered[_Issuer](MAX_REMEMBERED)
        self._hooks = _Remembered[store.Hook](MAX_REMEMBERED)
        self._stations = _Remembered[StationCaller](MAX_REMEMBERED)
        self._unknown = _Remembered[str](MAX_REMEMBERED)
        self._vocabularies = _Remembered[tuple[int, Vocabulary]](MAX_REMEMBERED)
        self._used_keys: set[int] = set()
        self._used_operator_tokens: set[int] = set()
        self._used_station_keys: set[int] = set()

    # Platforms

    def platform_cached(self, authorization: str | None) -> PlatformCaller | None:
        """The platform if this header proved one before; None says nothing: ask `platform`. Raises RateLimited."""
        if authorization is None or (known := self._platforms.get(authorization, self._clock())) is None:
            return None
        self._used_keys.add(known.key)
        if known.limits is not None:
            self._admit(known)
        return known

    async def platform(self, authorization: str | None) -> PlatformCaller:
        """The platform behind the Authorization header: an API key, or an access token that stands for one.

        Raises Unauthenticated, Forbidden (an operator or a consumer), RateLimited, Unavailable, Overloaded.
        """
        if (known := self.platform_cached(authorization)) is not None:
            _is_known()
            return known
        with _named("platform"):
            token = _bearer(authorization)
            if not secrets.is_platform_proof(token):
                raise await self._refusal(token, "This route is for platforms: send an API key (gpk_…).")
            generation = self._generation
            found = await self._known_or_ask(token, lambda conn: _platform_of(conn, token))
            if found is None:
                raise Unauthenticated("The API key or access token is unknown, expired or revoked.")
            if not secrets.is_access_token(token) and secrets.is_test_key(token) != found.sandbox:
                raise Unauthenticated("Test keys are for sandboxes, and sandboxes for test keys.").about("platform", found.code)
        caller = PlatformCaller(
            platform=found.platform, program=found.program, code=found.code, scopes=frozenset(found.scopes), key=found.key,
            limits=read_limits(found.limits) or None,
        )  # fmt: skip
        if generation == self._generation:
            self._platforms.put(str(authorization), caller, found.expires_at.timestamp() if found.expires_at else float("inf"))
        self._used_keys.add(caller.key)
        _is_known()
        self._admit(caller)
        return caller

    def _admit(self, caller: PlatformCaller) -> None:
        """Count the request against the platform's limits, if it has any. Raises RateLimited."""
        if caller.limits is not None and self._limits is not None:
            self._limits.platform(caller.platform, caller.limits)

    # Consumers

    def consumer_cached(self, authorization: str | None) -> ConsumerCaller | None:
        """The consumer if this header proved one before, not checked for a scope; None says nothing: ask `consumer`.

        Raises RateLimited.
        """
        known = None if authorization is None else self._consumers.get(authorization, self._clock())
        if known is not None and self._limits is not None:
            self._limits.consumer(known.platform, known.reference)
        return known

    async def consumer(self, authorization: str | None, scope: ConsumerScope) -> ConsumerCaller:
        """The consumer behind the Authorization header, with this scope.

        Raises Unauthenticated, Forbidden (no such scope; a platform or an operator), RateLimited, Unavailable, Overloaded.
        """
        caller = self.consumer_cached(authorization)
        if caller is None:
            with _named("consumer"):
                token = _bearer(authorization)
                if token.startswith(OPAQUE_PREFIXES):
                    raise await self._refusal(token, "This route is for consumers: send a token that a platform signed.")
                caller = await self._verified(token, str(authorization))
            if self._limits is not None:
                self._limits.consumer(caller.platform, caller.reference)
        _is_known()
        caller.require(scope)
        return caller

    async def _verified(self, token: str, authorization: str) -> ConsumerCaller:
        generation = self._generation
        issuer: _Issuer | None = None
        try:
            unverified = tokens.read(token)
            issuer = await self._issuer(unverified.issuer)
            key, key_expires_at = await self._verification_key(issuer, unverified.kid)
            claims = tokens.verify(token, key=key, issuer=issuer.code, now=self._clock())
        except TokenError as error:
            raise Unauthenticated(str(error)).about("consumer", None if issuer is None else issuer.code) from None
        except KeySetUnavailable as error:
            raise Unavailable(str(error)) from None
        caller = ConsumerCaller(
            platform=issuer.platform, program=issuer.program, code=issuer.code, reference=claims.reference, scopes=claims.scopes
        )
        if generation == self._generation:
            self._consumers.put(authorization, caller, min(claims.expires_at, key_expires_at))
        return caller

    async def presented(self, token: str, *, program: int, at: float) -> ConsumerCaller | None:
        """The consumer of this program whom a token named at that time (seconds since 1970), as somebody else shows it; None: nobody.

        Remembers nothing and counts no request of the consumer's. Raises Unavailable, Overloaded.
        """
        try:
            unverified = tokens.read(token)
            issuer = await self._issuer(unverified.issuer)
            if issuer.program != program:
                return None
            key, _ = await self._verification_key(issuer, unverified.kid)
            claims = tokens.verify(token, key=key, issuer=issuer.code, now=at)
        except TokenError:
            return None
        except KeySetUnavailable as error:
            raise Unavailable(str(error)) from None
        return ConsumerCaller(
            platform=issuer.platform, program=issuer.program, code=issuer.code, reference=claims.reference, scopes=claims.scopes
        )

    async def _issuer(self, code: str) -> _Issuer:
        if (known := self._issuers.get(code, self._clock())) is not None:
            return known
        generation = self._generation
        found = await self._known_or_ask(f"iss {code}", lambda conn: store.issuer(conn, code))
        if found is None:
            raise TokenError("The consumer token's `iss` is not the code of a platform.")
        issuer = _issuer_of(found)
        if generation == self._generation:
            self._issuers.put(code, issuer, float("inf"))
        return issuer

    async def _verification_key(self, issuer: _Issuer, kid: str | None) -> tuple[VerificationKey, float]:
        """The key to verify with, found by `kid` or because the platform registered only one, and when to look again."""
        if kid is not None and kid in issuer.named:
            return issuer.named[kid], float("inf")
        own = [key for name, key in issuer.named.items() if name not in issuer.development] + issuer.unnamed
        if kid is not None and len(issuer.unnamed) == 1 and not issuer.sets:
            return issuer.unnamed[0], float("inf")
        if kid is None and len(own) + len(issuer.sets) > 1:
            raise TokenError("The platform has several keys: the consumer token's header needs a `kid`.")
        if kid is None and own:
            return own[0], float("inf")
        for url, algorithm in issuer.sets:
            if (key := await self._key_sets.find(url, algorithm, kid)) is not None:
                return key, self._clock() + FRESH_S
        raise TokenError("The platform has no key with the consumer token's `kid`.")

    # Stations

    async def station(self, authorization: str | None) -> StationCaller:
        """The active collection station behind the Authorization header.

        Raises Unauthenticated, Forbidden (a caller of another kind), RateLimited, Unavailable, Overloaded.
        """
        caller = None if authorization is None else self._stations.get(authorization, self._clock())
        if caller is None:
            with _named("station"):
                token = _bearer(authorization)
                if not secrets.is_station_key(token):
                    raise await self._refusal(token, "This route is for collection stations: send a station's key (gps_…).")
                caller = await self._station(token, str(authorization))
        self._used_station_keys.add(caller.key)
        _is_known()
        if self._limits is not None:
            self._limits.station(caller.station)
        return caller

    async def _station(self, token: str, authorization: str) -> StationCaller:
        generation = self._generation
        found = await self._known_or_ask(token, lambda conn: stations.station_by_key(conn, secrets.token_hash(token)))
        if found is None:
            raise Unauthenticated("The station's key is unknown, expired or revoked.")
        if secrets.is_test_station_key(token) != found.sandbox:
            raise Unauthenticated("Test keys are for sandboxes, and sandboxes for test keys.").about("station", found.platform_code)
        caller = StationCaller(
            station=found.station, program=found.program, code=found.code, platform=found.platform, platform_code=found.platform_code,
            key=found.key,
        )  # fmt: skip
        if generation == self._generation:
            self._stations.put(authorization, caller, found.expires_at.timestamp() if found.expires_at else float("inf"))
        return caller

    # Operators

    async def operator(self, request: Request[Any, Any, Any], *roles: Role) -> OperatorCaller:
        """The operator behind the request, in one of these roles (none given: any), and the program it acts in.

        Asks PostgreSQL each time: operators are few, and a change of role counts at once.
        Raises Unauthenticated, Forbidden, NotFound (no such program), InvalidRequest (no program chosen), RateLimited, Unavailable,
        Overloaded.
        """
        proved: OperatorCaller | None = request.state.get("operator")  # a moment ago, by service.api.access
        if proved is not None and (not roles or proved.role in roles):
            return proved
        login = await self.operator_login(request)
        if roles and login.role not in roles:
            raise Forbidden(f"The role {login.role!r} may not do this; it takes {' or '.join(roles)}.").about("operator")
        chosen = request.headers.get(PROGRAM_HEADER)
        program = await self._ask(lambda conn: _program(conn, login.program, chosen))
        return OperatorCaller(
            operator=login.operator, email=login.email, role=login.role, program=program, token=login.token,
            everywhere=login.program is None,
        )  # fmt: skip

    async def operator_login(self, request: Request[Any, Any, Any]) -> store.OperatorLogin:
        """The operator behind the request and the token that proved it, in whichever program: for what is about the operator alone.

        Raises Unauthenticated, Forbidden (a caller of another kind), RateLimited, Unavailable, Overloaded.
        """
        with _named("operator"):
            token = _bearer(request.headers.get("authorization"))
            if not secrets.is_operator_token(token):
                raise await self._refusal(token, "This route is for operators: send an operator's token (gpo_…).")
            login = await self._known_or_ask(token, lambda conn: store.operator_by_token(conn, secrets.token_hash(token)))
            if login is None:
                raise Unauthenticated("The operator's token is unknown, expired or revoked.")
        self._used_operator_tokens.add(login.token)
        _is_known()
        if self._limits is not None:
            self._limits.operator(login.operator)
        return login

    # Hooks

    async def hook(self, hook_id: str) -> store.Hook:
        """The active hook with this id, its secrets (opened) and settings.

        Raises NotFound, Unavailable (also when no master key opens the secrets), Overloaded.
        """
        if (known := self._hooks.get(hook_id, self._clock())) is not None:
            _is_known()
            return known
        generation = self._generation
        found = None
        if secrets.is_hook_id(hook_id):
            found = await self._known_or_ask(f"hook {hook_id}", lambda conn: store.hook(conn, hook_id))
        if found is None:
            raise NotFound("There is no such hook.")
        try:
            found = open_hook(found, self._sealer)
        except Unsealable as error:
            log.error(f"a hook's secret cannot be opened: {error}", hook=hook_id)  # noqa: TRY400 - its trace says nothing more
            raise Unavailable("The hook cannot be used at the moment; send it again later.") from None
        if generation == self._generation:
            self._hooks.put(hook_id, found, float("inf"))
        _is_known()
        return found

    def admit_hook(self, hook: store.Hook) -> None:
        """Count a delivery against the limit that the platform has for each hook, once its signature was found good. Raises RateLimited."""
        if self._limits is not None and (limits := read_limits(hook.limits)):
            self._limits.hook(hook.id, limits)

    # What their events may name

    async def vocabulary(self, program: int, *, anew: bool = False) -> Vocabulary:
        """The program's own packaging classes and activities. `anew`: as PostgreSQL has them now, for what was not known a moment ago.

        Asking anew costs one number as long as nothing was declared. What is retired or changed may be known as it was for as long as a
        revoked key. Raises Unavailable, Overloaded.
        """
        name = str(program)
        known = self._vocabularies.get(name, 0.0)
        if known is not None and not anew:
            return known[1]

        async def read(conn: Connection) -> tuple[int, Vocabulary]:
            version = await store.version(conn)  # first: what is read after it is of this version or newer
            return known if known is not None and known[0] == version else (version, await vocabulary_of(conn, program))

        generation = self._generation
        found = await self._ask(read)
        if generation == self._generation:
            self._vocabularies.put(name, found, float("inf"))
        return found[1]

    # Keeping up

    async def refresh(self) -> None:
        """Forget everything if callers have changed since the last time; call it every 2 s.

        Raises nothing while PostgreSQL cannot be asked: who is remembered stays so, and nothing can be revoked then either.
        """
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT_S), self._pool.acquire() as conn:
                version = await store.version(conn)
        except UNREACHABLE:
            return
        if version != self._version:
            self._version = version
            self.forget()

    async def write_used(self) -> None:
        """Write down which keys and tokens were used since the last time; call it every 30 s. Raises nothing: what fails is tried again."""
        keys, operator_tokens, station_keys = self._used_keys, self._used_operator_tokens, self._used_station_keys
        if not keys and not operator_tokens and not station_keys:
            return
        self._used_keys, self._used_operator_tokens, self._used_station_keys = set(), set(), set()
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT_S), self._pool.acquire() as conn:
                await store.touch(conn, keys=sorted(keys), operator_tokens=sorted(operator_tokens))
                await stations.touch(conn, sorted(station_keys))
        except (*UNREACHABLE, asyncpg.PostgresError):  # a server that only reads, say: nothing that a request may notice
            self._used_keys |= keys
            self._used_operator_tokens |= operator_tokens
            self._used_station_keys |= station_keys

    def forget(self) -> None:
        """Drop everything that is remembered; answers still on their way from PostgreSQL will not be remembered either."""
        self._generation += 1
        remembered_all = (self._platforms, self._consumers, self._issuers, self._hooks, self._stations, self._unknown, self._vocabularies)
        for remembered in remembered_all:
            remembered.clear()

    # Asking

    async def _refusal(self, token: str, detail: str) -> Exception:
        """Forbidden for a caller of another kind, Unauthenticated for nobody."""
        nobody = Unauthenticated("The Authorization header proves no caller that is known here.")
        digest = secrets.token_hash(token)
        if secrets.is_platform_proof(token):
            known = await self._known_or_ask(token, lambda conn: _platform_of(conn, token)) is not None
        elif secrets.is_operator_token(token):
            known = await self._known_or_ask(token, lambda conn: store.operator_by_token(conn, digest)) is not None
        elif secrets.is_station_key(token):
            known = await self._known_or_ask(token, lambda conn: stations.station_by_key(conn, digest)) is not None
        else:
            try:
                known = await self._verified(token, f"Bearer {token}") is not None
            except Unauthenticated:
                known = False
        return Forbidden(detail) if known else nobody

    async def _known_or_ask(self, name: str, load: Callable[[Connection], Awaitable[T | None]]) -> T | None:
        """What PostgreSQL knows by this name; a name that it did not know a moment ago is not asked for again."""
        name_hash = secrets.token_hash(name).hex()
        if self._unknown.get(name_hash, time.monotonic()) is not None:
            return None
        found = await self._ask(load)
        if found is None:
            self._unknown.put(name_hash, name_hash, time.monotonic() + UNKNOWN_S)
        return found

    async def _ask(self, load: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a look-up on a connection. Raises Unavailable when PostgreSQL does not answer in time, Overloaded at the bound."""
        if self._lookups >= MAX_LOOKUPS:
            raise Overloaded("Too many callers are being looked up; try again in a moment.")
        self._lookups += 1
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S), self._turns, reading(self._pool) as conn:
                return await load(conn)
        except UNREACHABLE:
            raise Unavailable("The database cannot be asked who is calling; try again in a moment.") from None
        finally:
            self._lookups -= 1


class _Remembered(Generic[T]):
    """At most `size` values, each until its time; the one unused for longest goes first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[str, tuple[T, float]] = OrderedDict()

    def get(self, name: str, now_s: float) -> T | None:
        entry = self._values.get(name)
        if entry is None:
            return None
        if entry[1] <= now_s:
            del self._values[name]
            return None
        self._values.move_to_end(name)
        return entry[0]

    def put(self, name: str, value: T, until_s: float) -> None:
        self._values[name] = (value, until_s)
        self._values.move_to_end(name)
        if len(self._values) > self._size:
            self._values.popitem(last=False)

    def clear(self) -> None:
        self._values.clear()


async def _platform_of(conn: Connection, token: str) -> store.PlatformKey | None:
    """The platform behind an API key or an access token."""
    look_up = access_tokens.platform_by_token if secrets.is_access_token(token) else store.platform_by_key
    return await look_up(conn, secrets.token_hash(token))


@contextmanager
def _named(caller: str) -> Iterator[None]:
    """Tell a refusal which kind of caller it is about."""
    try:
        yield
    except CallerRefused as error:
        error.about(caller)
        raise


def _bearer(authorization: str | None) -> str:
    """The token of `Authorization: Bearer …`. Raises Unauthenticated."""
    if authorization is None:
        raise Unauthenticated("Send an Authorization header: Bearer and an API key or token.")
    scheme, _, token = authorization.partition(" ")
    if len(authorization) > MAX_AUTHORIZATION_CHARS or scheme.lower() != "bearer" or not token or not token.isascii():
        raise Unauthenticated("The Authorization header must be `Bearer` and an API key or token.")
    return token


def _issuer_of(found: store.Issuer) -> _Issuer:
    """Sort a platform's keys by how they are found."""
    named: dict[str, VerificationKey] = {}
    unnamed: list[VerificationKey] = []
    sets: list[tuple[str, Algorithm]] = []
    for key in found.keys:
        algorithm = next(name for name in tokens.ALGORITHMS if name == key.algorithm)
        if key.jwks_url is not None:
            sets.append((key.jwks_url, algorithm))
        elif key.public_pem is not None:
            public = tokens.key_from_pem(key.public_pem, algorithm)
            if key.kid is None:
                unnamed.append(public)
            else:
                named[key.kid] = public
    development = [key.kid for key in found.keys if key.development and key.kid is not None]
    return _Issuer(
        platform=found.platform, program=found.program, code=found.code, named=named, unnamed=unnamed, development=development, sets=sets
    )


async def _program(conn: Connection, own: int | None, chosen: str | None) -> int:
    """The program to act in: an operator of one program stays there, the others choose by header where there are several."""
    if chosen is None and own is not None:
        return own
    program = await choose_program(conn, chosen)
    if own not in (None, program.id):
        raise NotFound(f"There is no program {program.code!r}.")
    return program.id


def _is_known() -> None:
    """The request is somebody's: it does not count for the address that it came from, whatever is answered."""
    if (visit := current()) is not None:
        visit.known = True


def callers_of(request: AnyRequest) -> Callers:
    """This process's callers."""
    callers: Callers = request.app.state.callers
    return callers
