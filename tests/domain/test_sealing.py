import pytest

from service.sealing import Sealer, Unsealable, UnusableMasterKey, new_master_key


def test_what_is_sealed_opens_again_and_shows_nothing() -> None:
    sealer = Sealer.of_setting(new_master_key())
    sealed = sealer.seal("whsec_secret")
    assert "secret" not in sealed
    assert sealer.open(sealed) == "whsec_secret"
    assert sealer.open_bytes(sealer.seal(b"\xff\x00")) == b"\xff\x00"
    assert sealer.seal("whsec_secret") != sealed


def test_an_older_key_still_opens_and_is_told_apart() -> None:
    old, new = new_master_key(), new_master_key()
    sealed = Sealer.of_setting(old).seal("x")
    both = Sealer.of_setting(f"{new}, {old}")
    assert both.open(sealed) == "x"
    assert not both.is_current(sealed)
    assert both.is_current(both.seal("x"))


def test_a_lost_key_or_a_changed_text_is_refused() -> None:
    sealer = Sealer.of_setting(new_master_key())
    sealed = Sealer.of_setting(new_master_key()).seal("x")
    with pytest.raises(Unsealable):
        sealer.open(sealed)
    own = sealer.seal("x")
    with pytest.raises(Unsealable):
        sealer.open(own[:-2] + ("A=" if own[-2] != "A" else "B="))


def test_what_an_older_release_left_plain_is_readable_and_not_current() -> None:
    sealer = Sealer.of_setting(new_master_key())
    assert sealer.open("plain") == "plain"
    assert not sealer.is_current("plain")


@pytest.mark.parametrize("text", ["", ",", "short", "x" * 44])
def test_what_is_no_master_key_is_refused(text: str) -> None:
    with pytest.raises(UnusableMasterKey):
        Sealer.of_setting(text)
