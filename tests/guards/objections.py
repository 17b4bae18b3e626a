"""Guards of persons under review: one objection, one answer, by somebody else, and nothing about who is erased."""

from typing import Final

from tests.guards.guard import Change, Guard

FLOWS, API = "tests/flows/test_objections.py::", "tests/api/test_objections.py::"
FLOW, APPROVALS = "service/flows/objections.py", "service/flows/approvals.py"

OBJECTIONS: Final = (
    Guard(
        name="one-objection",
        row="of two objections to an event at the same moment one is stored, and both are told of it",
        changes=(Change("service/store/objections.py", "ON CONFLICT (bucket, event) DO NOTHING RETURNING true", "RETURNING true"),),
        tests=(f"{FLOWS}test_whoever_objects_second_finds_the_first",),
    ),
    Guard(
        name="one-answer-to-an-objection",
        row="of two answers to an objection one is given",
        changes=(
            Change("service/store/objections.py", 'LOCK: Final = f"{FIND} FOR UPDATE"', "LOCK: Final = FIND"),
            Change(FLOW, "        await purses.lock(connection, [found.account])\n", ""),
        ),
        tests=(f"{FLOWS}test_of_two_answers_at_once_one_is_given",),
    ),
    Guard(
        name="another-operator-answers",
        row="an objection is not answered by who rejected the event",
        changes=(
            Change("service/domain/objections.py", "    if operator in rejected_by:\n", "    if not rejected_by and operator < 0:\n"),
        ),
        tests=(f"{API}test_whoever_confirmed_a_rejection_does_not_answer_either",),
    ),
    Guard(
        name="account-lock-of-approvals",
        row="lock of the account while a held event is let go",
        changes=(Change(APPROVALS, "    await purses.lock(connection, [found.account])\n", ""),),
        tests=(f"{FLOWS}test_an_approval_waits_for_whoever_has_the_account",),
    ),
    Guard(
        name="approval-of-what-is-decided",
        row="what is being decided is not approved beside",
        changes=(Change(APPROVALS, "    if held.decided:\n", "    if held.decided and not held.points:\n"),),
        tests=(f"{API}test_what_is_being_decided_is_not_approved_beside",),
    ),
    Guard(
        name="approval-alone",
        row="an objection lets no more go than one operator decides alone",
        changes=(Change(APPROVALS, "    if held.points > alone_points:\n", "    if held.points > alone_points + 10**18:\n"),),
        tests=(f"{API}test_one_operator_does_not_let_go_what_takes_two",),
    ),
    Guard(
        name="objection-and-erasure",
        row="nobody is erased while they object",
        changes=(
            Change(
                FLOW,
                "        await share_catalogue(connection)\n        account = await balances.find_account",
                "        account = await balances.find_account",
            ),
        ),
        tests=(f"{FLOWS}test_an_erasure_waits_for_whoever_objects",),
    ),
    Guard(
        name="nothing-back-to-the-erased",
        row="an objection gives nothing back to who was erased",
        changes=(
            Change(FLOW, "    if await vault.is_erased(connection, event.account, event.platform):\n", "    if not event.account:\n"),
        ),
        tests=("tests/flows/test_fraud_retention.py::test_nothing_is_given_back_to_who_was_erased",),
    ),
)
