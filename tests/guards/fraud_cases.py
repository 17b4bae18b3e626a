"""Guards of decisions about fraud cases."""

from typing import Final

from tests.guards.guard import Change, Guard

CASES = "tests/flows/test_fraud_cases.py::"
STORED = "service/store/fraud_decisions.py"
TWO_OPERATORS = "a large decision about a fraud case takes two operators, not one twice"

FRAUD_CASES: Final = (
    Guard(
        name="fraud-case-lock",
        row="a fraud case is decided by one at a time",
        changes=(Change(STORED, "($2::int IS NULL OR program = $2) FOR NO KEY UPDATE", "($2::int IS NULL OR program = $2)"),),
        tests=(f"{CASES}test_of_two_decisions_at_once_one_counts",),
    ),
    Guard(
        name="fraud-case-decided-once",
        row="what operators have decided is not decided again",
        changes=(
            Change(
                "service/store/fraud_cases.py",
                "(e.decided_at IS NULL AND e.decision IS NULL AND e.reversal IS NULL)",
                "(e.decided_at IS NULL AND e.reversal IS NULL)",
            ),
        ),
        tests=(f"{CASES}test_up_to_the_limit_one_decides_alone_and_says_it_twice",),
    ),
    Guard(
        name="fraud-case-other-operator",
        row=TWO_OPERATORS,
        changes=(Change("service/domain/fraud_cases.py", "if operator == proposal.proposed_by:", "if False:"),),
        tests=(f"{CASES}test_above_the_limit_another_operator_confirms",),
    ),
    Guard(
        name="fraud-case-four-eyes",
        row=TWO_OPERATORS,
        changes=(
            Change("migrations/0023_fraud.sql", "fraud_decision_four_eyes CHECK (CASE status", "fraud_decision_four_eyes CHECK (true OR CASE status"),
        ),
        tests=(f"{CASES}test_not_even_the_database_lets_one_operator_do_it",),
    ),
    Guard(
        name="fraud-case-piecemeal",
        row="nor one operator piece by piece",
        changes=(Change(STORED, "AND status = 'done' AND alone AND proposed_by = $3", "AND proposed_by = $3 AND false"),),
        tests=(f"{CASES}test_piece_by_piece_one_decides_no_more_alone",),
    ),
    Guard(
        name="fraud-case-one-proposal",
        row="one decision about a fraud case waits at a time",
        changes=(
            Change("migrations/0024_fraud_decisions.sql", "CREATE UNIQUE INDEX fraud_decision_pending", "CREATE INDEX fraud_decision_pending"),
        ),
        tests=(f"{CASES}test_not_even_the_database_lets_one_operator_do_it",),
    ),
    Guard(
        name="fraud-case-accounts",
        row="what is left of a decided event is read under its account's lock",
        changes=(
            Change(
                "service/flows/fraud_reject.py",
                "        await credit.lock_accounts(connection, sorted({row.account for row in ready}))\n",
                "",
            ),
        ),
        tests=(f"{CASES}test_it_is_concluded_by_what_is_there_under_the_lock",),
    ),
    Guard(
        name="fraud-case-read-again",
        row="who carries a decision out looks again under the locks",
        changes=(
            Change(
                "service/flows/fraud_reject.py",
                "now = await store.ready(connection, number, limit=len(ready), events=[row.event for row in ready])",
                "now = ready",
            ),
        ),
        tests=(f"{CASES}test_many_carry_the_same_decision_out", f"{CASES}test_a_decision_and_a_deadline_at_once"),
    ),
)  # fmt: skip
