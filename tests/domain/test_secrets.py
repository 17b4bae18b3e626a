"""Secrets: their shapes, their hashes, and that too little randomness is refused."""

import base64
import re
import zlib

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
    access = secrets.access_token(RANDOM)
    assert secrets.is_access_token(access)
    assert not secrets.is_platform_key(access)
    assert not secrets.is_access_token(key)
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
    "make",
    [
        secrets.platform_key,
        secrets.station_key,
        secrets.operator_token,
        secrets.webhook_secret,
        secrets.shared_secret,
        secrets.hook_id,
        secrets.password,
    ],
)
def test_too_little_randomness_is_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match="24 random bytes"):
        make(bytes(23))


def test_every_secret_carries_all_of_its_randomness() -> None:
    other = RANDOM[:-1] + b"\xff"
    for make in (
        secrets.platform_key,
        secrets.station_key,
        secrets.operator_token,
        secrets.webhook_secret,
        secrets.shared_secret,
        secrets.hook_id,
    ):
        assert make(RANDOM) != make(other)


def test_a_token_is_stored_as_the_hash_of_all_of_it() -> None:
    key = secrets.platform_key(RANDOM)
    assert len(secrets.token_hash(key)) == 32
    assert secrets.token_hash(key) != secrets.token_hash(key.removeprefix("gpk_live_"))
    assert secrets.hint(key) == key[-4:]


def test_a_key_ends_in_a_checksum_that_anybody_can_compute() -> None:
    for made, begins in (
        (secrets.platform_key(RANDOM), "gpk_live_"),
        (secrets.platform_key(RANDOM, sandbox=True), "gpk_test_"),
        (secrets.access_token(RANDOM), "gpa_"),
        (secrets.station_key(RANDOM), "gps_live_"),
        (secrets.station_key(RANDOM, sandbox=True), "gps_test_"),
    ):
        assert made.startswith(begins)
        assert re.fullmatch(r"(gpk_live|gpk_test|gps_live|gps_test|gpa)_[0-9A-Za-z]{39}", made)
        number, digits = zlib.crc32(made[:-6].encode()), ""
        for _ in range(6):
            number, digit = divmod(number, 62)
            digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[digit] + digits
        assert made[-6:] == digits


def test_any_single_wrong_character_breaks_the_checksum() -> None:
    for key in (secrets.platform_key(RANDOM), secrets.platform_key(bytes(24)), secrets.platform_key(b"\xff" * 24)):
        for i in range(len("gpk_live_"), len(key)):
            for other in "0Az-_":
                if other != key[i]:
                    assert not secrets.is_platform_key(key[:i] + other + key[i + 1 :])


def test_a_live_key_cannot_be_rewritten_into_a_test_key() -> None:
    assert not secrets.is_platform_key(secrets.platform_key(RANDOM).replace("live", "test"))
    assert not secrets.is_platform_key(secrets.platform_key(RANDOM, sandbox=True).replace("test", "live"))


def test_a_stations_key_is_no_platforms_and_the_other_way_round() -> None:
    station, platform = secrets.station_key(RANDOM), secrets.platform_key(RANDOM)
    assert secrets.is_station_key(station)
    assert not secrets.is_platform_proof(station)
    assert not secrets.is_station_key(platform)
    assert not secrets.is_station_key(platform.replace("gpk", "gps"))
    assert not secrets.is_station_key(station.replace("live", "test"))
    assert [secrets.is_test_station_key(key) for key in (station, secrets.station_key(RANDOM, sandbox=True))] == [False, True]


def test_keys_of_the_first_release_have_no_checksum_and_another_length() -> None:
    old = "gpk_live_" + base64.urlsafe_b64encode(RANDOM).decode()
    assert len(old) == 9 + 32
    assert secrets.is_platform_key(old)
    assert not secrets.is_platform_key(old.replace("live", "test"))
    for length in (*range(27, 32), *range(33, 39), *range(40, 65)):
        assert not secrets.is_platform_key("gpk_live_" + "A" * length)


@pytest.mark.parametrize("password", ["Ada@Example.com", "ada.lovelace@x", "aaaaaaaaaaaa", "abababababab", "ADA.LOVELACE"])
def test_weak_passwords_are_told(password: str) -> None:
    email = "ada.lovelace@x" if "lovelace" in password.lower() else "ada@example.com"
    assert secrets.password_weakness(password, email)
    assert secrets.password_weakness("correct horse battery", email) is None


def test_nobody_has_a_hash_that_costs_what_a_real_one_does_and_fits_nothing() -> None:
    nobody, real = secrets.hash_of_nobody(), secrets.hash_password("correct horse battery", salt=bytes(16))
    assert nobody.split("$")[:4] == real.split("$")[:4]
    assert [len(part) for part in nobody.split("$")] == [len(part) for part in real.split("$")]
    assert not secrets.verify_password("", hashed=nobody)
    assert not secrets.needs_rehash(real)
    assert secrets.needs_rehash(real.replace("m=65536", "m=32768"))
    assert secrets.needs_rehash("damaged")
