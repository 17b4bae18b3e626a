"""Guards of the fraud checks' models, their policy and what they learn from."""

from typing import Final

from tests.guards.guard import Change, Guard

API = "tests/api/test_fraud_models.py::"

MODELS: Final = (
    Guard(
        name="fraud-settings-lock",
        row="one change of a program's fraud models and policy at a time",
        changes=(
            Change(
                "service/store/locks.py",
                'LOCK_FRAUD_SETTINGS = f"SELECT pg_advisory_xact_lock({FRAUD_SETTINGS_LOCK}, $1)"',
                'LOCK_FRAUD_SETTINGS = "SELECT $1::integer"',
            ),
        ),
        tests=(
            f"{API}test_versions_follow_each_other_however_many_draft_at_once",
            f"{API}test_a_policy_is_not_changed_behind_somebodys_back",
        ),
    ),
    Guard(
        name="fraud-policy-if-match",
        row="a fraud policy is not changed behind somebody's back",
        changes=(Change("service/flows/fraud_policy.py", "        preconditions.check(if_match, tag_of(_answer(before)))\n", ""),),
        tests=(f"{API}test_a_policy_is_not_changed_behind_somebodys_back", f"{API}test_the_policy_is_replaced_as_a_whole"),
    ),
    Guard(
        name="one-running-fraud-model",
        row="one fraud model runs, one stands beside it",
        changes=(
            Change(
                "migrations/0023_fraud.sql",
                "CREATE UNIQUE INDEX fraud_model_running ON fraud_model (program) WHERE state = 'running';",
                "CREATE INDEX fraud_model_running ON fraud_model (program) WHERE state = 'running';",
            ),
        ),
        tests=(f"{API}test_not_even_the_database_lets_two_have_one_place",),
    ),
    Guard(
        name="decisions-stay-labels",
        row="an import of labels leaves what a person decided",
        changes=(
            Change(
                "service/store/fraud_labels.py",
                "    strengths = excluded.strengths, at = now()\nWHERE fraud_label.source = 'import'\n",
                "    strengths = excluded.strengths, at = now()\n",
            ),
        ),
        tests=("tests/flows/test_fraud_tune.py::test_what_a_person_decides_meanwhile_stays",),
    ),
)
