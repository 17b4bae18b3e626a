"""Consumer tokens: JSON Web Tokens (RFC 7519) that a platform signs for one of its consumers (CONTRACT §3.1).

Rules, after RFC 8725 (JWT best practices):

* the algorithm is the one registered with the key; the header's `alg` can only agree with it, never choose it;
* the header serves to find the key among those of the platform that `iss` names, and for nothing else: embedded keys and
  addresses of keys (`jwk`, `jku`, `x5c`, `x5u`) are ignored, critical extensions (`crit`) are refused;
* length is checked before anything is parsed, and everything is parsed into exact types; a token has one spelling: strict base64url
  without padding, no member of an object twice (parsers differ in which of two counts);
* time is a parameter: PyJWT checks the signature, this module checks the claims against `now`.
"""

import base64
import json
from collections.abc import Sequence
from typing import Annotated, Final, Literal, TypeAlias, get_args

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from jwt import PyJWS
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from msgspec import UNSET, Meta, Struct, UnsetType, field

from schemas.base import Key
from schemas.bounds import MAX_PEM_CHARS, MAX_TOKEN_CHARS
from service.domain.roles import CONSUMER_SCOPES

Algorithm = Literal["EdDSA", "ES256", "RS256"]
ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)

AUDIENCE: Final = "greenpoints"
MAX_LIFE_S: Final = 24 * 3_600
LEEWAY_S: Final = 5.0
MAX_JWKS_BYTES: Final = 65_536
MAX_JWKS_KEYS: Final = 100
RSA_BITS: Final = range(2_048, 4_097)
"""Shorter is unsafe, longer costs too much per verification."""

PublicKey: TypeAlias = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey

# Seconds since 1970 (RFC 7519 "NumericDate"); the bound keeps arithmetic finite.
_Instant = Annotated[int, Meta(ge=0, le=10**11)] | Annotated[float, Meta(ge=0, le=10**11)]

# Points of Ed25519 whose order is 1, 2, 4 or 8, by their y without the sign of x, those beside the canonical encodings too: a signature by
# such a "key" can be made without a secret. The list is libsodium's (crypto_core/ed25519/ref10, ge25519_has_small_order).
_Y_MASK: Final = 2**255 - 1
_P: Final = 2**255 - 19
_ORDER_8: Final = 2707385501144840649318225287225658788936804267575313519463743609750303402022
_SMALL_ORDER: Final = frozenset((0, 1, _P - 1, _P, _P + 1, _ORDER_8, _P - _ORDER_8))

# A signature only: no claim, no time, no key from the token.
_jws = PyJWS(algorithms=list(ALGORITHMS))


class TokenError(Exception):
    """The token proves nothing; the text says why, to the platform's developers, without repeating the token."""


class UnusableKey(Exception):
    """The text is not a public key for the algorithm; `detail` says why."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class VerificationKey(Struct, frozen=True, kw_only=True):
    """A public key and the one algorithm it verifies."""

    algorithm: Algorithm
    public: PublicKey


class Unverified(Struct, frozen=True, kw_only=True):
    """What a token says of itself, good for finding its key and for nothing else."""

    kid: str | None
    issuer: str


class Claims(Struct, frozen=True, kw_only=True):
    """What a verified token proves: this reference of this platform, until `expires_at` (seconds since 1970)."""

    issuer: str
    reference: str
    scopes: frozenset[str]
    expires_at: float


class _Header(Struct, frozen=True, kw_only=True):
    alg: str
    kid: Key | None = None
    crit: msgspec.Raw | UnsetType = UNSET
    b64: msgspec.Raw | UnsetType = UNSET


class _Issuer(Struct, frozen=True, kw_only=True):
    iss: Key


class _Payload(Struct, frozen=True, kw_only=True):
    iss: Key
    sub: Key
    aud: str | Annotated[list[str], Meta(max_length=16)]
    exp: _Instant
    iat: _Instant | None = None
    nbf: _Instant | None = None
    scope: str = ""


def read(token: str) -> Unverified:
    """The key id and issuer that the token claims. Raises TokenError for what cannot be a token."""
    if len(token) > MAX_TOKEN_CHARS or not token.isascii() or token.count(".") != 2:
        raise TokenError(f"A consumer token has three parts and at most {MAX_TOKEN_CHARS} characters.")
    head, body, signature = token.split(".")
    try:
        head_json, body_json = _decode_base64(head), _decode_base64(body)
        header = msgspec.json.decode(head_json, type=_Header)
        issuer = msgspec.json.decode(body_json, type=_Issuer)
        for document in (head_json, body_json):
            json.loads(document.decode(), object_pairs_hook=_without_repeats)
        _decode_base64(signature)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise TokenError("The consumer token cannot be read: it needs `alg` in its header and `iss` in its claims.") from None
    if header.crit is not UNSET or header.b64 is not UNSET:
        raise TokenError("Consumer tokens with critical extensions are not accepted.")
    return Unverified(kid=header.kid, issuer=issuer.iss)


def verify(token: str, *, key: VerificationKey, issuer: str, now: float) -> Claims:
    """Check signature and claims of a token that `read` accepted; `now` in seconds since 1970. Raises TokenError."""
    try:
        payload = _jws.decode_complete(token, key.public, algorithms=[key.algorithm])["payload"]
    except (jwt.PyJWTError, ValueError, TypeError):
        raise TokenError(f"The consumer token's signature is not one of the registered {key.algorithm} key.") from None
    try:
        claims = msgspec.json.decode(payload, type=_Payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TokenError(f"The consumer token's claims are not valid: {error}.") from None
    _check_parties(claims, issuer)
    _check_times(claims, now)
    scopes = frozenset(claims.scope.split())
    if not scopes <= CONSUMER_SCOPES:
        raise TokenError(f"The consumer token's `scope` may hold {' and '.join(sorted(CONSUMER_SCOPES))} only.")
    return Claims(issuer=claims.iss, reference=claims.sub, scopes=scopes, expires_at=float(claims.exp))


def sign(*, private_pem: str, algorithm: str, kid: str, issuer: str, reference: str, scopes: Sequence[str], now: float, ttl_s: int) -> str:
    """A consumer token that `verify` accepts for `ttl_s` seconds from `now` (seconds since 1970) on."""
    claims = {
        "iss": issuer,
        "sub": reference,
        "aud": AUDIENCE,
        "iat": int(now),
        "exp": int(now) + ttl_s,
        "scope": " ".join(scopes),
    }
    return jwt.encode(claims, private_pem, algorithm=algorithm, headers={"kid": kid})


def development_key(random: bytes) -> tuple[str, str]:
    """An Ed25519 key pair from 32 random bytes: private and public PEM."""
    private = Ed25519PrivateKey.from_private_bytes(random)
    private_pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return private_pem, public_pem_of(private_pem)


def public_pem_of(private_pem: str) -> str:
    """The public half of a private key, both PEM."""
    public = load_pem_private_key(private_pem.encode(), password=None).public_key()
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def key_from_pem(pem: str, algorithm: Algorithm) -> VerificationKey:
    """A registered public key (PEM, SubjectPublicKeyInfo). Raises UnusableKey: a private key, another type, a weak size."""
    if len(pem) > MAX_PEM_CHARS:
        raise UnusableKey(f"A public key in PEM has at most {MAX_PEM_CHARS} characters.")
    if "PRIVATE KEY" in pem:
        raise UnusableKey("This is a private key: register the public one, and replace this one, it has left your hands.")
    try:
        public = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise UnusableKey("This is not a public key in PEM (it begins with -----BEGIN PUBLIC KEY-----).") from None
    return _fit(public, algorithm)


class _Jwk(Struct, frozen=True, kw_only=True):
    """One key of a set (RFC 7517); the private member `d` must not be there."""

    kty: str
    kid: Key | None = None
    use: str | None = None
    alg: str | None = None
    crv: str | None = None
    x: Annotated[str, Meta(max_length=128)] | None = None
    y: Annotated[str, Meta(max_length=128)] | None = None
    n: Annotated[str, Meta(max_length=1_024)] | None = None
    e: Annotated[str, Meta(max_length=16)] | None = None
    d: msgspec.Raw | UnsetType = UNSET


class _Jwks(Struct, frozen=True, kw_only=True):
    entries: Annotated[list[msgspec.Raw], Meta(max_length=MAX_JWKS_KEYS)] = field(name="keys")


def keys_from_jwks(document: bytes, algorithm: Algorithm) -> dict[str | None, VerificationKey]:
    """The keys of a JSON Web Key Set that fit the registered algorithm, by kid; others are left out, the first of a kid counts.

    Raises UnusableKey when the document is no key set.
    """
    try:
        entries = msgspec.json.decode(document, type=_Jwks).entries
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise UnusableKey('The answer is no JSON Web Key Set ({"keys": [...]}).') from None
    found: dict[str | None, VerificationKey] = {}
    for entry in entries:
        try:
            jwk = msgspec.json.decode(entry, type=_Jwk)
            found.setdefault(jwk.kid, _key_from_jwk(jwk, algorithm))
        except (UnusableKey, msgspec.MsgspecError, ValueError, RecursionError):
            continue  # a set may hold keys for other purposes
    return found


def _check_parties(claims: _Payload, issuer: str) -> None:
    if claims.iss != issuer:
        raise TokenError("The consumer token's `iss` is not the platform that its key belongs to.")
    audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if AUDIENCE not in audiences:
        raise TokenError(f"The consumer token's `aud` is not {AUDIENCE!r}.")


def _check_times(claims: _Payload, now: float) -> None:
    if claims.exp <= now:
        raise TokenError("The consumer token has expired.")
    # A token that was made to live longer is refused from the start, not only until its last day begins.
    begins = now if claims.iat is None else min(now, float(claims.iat))
    if claims.exp - begins > MAX_LIFE_S + LEEWAY_S:
        raise TokenError("A consumer token may live 24 hours at most (`exp`).")
    for name, instant in (("nbf", claims.nbf), ("iat", claims.iat)):
        if instant is not None and instant > now + LEEWAY_S:
            raise TokenError(f"The consumer token's `{name}` is in the future.")


def _key_from_jwk(jwk: _Jwk, algorithm: Algorithm) -> VerificationKey:
    if jwk.d is not UNSET or jwk.use not in (None, "sig") or jwk.alg not in (None, algorithm):
        raise UnusableKey("Not a public key that signs with this algorithm.")
    members = {name: value for name in ("kty", "crv", "x", "y", "n", "e") if (value := getattr(jwk, name)) is not None}
    try:
        match algorithm:
            case "EdDSA":
                return _fit(OKPAlgorithm.from_jwk(members), algorithm)
            case "ES256":
                return _fit(ECAlgorithm.from_jwk(members), algorithm)
            case "RS256":
                return _fit(RSAAlgorithm.from_jwk(members), algorithm)
    except jwt.PyJWTError as error:
        raise UnusableKey(str(error)) from None


def _fit(public: object, algorithm: Algorithm) -> VerificationKey:
    """The key if it is of the type that the algorithm needs."""
    match algorithm:
        case "EdDSA":
            if isinstance(public, Ed25519PublicKey):
                if int.from_bytes(public.public_bytes_raw(), "little") & _Y_MASK in _SMALL_ORDER:
                    raise UnusableKey("This Ed25519 key is a point of small order: everybody can sign for it.")
                return VerificationKey(algorithm=algorithm, public=public)
            raise UnusableKey("EdDSA needs an Ed25519 public key.")
        case "ES256":
            if isinstance(public, EllipticCurvePublicKey) and isinstance(public.curve, SECP256R1):
                return VerificationKey(algorithm=algorithm, public=public)
            raise UnusableKey("ES256 needs a public key on the curve P-256.")
        case "RS256":
            if isinstance(public, RSAPublicKey) and public.key_size in RSA_BITS:
                return VerificationKey(algorithm=algorithm, public=public)
            raise UnusableKey(f"RS256 needs an RSA public key of {RSA_BITS.start} to {RSA_BITS.stop - 1} bits.")


def _decode_base64(text: str) -> bytes:
    """The bytes of base64url without padding (RFC 7515 §2), of which only one spelling is accepted. Raises ValueError."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():  # the decoder passes over foreign characters and bits behind the end
        raise ValueError("not base64url")
    return data


def _without_repeats(members: list[tuple[str, object]]) -> dict[str, object]:
    """A JSON object. Raises ValueError when a name stands in it twice."""
    found = dict(members)
    if len(found) != len(members):
        raise ValueError("a name stands twice in an object")
    return found
