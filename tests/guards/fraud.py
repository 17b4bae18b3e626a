"""Guards of the lists of the fraud checks, and of the door."""

from typing import Final

from tests.guards.guard import Change, Guard

DOOR = "tests/flows/test_fraud_door.py::"

FRAUD: Final = (
    Guard(
        name="lists-are-read-again",
        row="what is on a list counts in every process from its next batch on",
        changes=(Change("service/flows/knowledge.py", "if version > self._lists_version:", "if version and not self._lists_version:"),),
        tests=(f"{DOOR}test_every_process_follows_a_change_with_its_next_batch",),
    ),
    Guard(
        name="listed-until",
        row="an entry that has ended holds nobody, whatever a process remembers",
        changes=(Change("service/domain/fraud/lists.py", "or entry.until > now)", "or bool(entry.until))"),),
        tests=(f"{DOOR}test_an_entry_ends_by_the_database_s_clock", "tests/fraud/test_door.py::test_what_has_ended_says_nothing"),
    ),
    Guard(
        name="failed-visits-do-not-count",
        row="what is rolled back counts for no burst",
        changes=(Change("service/domain/fraud/door.py", "            visit.take_back()\n            raise\n", "            raise\n"),),
        tests=(f"{DOOR}test_repeats_and_what_is_rolled_back_count_for_no_burst",),
    ),
    Guard(
        name="held-at-the-door",
        row="what is held at the door does not settle",
        changes=(Change("service/flows/receive.py", "        await store.set_hints(connection, fold.hinted)\n", ""),),
        tests=(f"{DOOR}test_what_a_blocked_consumer_earns_is_held_and_does_not_settle",),
    ),
    Guard(
        name="no-listing-beside-an-erasure",
        row="nobody is listed while they are erased",
        changes=(
            Change(
                "service/flows/fraud_lists.py",
                "now = await store.raise_version(connection)",
                'now = await connection.fetchval("SELECT now()")',
            ),
        ),
        tests=(f"{DOOR}test_what_was_listed_of_a_person_goes_with_them",),
    ),
    Guard(
        name="one-entry-per-thing",
        row="one thing, one entry",
        changes=(
            Change(
                "migrations/0023_fraud.sql",
                "CREATE UNIQUE INDEX fraud_list_entry ON fraud_list",
                "CREATE INDEX fraud_list_entry ON fraud_list",
            ),
        ),
        tests=(f"{DOOR}test_of_two_who_list_one_thing_at_once_one_is_told",),
    ),
)
