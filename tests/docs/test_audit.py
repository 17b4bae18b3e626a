"""The audit of dependencies is never green because nobody was asked."""

from tests.audit import LOCK, Dependency, Report, Vulnerability, locked, verdict

NAMES = {"idna", "litestar"}
SOUND = Report([Dependency("idna", "3.11"), Dependency("litestar", "2.25.0")])
UNASKED = Report([Dependency("idna", skip_reason="not found"), Dependency("litestar", "2.25.0")])


def test_all_packages_of_the_lock_are_asked_about() -> None:
    names = locked(LOCK.read_text(encoding="utf-8"))
    assert {"litestar", "asyncpg", "pyjwt"} <= names
    assert len(names) > 50
    assert not any(" " in name or "#" in name for name in names)


def test_nothing_known_is_green() -> None:
    assert verdict(NAMES, [SOUND], required=True) == (0, "dependency audit: nothing is known against the 2 locked packages")


def test_a_package_without_an_answer_is_said() -> None:
    for reports in ([], [UNASKED], [Report([])]):
        code, text = verdict(NAMES, reports, required=False)
        assert code == 0
        assert "SKIPPED" in text
        assert "idna" in text
        assert verdict(NAMES, reports, required=True)[0] == 2


def test_another_service_may_answer_for_it() -> None:
    assert verdict(NAMES, [UNASKED, SOUND], required=True)[0] == 0


def test_a_vulnerability_is_red_whoever_else_was_not_asked() -> None:
    found = Report([Dependency("idna", "3.1", vulns=[Vulnerability("CVE-1", ["3.7"])])])
    code, text = verdict(NAMES, [UNASKED, found], required=False)
    assert code == 1
    assert "idna 3.1: CVE-1, fixed in 3.7" in text
