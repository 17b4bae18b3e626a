"""Administration: programs, platforms with their keys and hooks, operators, and tokens to try things out.

Each change is one transaction together with its audit row, and raises `callers_version`, so that every process forgets within
seconds what it knew. Random bytes are drawn here. Inside a transaction of the caller's these become part of it (a savepoint).
`actor` names who does it: `operator:7`, or `command` for the command line.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Struct

from schemas.base import Code, Key
from schemas.callers import (
    AlgorithmName,
    ConnectorName,
    Email,
    HookCredentials,
    HookPatch,
    KeyAnswer,
    OperatorCredentials,
    Password,
    PlatformCredentials,
    PlatformPatch,
    RoleName,
    ScopeName,
)
from schemas.connectors import HookSettings
from service.domain import secrets, tokens
from service.domain.errors import InvalidRequest, InvalidState, NotFound
from service.domain.roles import CONSUMER_SCOPES
from service.domain.tokens import UnusableKey
from service.flows import passwords
from service.flows.jwks import UnusableUrl, check_url
from service.flows.master_key import Progress, Resealed, open_development_key, reseal, seal_all
from service.sealing import Sealer, Unsealable
from service.store import audit, deployment
from service.store import callers as store
from service.store.campaigns import raise_catalogue_version
from service.store.connection import Connection

COMMAND = "command"
DEVELOPMENT_KID = "development"
FIRST_HOOKS: tuple[ConnectorName, ...] = ("standard", "shopify", "woocommerce")
"""The hooks that every new platform has."""


class Change(Struct, frozen=True, kw_only=True):
    """Who makes a change, for the audit."""

    actor: str = COMMAND
    request_id: str | None = None


BY_COMMAND = Change()


# Programs ---------------------------------------------------------------------------------------------


async def create_program(
    conn: Connection, *, code: str, name: str, currency: str, time_zone: str, sandbox: bool = False, change: Change = BY_COMMAND
) -> store.Program:
    """A new points scheme, for ever live or a sandbox. Raises InvalidRequest (code, time zone), InvalidState (the code is taken)."""
    _valid(code, Code, "The program's code")
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidRequest(f"{time_zone[:64]!r} is not an IANA time zone such as Asia/Shanghai.") from None
    async with conn.transaction():
        program = await store.insert_program(conn, code=code, name=name, currency=currency, time_zone=time_zone, sandbox=sandbox)
        if program is None:
            raise InvalidState(f"There is a program {code!r} already.")
        await raise_catalogue_version(conn)
        after = {"code": code, "name": name, "currency": currency, "time_zone": time_zone, "sandbox": sandbox}
        await _record(conn, change, program.id, "program.create", f"program:{code}", after=after)
    return program


async def choose_program(conn: Connection, code: str | None) -> store.Program:
    """The program with this code; without a code the only one there is. Raises NotFound, InvalidRequest (there are several)."""
    if code is not None:
        found = await store.program(conn, code) if code.isascii() and code.isprintable() else None
        if found is None:
            raise NotFound(f"There is no program {code[:64]!r}.")
        return found
    programs = await store.first_programs(conn, 2)
    if not programs:
        raise NotFound("There is no program yet.")
    if len(programs) > 1:
        raise InvalidRequest("There are several programs: name one (header X-Greenpoints-Program, or --program).")
    return programs[0]


# Platforms --------------------------------------------------------------------------------------------


async def create_platform(
    conn: Connection, *, sealer: Sealer, program: int, code: str, name: str, change: Change = BY_COMMAND
) -> PlatformCredentials:
    """A new platform with an API key, one hook per connector and a development key behind `consumer_token`.

    The answer is the only place that ever shows the API key. Raises InvalidRequest, InvalidState (the code is taken).
    """
    _valid(code, Code, "The platform's code")
    async with conn.transaction():
        platform = await store.insert_platform(conn, program=program, code=code, name=name)
        if platform is None:
            raise InvalidState(f"The code {code!r} cannot be used; choose another.")
        _, api_key = await _insert_key(conn, platform.id, scopes=(), expires_at=None)
        hooks = [
            await _insert_hook(conn, platform.id, connector, secret=None, settings=HookSettings(), sealer=sealer)
            for connector in FIRST_HOOKS
        ]
        private_pem, public_pem = tokens.development_key(token_bytes(32))
        await store.insert_signing_key(
            conn,
            platform=platform.id,
            kid=DEVELOPMENT_KID,
            algorithm="EdDSA",
            public_pem=public_pem,
            jwks_url=None,
            private_pem=sealer.seal(private_pem),
        )
        await _record(conn, change, program, "platform.create", f"platform:{code}", after={"code": code, "name": name})
    shown = {hook.connector: HookCredentials(id=hook.id, secret=hook.secrets[0]) for hook in hooks}
    return PlatformCredentials(code=code, api_key=api_key, hooks=shown)


async def find_platform(conn: Connection, *, program: int | None, code: str) -> store.Platform:
    """A program's platform; without a program (the command line) any program's. Raises NotFound."""
    found = None
    if code.isascii() and code.isprintable():
        found = await (store.platform_by_code(conn, code) if program is None else store.platform(conn, program=program, code=code))
    if found is None:
        raise NotFound(f"There is no platform {code[:64]!r}.")
    return found


async def change_platform(
    conn: Connection, *, program: int, code: str, patch: PlatformPatch, change: Change = BY_COMMAND
) -> store.Platform:
    """Set and lift a platform's limits; what the patch does not name stays. Every process obeys within 5 s. Raises NotFound."""
    async with conn.transaction():
        found = await find_platform(conn, program=program, code=code)
        await store.lock_platform(conn, found.id)
        before = await find_platform(conn, program=program, code=code)
        if patch.limits is msgspec.UNSET:
            return before
        limits = msgspec.json.decode(before.limits)
        for kind, limit in msgspec.to_builtins(patch.limits).items():
            if limit is None:
                limits.pop(kind, None)
            else:
                limits[kind] = limit
        after = await store.set_limits(conn, found.id, msgspec.json.encode(limits).decode())
        shown = [{"limits": msgspec.json.decode(row.limits)} for row in (before, after)]
        await _record(conn, change, program, "platform.change", f"platform:{code}", before=shown[0], after=shown[1])
    return after


async def list_platforms(conn: Connection, *, program: int, after: int = 0, limit: int = 200) -> list[store.Platform]:
    """A program's platforms with ids above `after`, oldest first."""
    return await store.platforms(conn, program=program, after=after, limit=limit)


# API keys ---------------------------------------------------------------------------------------------


async def create_key(
    conn: Connection,
    *,
    program: int,
    platform: str,
    scopes: Sequence[ScopeName] = (),
    expires_at: datetime | None = None,
    change: Change = BY_COMMAND,
) -> KeyAnswer:
    """One more API key of a platform, shown in `key` this once. Raises NotFound, InvalidRequest (it has expired already)."""
    async with conn.transaction():
        found = await find_platform(conn, program=program, code=platform)
        if expires_at is not None and expires_at <= await store.now(conn):
            raise InvalidRequest.at("/expires_at", "must be in the future")
        row, key = await _insert_key(conn, found.id, scopes=scopes, expires_at=expires_at)
        after = {"key": row.id, "hint": row.hint, "scopes": row.scopes, "expires_at": row.expires_at}
        await _record(conn, change, program, "key.create", f"platform:{platform}", after=after)
    return KeyAnswer(**msgspec.structs.asdict(row), key=key)


async def revoke_key(conn: Connection, *, program: int, platform: str, key: int, change: Change = BY_COMMAND) -> store.ApiKey:
    """Revoke an API key; every process refuses it within 5 s. A repeat changes nothing. Raises NotFound."""
    async with conn.transaction():
        found = await find_platform(conn, program=program, code=platform)
        row = await store.revoke_key(conn, platform=found.id, key=key)
        if row is None:
            raise NotFound(f"The platform has no key {key}.")
        await _record(conn, change, program, "key.revoke", f"platform:{platform}", after={"key": key, "hint": row.hint})
    return row


async def rotate_key(
    conn: Connection, *, platform: str, program: int | None = None, keep_old: timedelta = timedelta(0), change: Change = BY_COMMAND
) -> str:
    """A new API key, of everything that a platform may do, in place of all that the platform has. Raises NotFound.

    The new one works at once, the others until `keep_old` is over (or they expire, if that is earlier) and at most 5 s longer.
    """
    async with conn.transaction():
        found = await find_platform(conn, program=program, code=platform)
        row, key = await _insert_key(conn, found.id, scopes=(), expires_at=None)
        await store.end_other_keys(conn, platform=found.id, keep=row.id, after=keep_old)
        after = {"key": row.id, "hint": row.hint, "others_end_after_s": int(keep_old.total_seconds())}
        await _record(conn, change, found.program, "key.rotate", f"platform:{platform}", after=after)
    return key


async def replace_key(
    conn: Connection, *, program: int, platform: str, key: int, keep_old: timedelta, change: Change = BY_COMMAND
) -> KeyAnswer:
    """A new API key with the scopes of an old one, which ends after `keep_old` (or when it would expire anyway, if that is earlier).

    The answer shows the new key, this once. Each call makes another one. Raises NotFound, InvalidState (the old one has ended).
    """
    async with conn.transaction():
        found = await find_platform(conn, program=program, code=platform)
        old = await store.end_key(conn, platform=found.id, key=key, after=keep_old)
        if old is None:
            if await store.key_of(conn, platform=found.id, key=key) is None:
                raise NotFound(f"The platform has no key {key}.")
            raise InvalidState(f"Key {key} has ended already; make a new one.")
        row, shown = await _insert_key(conn, found.id, scopes=old.scopes, expires_at=None)
        after = {"key": row.id, "hint": row.hint, "scopes": row.scopes, "old": key, "old_expires_at": old.expires_at}
        await _record(conn, change, program, "key.replace", f"platform:{platform}", after=after)
    return KeyAnswer(**msgspec.structs.asdict(row), key=shown)


async def _insert_key(conn: Connection, platform: int, *, scopes: Sequence[str], expires_at: datetime | None) -> tuple[store.ApiKey, str]:
    key = secrets.platform_key(token_bytes(secrets.RANDOM_BYTES), sandbox=await store.is_sandbox(conn, platform))
    row = await store.insert_key(
        conn,
        platform=platform,
        key_hash=secrets.token_hash(key),
        hint=secrets.hint(key),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    return row, key


# Signing keys and consumer tokens ---------------------------------------------------------------------


async def add_signing_key(
    conn: Connection,
    *,
    program: int,
    platform: str,
    algorithm: AlgorithmName,
    kid: str | None = None,
    public_pem: str | None = None,
    jwks_url: str | None = None,
    allow_loopback: bool = False,
    change: Change = BY_COMMAND,
) -> store.SigningKey:
    """Register a public key (PEM) or the address of a key set that signs a platform's consumer tokens.

    Raises NotFound, InvalidRequest (no usable key or address), InvalidState (the kid is taken, too many keys).
    """
    _check_signing_key(algorithm=algorithm, kid=kid, public_pem=public_pem, jwks_url=jwks_url, allow_loopback=allow_loopback)
    async with conn.transaction():
        found = await find_platform(conn, program=program, code=platform)
        await store.lock_platform(conn, found.id)
        active = await store.signing_keys(conn, found.id, revoked=False, after=0, limit=store.MAX_SIGNING_KEYS)
        if len(active) >= store.MAX_SIGNING_KEYS:
            raise InvalidState(f"A platform may have {store.MAX_SIGNING_KEYS} signing keys; revoke one first.")
        if kid is not None and kid in {key.kid for key in active}:
            raise InvalidState("The platform has an active key with this kid; revoke it first, or choose another kid.")
        row = await store.insert_signing_key(
            conn, platform=found.id, kid=kid, algorithm=algorithm, public_pem=public_pem, jwks_url=jwks_url, private_pem=None
        )
        after = {"key": row.id, "kid": kid, "algorithm": algorithm, "public_pem": public_pem, "jwks_url": jwks_url}
        await _record(conn, change, program, "signing_key.add", f"platform:{platform}", after=after)
    return row


async def revoke_signing_key(conn: Connection, *, program: int, platform: str, key: int, change: Change = BY_COMMAND) -> store.SigningKey:
    """Revoke a signing key; tokens that it signed are refused within 5 s. A repeat changes nothing. Raises NotFound."""
    async with conn.transaction():
        found = await find_platform(conn, program=program, code=platform)
        row = await store.revoke_signing_key(conn, platform=found.id, key=key)
        if row is None:
            raise NotFound(f"The platform has no signing key {key}.")
        await _record(conn, change, program, "signing_key.revoke", f"platform:{platform}", after={"key": key, "kid": row.kid})
    return row


async def consumer_token(
    conn: Connection, *, sealer: Sealer, platform: str, consumer: str, scope: str = "balance:read", ttl: timedelta
) -> str:
    """A token for a consumer, who need not exist, signed with the platform's development key.

    `scope` is space-separated. Raises NotFound (no such platform), InvalidRequest, InvalidState (the development key was revoked),
    Unsealable (the master key that sealed it is missing).
    """
    _valid(consumer, Key, "The consumer's reference")
    scopes = scope.split()
    if not scopes or not CONSUMER_SCOPES.issuperset(scopes):
        raise InvalidRequest(f"The scope must be one or both of: {' '.join(sorted(CONSUMER_SCOPES))}.")
    if not timedelta(seconds=1) <= ttl <= timedelta(seconds=tokens.MAX_LIFE_S):
        raise InvalidRequest("The token may live between one second and 24 hours.")
    found = await find_platform(conn, program=None, code=platform)
    key = await store.development_key(conn, found.id)
    if key is None:
        raise InvalidState(f"The development key of {platform!r} was revoked: sign consumer tokens with the platform's own key.")
    key = open_development_key(key, sealer)
    return tokens.sign(
        private_pem=key.private_pem,
        algorithm=key.algorithm,
        kid=key.kid,
        issuer=found.code,
        reference=consumer,
        scopes=scopes,
        now=(await store.now(conn)).timestamp(),
        ttl_s=int(ttl.total_seconds()),
    )


def _check_signing_key(
    *, algorithm: AlgorithmName, kid: str | None, public_pem: str | None, jwks_url: str | None, allow_loopback: bool
) -> None:
    if (public_pem is None) == (jwks_url is None):
        raise InvalidRequest.at("", "give either public_pem or jwks_url")
    if jwks_url is not None and kid is not None:
        raise InvalidRequest.at("/kid", "belongs to public_pem: a key set has its own")
    try:
        if public_pem is not None:
            tokens.key_from_pem(public_pem, algorithm)
        if jwks_url is not None:
            check_url(jwks_url, allow_loopback=allow_loopback)
    except UnusableKey as error:
        raise InvalidRequest.at("/public_pem", error.detail) from None
    except UnusableUrl as error:
        raise InvalidRequest.at("/jwks_url", str(error)) from None


# Hooks ------------------------------------------------------------------------------------------------


async def create_hook(
    conn: Connection,
    *,
    sealer: Sealer,
    program: int,
    platform: str,
    connector: ConnectorName,
    secret: str | None = None,
    settings: HookSettings | None = None,
    change: Change = BY_COMMAND,
) -> store.Hook:
    """One more inbound hook of a platform; without a secret one is made. Raises NotFound, InvalidRequest."""
    if secret is not None:
        _check_hook_secret(connector, secret, "/secret")
    async with conn.transaction():
        found = await find_platform(conn, program=program, code=platform)
        made = await _insert_hook(conn, found.id, connector, secret=secret, settings=settings or HookSettings(), sealer=sealer)
        await _record(conn, change, program, "hook.create", f"platform:{platform}", after={"hook": made.id, "connector": connector})
    return made


async def change_hook(
    conn: Connection, *, sealer: Sealer, program: int, platform: str, hook: str, patch: HookPatch, change: Change = BY_COMMAND
) -> store.Hook:
    """Replace a hook's settings, secrets or state; what the patch does not name stays. Raises NotFound, InvalidRequest.

    The answer's secrets are sealed.
    """
    async with conn.transaction():
        found = await find_platform(conn, program=program, code=platform)
        before = await store.hook_for_update(conn, platform=found.id, hook_id=hook) if secrets.is_hook_id(hook) else None
        if before is None:
            raise NotFound("The platform has no such hook.")
        after = _patched(before, patch, sealer)
        await store.update_hook(conn, hook_id=hook, secrets=after.secrets, settings=after.settings, active=after.active)
        await _record(
            conn, change, program, "hook.change", f"platform:{platform}",
            before=_hook_for_audit(before, sealer), after=_hook_for_audit(after, sealer),
        )  # fmt: skip
    return after


def _patched(hook: store.Hook, patch: HookPatch, sealer: Sealer) -> store.Hook:
    changes: dict[str, Any] = {}
    if patch.secrets is not msgspec.UNSET:
        for i, secret in enumerate(patch.secrets):
            _check_hook_secret(hook.connector, secret, f"/secrets/{i}")
        changes["secrets"] = seal_all(patch.secrets, sealer)
    if patch.settings is not msgspec.UNSET:
        changes["settings"] = msgspec.json.encode(patch.settings).decode()
    if patch.active is not msgspec.UNSET:
        changes["active"] = patch.active
    return msgspec.structs.replace(hook, **changes)


def _hook_for_audit(hook: store.Hook, sealer: Sealer) -> dict[str, Any]:
    """Secrets by their hint; null for one that no master key opens: it must be possible to replace that."""
    hints: list[str | None] = []
    for secret in hook.secrets:
        try:
            hints.append(secrets.hint(sealer.open(secret)))
        except Unsealable:
            hints.append(None)
    return {"hook": hook.id, "secrets": hints, "settings": msgspec.json.decode(hook.settings), "active": hook.active}


async def _insert_hook(
    conn: Connection, platform: int, connector: ConnectorName, *, secret: str | None, settings: HookSettings, sealer: Sealer
) -> store.Hook:
    """The new hook with its secret as it must be shown, this once; stored is the sealed one."""
    if secret is None:
        make = secrets.webhook_secret if connector in ("standard", "epcis") else secrets.shared_secret
        secret = make(token_bytes(secrets.RANDOM_BYTES))
    made = await store.insert_hook(
        conn,
        hook_id=secrets.hook_id(token_bytes(secrets.RANDOM_BYTES)),
        platform=platform,
        connector=connector,
        secrets=seal_all([secret], sealer),
        settings=msgspec.json.encode(settings).decode(),
    )
    return msgspec.structs.replace(made, secrets=[secret])


def _check_hook_secret(connector: str, secret: str, pointer: str) -> None:
    if connector == "standard" and not secrets.is_webhook_secret(secret):
        raise InvalidRequest.at(pointer, "must be whsec_ and the base64 of 24 to 64 bytes")


# Operators --------------------------------------------------------------------------------------------


async def create_operator(
    conn: Connection, *, email: str, role: RoleName, program: int | None = None, password: str | None = None, change: Change = BY_COMMAND
) -> OperatorCredentials:
    """A new operator with a token, of one program or (null) of all; without a password one is made.

    The answer is the only place that ever shows password and token. Raises InvalidRequest, InvalidState (the address is taken).
    """
    _valid(email, Email, "The e-mail address")
    _valid(role, RoleName, "The role")
    if password is None:
        password = secrets.password(token_bytes(secrets.RANDOM_BYTES))
    _valid(password, Password, "The password")
    token = secrets.operator_token(token_bytes(secrets.RANDOM_BYTES))
    if (weakness := secrets.password_weakness(password, email)) is not None:
        raise InvalidRequest.at("/password", weakness)
    hashed = await passwords.hash_password(password)
    async with conn.transaction():
        operator = await store.insert_operator(conn, program=program, email=email, password_hash=hashed, role=role)
        if operator is None:
            raise InvalidState("The e-mail address cannot be used; choose another.")
        await store.insert_operator_token(conn, token_hash=secrets.token_hash(token), operator=operator.id, expires_at=None)
        await _record(conn, change, program, "operator.create", f"operator:{operator.id}", after={"role": role})
    return OperatorCredentials(email=email, password=password, token=token)


# The master key ---------------------------------------------------------------------------------------


async def rotate_master_key(conn: Connection, *, sealer: Sealer, progress: Progress | None = None, change: Change = BY_COMMAND) -> Resealed:
    """Seal everything with the newest master key. The audit says so before the first value is sealed: this can be broken off.

    Safe to repeat, and to run while the system works.
    """
    async with conn.transaction():
        await _record(conn, change, None, "master_key.rotate", "master_key")
    return await reseal(conn, sealer, progress=progress)


async def raise_epoch(conn: Connection, *, change: Change = BY_COMMAND) -> int:
    """Let nobody go by what Redis and the processes remember, as after a fail-over that lost commits; the epoch that begins.

    Safe while the system works: processes follow within seconds, and read PostgreSQL until Redis knows again.
    """
    async with conn.transaction():
        epoch = await deployment.begin_history(conn)
        await _record(conn, change, None, "deployment.raise_epoch", "deployment", after={"epoch": epoch})
    return epoch


# Common -----------------------------------------------------------------------------------------------


async def _record(
    conn: Connection,
    change: Change,
    program: int | None,
    action: str,
    subject: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    """The audit row, and the version that makes every process look again."""
    await audit.record(
        conn,
        program=program,
        actor=change.actor,
        action=action,
        subject=subject,
        before=before,
        after=after,
        request_id=change.request_id,
    )
    await store.raise_version(conn)


def _valid(value: str, type_: object, what: str) -> None:
    """Check a value against a field type. Raises InvalidRequest."""
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{what} is not valid: {error}.") from None
