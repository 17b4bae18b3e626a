"""Secrets: their shapes, their hashes, and that too little randomness is refused."""

import base64

import pytest

from service.domain import secrets

RANDOM = bytes(range(24))


def test_the_shapes_are_the_contract_s() -> None:
    assert secrets.platform_key(RANDOM).startswith("gpk_live_")
    assert secrets.operator_token(RANDOM).startswith("gpo_")
    assert secrets.webhook_secret(RANDOM) == "whsec_" + base64.b64encode(RANDOM).decode()
    assert secrets.shared_secret(RANDOM) == RANDOM.hex()


def test_what_is_made_is_recognised_and_nothing_else_is() -> None:
    key, token = secrets.platform_key(RANDOM), secrets.operator_token(RANDOM)
    assert secrets.is_platform_key(key)
    assert not secrets.is_platform_key(token)
    assert secrets.is_operator_token(token)
    assert not secrets.is_operator_token(key)
    assert secrets.is_hook_id(secrets.hook_id(RANDOM))
    assert secrets.is_webhook_secret(secrets.webhook_secret(RANDOM))
    for hostile in ("", "gpk_live_", key + "\n", key + "\x00", "gpk_live_" + "a" * 200, "gpk_live_" + "é" * 32):
        assert not secrets.is_platform_key(hostile)
    for hostile in ("", "a/b", "..", "a\x00b", "a" * 129):
        assert not secrets.is_hook_id(hostile)


@pytest.mark.parametrize(
    "text",
    [
        "whsec_",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_" + "!" * 32,
        base64.b64encode(bytes(24)).decode(),
    ],
)
def test_a_webhook_secret_has_24_to_64_bytes(text: str) -> None:
    assert not secrets.is_webhook_secret(text)


@pytest.mark.parametrize(
    "make", [secrets.platform_key, secrets.operator_token, secrets.webhook_secret, secrets.shared_secret, secrets.hook_id, secrets.password]
)
def test_too_little_randomness_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="24 random bytes"):
        make(bytes(23))


def test_every_secret_carries_all_of_its_randomness() -> None:
    other = RANDOM[:-1] + b"\xff"
    for make in (secrets.platform_key, secrets.operator_token, secrets.webhook_secret, secrets.shared_secret, secrets.hook_id):
        assert make(RANDOM) != make(other)


def test_a_token_is_stored_as_the_hash_of_all_of_it() -> None:
    key = secrets.platform_key(RANDOM)
    assert len(secrets.token_hash(key)) == 32
    assert secrets.token_hash(key) != secrets.token_hash(key.removeprefix("gpk_live_"))
    assert secrets.hint(key) == key[-4:]
