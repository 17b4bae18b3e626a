"""Platforms, their keys and hooks, operators and the audit, as administrators see them (CONTRACT §3.1, §3.7)."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.base import PRINTABLE, Body, Code, DurationText, Instant, Key
from schemas.bounds import (
    MAX_EMAIL_CHARS,
    MAX_HOOK_SECRETS,
    MAX_LIMIT_REQUESTS,
    MAX_LIMIT_S,
    MAX_NAME_CHARS,
    MAX_PEM_CHARS,
    MAX_SCOPES,
    MAX_SECRET_CHARS,
    MAX_URL_CHARS,
)
from schemas.connectors import HookSettings

ConnectorName = Literal["standard", "shopify", "woocommerce", "epcis"]
ScopeName = Literal[
    "events:write", "events:read", "consumers:read", "consumers:export", "consumers:erase", "deliveries:read", "balances:import",
    "plastics:write", "plastics:read",
]  # fmt: skip
RoleName = Literal["viewer", "analyst", "campaigns", "fraud", "admin"]
AlgorithmName = Literal["EdDSA", "ES256", "RS256"]

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS, pattern=PRINTABLE)]
Email = Annotated[str, Meta(min_length=3, max_length=MAX_EMAIL_CHARS, pattern=r"^[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+$(?!\n)")]
Password = Annotated[str, Meta(min_length=12, max_length=MAX_SECRET_CHARS)]
HookSecret = Annotated[str, Meta(min_length=16, max_length=MAX_SECRET_CHARS, pattern=r"^[\x21-\x7e]+$(?!\n)")]


class HookCredentials(Body, frozen=True, kw_only=True):
    """A hook's address is `/v1/hooks/{id}`; the sender signs with `secret`."""

    id: str
    secret: str


class PlatformCredentials(Body, frozen=True, kw_only=True):
    """What a new platform needs to call us; shown once. `hooks` by connector."""

    code: str
    api_key: str
    hooks: dict[str, HookCredentials]


class OperatorCredentials(Body, frozen=True, kw_only=True):
    """What a new operator signs in with; shown once."""

    email: str
    password: str
    token: str


class PlatformBody(Body, frozen=True, kw_only=True):
    """A new platform. Its code is the `iss` of its consumer tokens and unique in the deployment."""

    code: Code
    name: Name


class RateLimit(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """At most `requests` in any `per_s` seconds."""

    requests: Annotated[int, Meta(ge=1, le=MAX_LIMIT_REQUESTS)]
    per_s: Annotated[int, Meta(ge=1, le=MAX_LIMIT_S)]


class PlatformLimits(Body, frozen=True, kw_only=True):
    """A platform's limits by class; null: none. `credit`, `read` and `write` of all its API keys together, `hooks` of each hook."""

    credit: RateLimit | None = None
    read: RateLimit | None = None
    write: RateLimit | None = None
    hooks: RateLimit | None = None


class PlatformLimitsPatch(Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits to set; null lifts one, absent ones stay."""

    credit: RateLimit | UnsetType | None = UNSET
    read: RateLimit | UnsetType | None = UNSET
    write: RateLimit | UnsetType | None = UNSET
    hooks: RateLimit | UnsetType | None = UNSET


class PlatformPatch(Body, frozen=True, kw_only=True):
    """What to change of a platform; absent fields stay."""

    limits: PlatformLimitsPatch | UnsetType = UNSET


class PlatformAnswer(Body, frozen=True, kw_only=True):
    """A platform."""

    code: str
    name: str
    active: bool
    created_at: datetime
    limits: PlatformLimits


class KeyBody(Body, frozen=True, kw_only=True):
    """A new API key; without scopes it may do everything that a platform may do, without `expires_at` it never expires."""

    scopes: Annotated[tuple[ScopeName, ...], Meta(max_length=MAX_SCOPES)] = ()
    expires_at: Instant | None = None


class KeyAnswer(Body, frozen=True, kw_only=True):
    """An API key without the key; `hint` is its last four characters. `key` is there once, when it was made.

    `last_used_at` is written in the background, at most once a minute.
    """

    id: int
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    key: str | UnsetType = UNSET


class KeyReplacement(Body, frozen=True, kw_only=True):
    """A new key in place of an old one, which goes on for `keep_old`, at most 30 days: `PT0S` ends it within 5 s."""

    keep_old: DurationText = "PT24H"


class SigningKeyBody(Body, frozen=True, kw_only=True):
    """A key that signs consumer tokens: either a public key (PEM) with its `kid`, or the address of a JWKS."""

    algorithm: AlgorithmName
    kid: Key | None = None
    public_pem: Annotated[str, Meta(max_length=MAX_PEM_CHARS)] | None = None
    jwks_url: Annotated[str, Meta(max_length=MAX_URL_CHARS)] | None = None


class SigningKeyAnswer(Body, frozen=True, kw_only=True):
    """A registered signing key. `development`: made by the system for `greenpoints token`; revoke it when in production."""

    id: int
    algorithm: str
    kid: str | None
    public_pem: str | None
    jwks_url: str | None
    development: bool
    created_at: datetime
    revoked_at: datetime | None


class HookBody(Body, frozen=True, kw_only=True):
    """A new inbound hook; without `secret` one is made (Shopify shows its own: give that one)."""

    connector: ConnectorName
    secret: HookSecret | None = None
    settings: HookSettings = HookSettings()


class HookPatch(Body, frozen=True, kw_only=True):
    """What to change of a hook; absent fields stay. `secrets` newest first: two while one is rotated."""

    secrets: Annotated[list[HookSecret], Meta(min_length=1, max_length=MAX_HOOK_SECRETS)] | UnsetType = UNSET
    settings: HookSettings | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class HookAnswer(Body, frozen=True, kw_only=True):
    """A hook without its secrets. `secret` is there once, when it was made."""

    id: str
    connector: str
    settings: HookSettings
    active: bool
    created_at: datetime
    secret: str | UnsetType = UNSET


class OperatorBody(Body, frozen=True, kw_only=True):
    """A new operator of this program; without `password` one is made."""

    email: Email
    role: RoleName
    password: Password | None = None


class OperatorAnswer(Body, frozen=True, kw_only=True):
    """An operator."""

    id: int
    email: str
    role: str
    active: bool
    created_at: datetime


class OperatorPatch(Body, frozen=True, kw_only=True):
    """What to change of an operator; absent fields stay. Who is made inactive loses all tokens."""

    role: RoleName | UnsetType = UNSET
    active: bool | UnsetType = UNSET


class PasswordResetBody(Body, frozen=True, kw_only=True):
    """A new password for another operator; without one it is made."""

    password: Password | None = None


class PasswordResetAnswer(Body, frozen=True, kw_only=True):
    """The operator's new password, shown this once."""

    email: str
    password: str


class SignInBody(Body, frozen=True, kw_only=True):
    """Who signs in. With `program`, its code, the session acts in that program only."""

    email: Email
    password: Annotated[str, Meta(max_length=MAX_SECRET_CHARS)]
    program: Code | None = None


class SessionAnswer(Body, frozen=True, kw_only=True):
    """A session: send `token` as `Authorization: Bearer …` until `expires_at`."""

    token: str
    expires_at: datetime
    role: str


class MeAnswer(Body, frozen=True, kw_only=True):
    """The operator behind the request. `program`: the only one to act in, by its code; null for all. `session`: ends by signing out."""

    id: int
    email: str
    role: str
    program: str | None
    session: bool
    expires_at: datetime | None


class PasswordChangeBody(Body, frozen=True, kw_only=True):
    """One's own password."""

    current: Annotated[str, Meta(max_length=MAX_SECRET_CHARS)]
    new: Password


class OperatorTokenBody(Body, frozen=True, kw_only=True):
    """A token for a machine that acts as an operator; without `expires_at` it never expires."""

    name: Name
    expires_at: Instant | None = None


class OperatorTokenAnswer(Body, frozen=True, kw_only=True):
    """An operator's token without the token. `name` is null for sessions and the first token. `token` is there once, when it was made."""

    id: int
    name: str | None
    session: bool
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    token: str | UnsetType = UNSET


class AuditAnswer(Body, frozen=True, kw_only=True):
    """One change: who did what to what, and what it was before and after."""

    id: str
    at: datetime
    actor: str
    action: str
    subject: str
    before: Any
    after: Any
    request_id: str | None
