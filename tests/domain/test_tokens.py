"""Consumer tokens: the good ones pass, and each known attack on JSON Web Tokens fails."""

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from service.domain import tokens
from service.domain.tokens import Algorithm, TokenError, UnusableKey, VerificationKey

NOW = 1_795_000_000.0
HOUR = 3_600


def private_pem(key: Any) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public_pem(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


PRIVATE: dict[Algorithm, Any] = {
    "EdDSA": Ed25519PrivateKey.from_private_bytes(bytes(32)),
    "ES256": ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1()),
    "RS256": rsa.generate_private_key(public_exponent=65_537, key_size=2_048),
}
PUBLIC: dict[Algorithm, VerificationKey] = {name: tokens.key_from_pem(public_pem(key), name) for name, key in PRIVATE.items()}
EDDSA = PUBLIC["EdDSA"]


def claims(**changes: Any) -> dict[str, Any]:
    good = {"iss": "demo-shop", "sub": "cust-42", "aud": "greenpoints", "iat": NOW, "exp": NOW + HOUR, "scope": "balance:read"}
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(payload: dict[str, Any] | None = None, *, algorithm: Algorithm = "EdDSA", headers: dict[str, Any] | None = None) -> str:
    return jwt.encode(payload or claims(), PRIVATE[algorithm], algorithm=algorithm, headers=headers)


def verify(token: str, key: VerificationKey = EDDSA, *, now: float = NOW) -> tokens.Claims:
    tokens.read(token)
    return tokens.verify(token, key=key, issuer="demo-shop", now=now)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def raw(header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes, signature: bytes = b"") -> str:
    parts = (json.dumps(part).encode() if isinstance(part, dict) else part for part in (header, payload))
    return ".".join([*(b64(part) for part in parts), b64(signature)])


@pytest.mark.parametrize("algorithm", tokens.ALGORITHMS)
def test_a_good_token_says_who_and_what(algorithm: Algorithm) -> None:
    token = signed(claims(scope="redeem balance:read"), algorithm=algorithm, headers={"kid": "k1"})
    assert tokens.read(token) == tokens.Unverified(kid="k1", issuer="demo-shop")
    verified = verify(token, PUBLIC[algorithm])
    assert verified.reference == "cust-42"
    assert verified.scopes == {"redeem", "balance:read"}
    assert verified.expires_at == NOW + HOUR


def test_a_made_token_is_a_good_one_for_a_whole_day() -> None:
    private, public = tokens.development_key(bytes(range(32)))
    token = tokens.sign(
        private_pem=private, algorithm="EdDSA", kid="d", issuer="demo-shop", reference="小明", scopes=["redeem"], now=NOW, ttl_s=24 * HOUR
    )
    verified = verify(token, tokens.key_from_pem(public, "EdDSA"))
    assert (verified.reference, verified.scopes) == ("小明", {"redeem"})


def test_an_audience_list_may_name_us_among_others() -> None:
    assert verify(signed(claims(aud=["other", "greenpoints"]))).reference == "cust-42"


def test_a_token_without_scope_proves_who_and_allows_nothing() -> None:
    assert verify(signed(claims(scope=None))).scopes == frozenset()


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
def test_an_unsigned_token_proves_nothing(name: str) -> None:
    for signature in (b"", b"x", bytes(64)):
        with pytest.raises(TokenError):
            verify(raw({"alg": name, "typ": "JWT"}, claims(), signature))


@pytest.mark.parametrize("algorithm", tokens.ALGORITHMS)
@pytest.mark.parametrize("mac", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_shared_secret(algorithm: Algorithm, mac: str) -> None:
    digest = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}[mac]
    head, body = b64(json.dumps({"alg": mac, "typ": "JWT"}).encode()), b64(json.dumps(claims()).encode())
    public = PRIVATE[algorithm].public_key()
    for secret in (
        public_pem(PRIVATE[algorithm]).encode(),
        public_pem(PRIVATE[algorithm]).strip().encode(),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
    ):
        signature = hmac.new(secret, f"{head}.{body}".encode(), digest).digest()
        with pytest.raises(TokenError):
            verify(f"{head}.{body}.{b64(signature)}", PUBLIC[algorithm])


@pytest.mark.parametrize("header", tokens.ALGORITHMS)
@pytest.mark.parametrize("registered", tokens.ALGORITHMS)
def test_the_registered_key_fixes_the_algorithm(header: Algorithm, registered: Algorithm) -> None:
    if header != registered:
        with pytest.raises(TokenError):
            verify(signed(algorithm=header), PUBLIC[registered])


def test_a_good_signature_under_another_name_of_the_algorithm_is_refused() -> None:
    head, body = b64(b'{"alg":"PS256"}'), b64(json.dumps(claims()).encode())
    signature = PRIVATE["RS256"].sign(f"{head}.{body}".encode(), padding.PKCS1v15(), SHA256())
    with pytest.raises(TokenError):
        verify(f"{head}.{body}.{b64(signature)}", PUBLIC["RS256"])


def test_keys_and_addresses_in_the_header_are_never_followed() -> None:
    attacker = Ed25519PrivateKey.from_private_bytes(bytes([7]) * 32)
    x = b64(attacker.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    headers: dict[str, Any] = {
        "kid": "k1",
        "jwk": {"kty": "OKP", "crv": "Ed25519", "x": x},
        "jku": "http://127.0.0.1:1/keys",
        "x5u": "http://127.0.0.1:1/cert",
        "x5c": ["AAAA"],
    }
    with pytest.raises(TokenError):
        verify(jwt.encode(claims(), attacker, algorithm="EdDSA", headers=headers))
    assert verify(signed(headers=headers)).reference == "cust-42"


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "EdDSA", "crit": ["exp"]},
        {"alg": "EdDSA", "crit": []},
        {"alg": "EdDSA", "crit": ["b64"], "b64": False},
        {"alg": "EdDSA", "b64": False},
        {"alg": "EdDSA", "kid": 7},
        {"alg": "EdDSA", "kid": "a\x00b"},
        {"alg": "EdDSA", "kid": "k" * 129},
        {"alg": None},
        {"alg": ["EdDSA"]},
        {},
        b"[]",
        b"null",
        b"{",
        b"\xff\xfe",
        b'{"alg":"EdDSA","a":' + b"[" * 1_200,
    ],
)
def test_odd_headers_are_refused(header: Any) -> None:
    signing_input = raw(header, claims()).rpartition(".")[0]
    token = f"{signing_input}.{b64(PRIVATE['EdDSA'].sign(signing_input.encode()))}"
    with pytest.raises(TokenError):
        verify(token)


@pytest.mark.parametrize(
    "kid", ["../../../../dev/null", "' OR 1=1 --", "http://127.0.0.1/keys", "file:///etc/passwd", "| id", "demo-market"]
)
def test_a_kid_is_only_a_name(kid: str) -> None:
    assert tokens.read(signed(headers={"kid": kid})).kid == kid


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "demo-market"},
        {"iss": ["demo-shop"]},
        {"iss": None},
        {"aud": "other"},
        {"aud": "GREENPOINTS"},
        {"aud": []},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "s" * 129},
        {"sub": "a\nb"},
        {"sub": "a\x00b"},
        {"sub": 42},
        {"exp": None},
        {"exp": NOW},
        {"exp": NOW - 1},
        {"exp": NOW - HOUR},
        {"exp": str(NOW + HOUR)},
        {"exp": True},
        {"exp": 10**30},
        {"exp": -1},
        {"exp": NOW + 25 * HOUR},
        {"exp": NOW + 25 * HOUR, "iat": None},
        {"exp": NOW + 10, "iat": NOW - 25 * HOUR},
        {"iat": NOW + 60},
        {"iat": "now"},
        {"nbf": NOW + 60},
        {"nbf": "later"},
        {"scope": "admin"},
        {"scope": "balance:read events:write"},
        {"scope": ["balance:read"]},
    ],
)
def test_claims_that_are_not_exactly_right_are_refused(changes: dict[str, Any]) -> None:
    payload = claims() | changes
    with pytest.raises(TokenError):
        verify(_signed_raw({name: value for name, value in payload.items() if value is not None}))


def _signed_raw(payload: dict[str, Any] | bytes) -> str:
    """Signed without the encoder's own checks."""
    signing_input = raw({"alg": "EdDSA", "typ": "JWT"}, payload).rpartition(".")[0]
    return f"{signing_input}.{b64(PRIVATE['EdDSA'].sign(signing_input.encode()))}"


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b'"x"', b"{", b'{"iss":"demo-shop","a":' + b"[" * 2_000, b"\xff", b'{"exp":NaN}'])
def test_payloads_that_are_no_claims_are_refused(payload: bytes) -> None:
    with pytest.raises(TokenError):
        verify(_signed_raw(payload))


def test_a_clock_a_few_seconds_ahead_is_forgiven_but_never_an_end() -> None:
    assert verify(signed(claims(iat=NOW + 4, nbf=NOW + 4)))
    assert verify(signed(claims(exp=NOW + 24 * HOUR)))
    with pytest.raises(TokenError):
        verify(signed(), now=NOW + HOUR)


def test_a_giant_token_is_refused_before_it_is_parsed() -> None:
    token = signed(claims(padding="x" * 4_096))
    with pytest.raises(TokenError, match="4096"):
        tokens.read(token)
    with pytest.raises(TokenError, match="4096"):
        tokens.read("." * 10_000_000)


@pytest.mark.parametrize("algorithm", tokens.ALGORITHMS)
def test_any_change_breaks_the_signature(algorithm: Algorithm) -> None:
    head, body, signature = signed(algorithm=algorithm).split(".")
    other = b64(json.dumps(claims(sub="cust-43")).encode())
    flipped = signature[:10] + ("A" if signature[10] != "A" else "B") + signature[11:]
    for token in (f"{head}.{other}.{signature}", f"{head}.{body}.{flipped}", f"{head}.{body}.", f"{head}.{body}.AAAA", f"{head}.{body}"):
        with pytest.raises(TokenError):
            verify(token, PUBLIC[algorithm])


def test_the_zero_signature_of_ecdsa_is_refused() -> None:
    head, body, _ = signed(algorithm="ES256").split(".")
    with pytest.raises(TokenError):
        verify(f"{head}.{body}.{b64(bytes(64))}", PUBLIC["ES256"])


@pytest.mark.parametrize("size", [0, 1, 32, 63, 65, 96, 128])
def test_an_ecdsa_signature_has_64_bytes(size: int) -> None:
    head, body, signature = signed(algorithm="ES256").split(".")
    good = base64.urlsafe_b64decode(signature + "==")
    with pytest.raises(TokenError):
        verify(f"{head}.{body}.{b64((good * 2)[:size])}", PUBLIC["ES256"])


def test_an_ecdsa_signature_in_der_is_refused() -> None:
    head, body, _ = signed(algorithm="ES256").split(".")
    der = PRIVATE["ES256"].sign(f"{head}.{body}".encode(), ec.ECDSA(SHA256()))
    with pytest.raises(TokenError):
        verify(f"{head}.{body}.{b64(der)}", PUBLIC["ES256"])


@pytest.mark.parametrize("algorithm", tokens.ALGORITHMS)
def test_a_token_has_one_spelling(algorithm: Algorithm) -> None:
    token = signed(algorithm=algorithm)
    verify(token, PUBLIC[algorithm])
    head, body, signature = token.split(".")
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [f"{signature}=", f"{signature}==", f"{signature}\n", f" {signature}", f"{signature[:9]}!{signature[9:]}", f"{signature}A"]
    if len(signature) % 4:  # bits behind the last byte are zero: other bits there spell the same bytes
        others.append(signature[:-1] + last[last.index(signature[-1]) + 1])
    for odd in others:
        if odd != f"{signature}A":  # of a byte more: a spelling of its own, and no signature
            with pytest.raises(TokenError):
                tokens.read(f"{head}.{body}.{odd}")  # before any library sees it
        for spelled in (f"{head}.{body}.{odd}", f"{odd}.{body}.{signature}", f"{head}.{odd}.{signature}"):
            with pytest.raises(TokenError):
                verify(spelled, PUBLIC[algorithm])
    for spelled in (f"{head}=.{body}.{signature}", f"{head}.{body}=.{signature}", f" {token}", f"{token} ", token.replace(".", ". ")):
        with pytest.raises(TokenError):
            verify(spelled, PUBLIC[algorithm])


@pytest.mark.parametrize(
    "payload",
    [
        b'{"iss":"demo-shop","sub":"a","sub":"cust-42","aud":"greenpoints","exp":1795003600}',
        b'{"iss":"other","iss":"demo-shop","sub":"a","aud":"greenpoints","exp":1795003600}',
        b'{"iss":"demo-shop","sub":"a","aud":"greenpoints","exp":1795003600,"x":{"a":1,"a":2}}',
        b'{"iss":"demo-shop","sub":"a","\\u0073ub":"b","aud":"greenpoints","exp":1795003600}',
    ],
)
def test_a_member_that_stands_twice_is_refused(payload: bytes) -> None:
    assert json.loads(payload)["sub"]
    with pytest.raises(TokenError):
        verify(_signed_raw(payload))
    signing_input = raw(b'{"alg":"none","alg":"EdDSA"}', claims()).rpartition(".")[0]
    with pytest.raises(TokenError):
        verify(f"{signing_input}.{b64(PRIVATE['EdDSA'].sign(signing_input.encode()))}")


def test_an_encrypted_token_is_none_of_ours() -> None:
    head = b64(b'{"alg":"dir","enc":"A256GCM"}')
    for token in (f"{head}..AAAA.AAAA.AAAA", f"{head}.AAAA.AAAA.AAAA.AAAA", f"{signed()}.AAAA.AAAA"):
        with pytest.raises(TokenError):
            verify(token)
    with pytest.raises(TokenError):
        verify(raw({"alg": "dir", "enc": "A256GCM", "cty": "JWT"}, claims(), bytes(16)))


def test_claims_may_be_nested_but_not_without_end() -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    assert verify(signed(claims(extra=deep))).reference == "cust-42"
    bottomless = b'{"iss":"demo-shop","sub":"a","aud":"greenpoints","exp":1795003600,"a":' + b"[" * 1_400 + b"]" * 1_400 + b"}"
    assert len(_signed_raw(bottomless)) < tokens.MAX_TOKEN_CHARS
    with pytest.raises(TokenError):
        verify(_signed_raw(bottomless))


# The encodings of libsodium's crypto_core/ed25519/ref10: y = 0, 1, two of order 8, -1, and p and p + 1 beside the canonical ones.
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


@pytest.mark.parametrize("point", SMALL_ORDER)
@pytest.mark.parametrize("sign", [0, 0x80])
def test_a_point_of_small_order_is_no_key(point: str, sign: int) -> None:
    raw_key = bytearray.fromhex(point)
    raw_key[31] |= sign
    public = Ed25519PublicKey.from_public_bytes(bytes(raw_key))
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(UnusableKey, match="small order"):
        tokens.key_from_pem(pem, "EdDSA")
    document = json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "weak", "x": b64(bytes(raw_key))}]}).encode()
    assert tokens.keys_from_jwks(document, "EdDSA") == {}


def test_a_key_set_gives_no_weak_rsa_key() -> None:
    weak = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)  # noqa: S505 - weak on purpose
    numbers = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(weak.public_key()))
    one = jwk("RS256", kid="e1", e=b64(b"\x01"))
    assert tokens.keys_from_jwks(json.dumps({"keys": [numbers | {"kid": "weak"}, one]}).encode(), "RS256") == {}


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda data: raw(data, data, data)))
def test_whatever_comes_is_refused_and_never_crashes(token: str) -> None:
    with pytest.raises(TokenError):
        verify(token)


def test_only_a_fitting_public_key_can_be_registered() -> None:
    weak = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)  # noqa: S505 - weak on purpose
    other_curve = ec.derive_private_key(5, ec.SECP384R1())
    for pem, algorithm in (
        (public_pem(weak), "RS256"),
        (public_pem(other_curve), "ES256"),
        (public_pem(PRIVATE["RS256"]), "EdDSA"),
        (public_pem(PRIVATE["EdDSA"]), "ES256"),
        ("", "EdDSA"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "EdDSA"),
        ("x" * 10_000, "RS256"),
    ):
        with pytest.raises(UnusableKey):
            tokens.key_from_pem(pem, algorithm)  # type: ignore[arg-type]
    with pytest.raises(UnusableKey, match="private"):
        tokens.key_from_pem(private_pem(PRIVATE["EdDSA"]), "EdDSA")


def jwk(algorithm: Algorithm, **changes: Any) -> dict[str, Any]:
    readers: dict[Algorithm, Any] = {
        "EdDSA": jwt.algorithms.OKPAlgorithm,
        "ES256": jwt.algorithms.ECAlgorithm,
        "RS256": jwt.algorithms.RSAAlgorithm,
    }
    return json.loads(readers[algorithm].to_jwk(PRIVATE[algorithm].public_key())) | changes


@pytest.mark.parametrize("algorithm", tokens.ALGORITHMS)
def test_a_key_set_gives_only_keys_that_fit(algorithm: Algorithm) -> None:
    others = [jwk(name, kid=f"other-{name}") for name in tokens.ALGORITHMS if name != algorithm]
    odd = [
        jwk(algorithm, kid="encrypts", use="enc"),
        jwk(algorithm, kid="says-otherwise", alg="HS256"),
        jwk(algorithm, kid="private", d="AAAA"),
        {"kty": "oct", "kid": "shared", "k": "AAAA"},
        {"kty": 7},
        None,
        [],
    ]
    document = json.dumps({"keys": [*others, *odd, jwk(algorithm, kid="good", use="sig", alg=algorithm)]}).encode()
    found = tokens.keys_from_jwks(document, algorithm)
    assert set(found) == {"good"}
    assert verify(signed(algorithm=algorithm), found["good"]).reference == "cust-42"


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": 1}', b"[" * 10_000, b'{"keys": [' + b"{}," * 200 + b"{}]}"])
def test_what_is_no_key_set_is_refused(document: bytes) -> None:
    with pytest.raises(UnusableKey):
        tokens.keys_from_jwks(document, "EdDSA")
