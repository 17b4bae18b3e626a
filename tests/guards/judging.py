"""Guards of verdicts."""

from typing import Final

from tests.guards.guard import Change, Guard

JUDGE = "tests/flows/test_judge.py::"
MEMORY = "service/fraud_memory.py"
FLOW, STORE, SETTLE, CREDIT = (
    "service/flows/judge.py",
    "service/store/screening.py",
    "service/store/settlement.py",
    "service/store/credit.py",
)

JUDGING: Final = (
    Guard(
        name="credit-waits-for-a-verdict",
        row="every stored event waits for its verdict",
        changes=(Change(CREDIT, "FROM unnest($1::new_event[])\n    RETURNING 1\n), account AS (", "FROM unnest($1::new_event[]) WHERE false\n    RETURNING 1\n), account AS ("),),
        tests=(f"{JUDGE}test_nothing_settles_before_its_verdict",),
    ),
    Guard(
        name="settling-looks-at-each-event",
        row="what waits for its verdict, or is held, does not settle beside what may",
        changes=(Change(SETTLE, """d.due_at <= $3 AND {_FREE.format(due="d", screened="$8::boolean")}""", "d.due_at <= $3 AND $8::boolean IS NOT NULL"),),
        tests=(f"{JUDGE}test_what_is_free_settles_without_what_is_not",),
    ),
    Guard(
        name="held-does-not-settle-in-any-mode",
        row="what is held stays held, whatever the mode is then",
        changes=(Change(SETTLE, "(s.state = 1 OR (s.state = 0 AND {screened}))", "(s.state <= 1 AND {screened})"),),
        tests=(f"{JUDGE}test_who_switches_the_checks_off_lets_nothing_go_that_is_held",),
    ),
    Guard(
        name="verdicts-follow-one-another",
        row="a judge that was overtaken writes no verdict",
        changes=(
            Change(FLOW, "            await leases.still_mine(connection, lease)\n            failpoints.at(\"judge.held\")", "            failpoints.at(\"judge.held\")"),
            Change(STORE, "WHERE program = $1 AND seq = $5 RETURNING 1", "WHERE program = $1 AND $5::bigint >= 0 RETURNING 1"),
        ),
        tests=(f"{JUDGE}test_who_lost_its_lease_writes_no_verdict",),
    ),
    Guard(
        name="batch-is-announced",
        row="an event at which judges end is found",
        changes=(Change(FLOW, "await store.begin(connection, program, progress.taking if alone else [w.event for w in waiting])", "pass"),),
        tests=(f"{JUDGE}test_a_check_that_hangs_holds_its_event_after_three_attempts",),
    ),
    Guard(
        name="hold-waits-for-a-settlement",
        row="what settles at this moment is not held",
        changes=(Change(FLOW, "await holds.lock(connection, sorted({s.account for s in suspected}))", "pass"),),
        tests=(f"{JUDGE}test_what_settles_at_this_moment_is_not_held",),
    ),
    Guard(
        name="snapshot-of-a-later-judge",
        row="a judge that was overtaken saves nothing",
        changes=(
            Change(MEMORY, "            if owner > token:", "            if owner > token + 10**9:"),
            Change(MEMORY, "if at is not None and _parse(at)[1] > token:", "if at is not None and _parse(at)[1] > token + 10**9:"),
        ),
        tests=("tests/flows/test_fraud_memory.py::test_who_was_overtaken_writes_nothing",),
    ),
    Guard(
        name="changes-go-onto-their-snapshot",
        row="what changed is saved only onto the snapshot that it changed",
        changes=(Change(MEMORY, "            if known != before:\n                return False\n", ""),),
        tests=("tests/flows/test_fraud_memory.py::test_changes_are_not_written_onto_another_snapshot",),
    ),
)  # fmt: skip
