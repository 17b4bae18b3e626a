"""Platforms, their keys and hooks, operators and the audit, as administrators see them (CONTRACT §3.1, §3.7)."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, UnsetType

from schemas.base import PRINTABLE, Body, Code, Instant, Key
from schemas.connectors import HookSettings

ConnectorName = Literal["standard", "shopify", "woocommerce"]
ScopeName = Literal["events:write", "events:read", "consumers:read", "balances:import"]
RoleName = Literal["viewer", "analyst", "campaigns", "fraud", "admin"]
AlgorithmName = Literal["EdDSA", "ES256", "RS256"]

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=PRINTABLE)]
Email = Annotated[str, Meta(min_length=3, max_length=254, pattern=r"^[^\s@\x00-\x1f\x7f]+@[^\s@\x00-\x1f\x7f]+$(?!\n)")]
Password = Annotated[str, Meta(min_length=12, max_length=256)]
HookSecret = Annotated[str, Meta(min_length=16, max_length=256, pattern=r"^[\x21-\x7e]+$(?!\n)")]


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


class PlatformAnswer(Body, frozen=True, kw_only=True):
    """A platform."""

    code: str
    name: str
    active: bool
    created_at: datetime


class KeyBody(Body, frozen=True, kw_only=True):
    """A new API key; without scopes it may do everything that a platform may do, without `expires_at` it never expires."""

    scopes: Annotated[tuple[ScopeName, ...], Meta(max_length=50)] = ()
    expires_at: Instant | None = None


class KeyAnswer(Body, frozen=True, kw_only=True):
    """An API key without the key; `hint` is its last four characters. `key` is there once, when it was made."""

    id: int
    hint: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    key: str | UnsetType = UNSET


class SigningKeyBody(Body, frozen=True, kw_only=True):
    """A key that signs consumer tokens: either a public key (PEM) with its `kid`, or the address of a JWKS."""

    algorithm: AlgorithmName
    kid: Key | None = None
    public_pem: Annotated[str, Meta(max_length=8_192)] | None = None
    jwks_url: Annotated[str, Meta(max_length=2_048)] | None = None


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

    secrets: Annotated[list[HookSecret], Meta(min_length=1, max_length=5)] | UnsetType = UNSET
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
