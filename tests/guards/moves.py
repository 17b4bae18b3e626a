"""Guards of what moves points by hand, and of what they buy: adjustments, transfers, rewards."""

from typing import Final

from tests.guards.guard import Change, Guard

ADJUSTMENTS = "tests/flows/test_adjustments.py::"
TRANSFERS = "tests/flows/test_transfers.py::"
REWARDS = "tests/flows/test_rewards.py::"
STORED_REWARDS, STORED_ADJUSTMENTS = "service/store/rewards.py", "service/store/adjustments.py"
NO_LOCK_OF_PURSES = Change("service/store/purses.py", 'ORDER BY a.id\nFOR NO KEY UPDATE OF a\n"""', 'ORDER BY a.id\n"""')
TWO_OPERATORS = "two operators, not one twice"
ERASED_MEANWHILE = "nobody is given points, or named, while they are erased"
WRITTEN_TO_SOMEBODY = "what was written to somebody goes with whoever wrote it, and the other way round"
ONE_REWARD = "the last of a reward, and each of its codes, is had by one redemption"

MOVES: Final = (
    # Adjustments and transfers
    Guard(
        name="account-lock-of-adjustments",
        row="lock of the account while an adjustment or a transfer takes points",
        changes=(NO_LOCK_OF_PURSES,),
        tests=(
            f"{ADJUSTMENTS}test_two_at_once_leave_one_after_the_other",
            f"{ADJUSTMENTS}test_a_storm_of_adjustments_leaves_sound_books",
            f"{TRANSFERS}test_the_limit_of_a_day_holds_at_the_same_moment",
            f"{TRANSFERS}test_opposite_transfers_at_once_all_arrive",
        ),
    ),
    Guard(
        name="order-of-accounts",
        row="accounts are locked in the order of their ids, whoever gives to whom",
        changes=(
            Change("service/store/purses.py", 'ORDER BY a.id\nFOR NO KEY UPDATE OF a\n"""', 'FOR NO KEY UPDATE OF a\n"""'),
            Change(
                "service/store/purses.py",
                "ids = sorted(before.keys() | set(before.values()))",
                "ids = list(dict.fromkeys(home for a in accounts for home in (a, before[a])))",
            ),
        ),
        tests=(f"{TRANSFERS}test_whoever_gives_to_whom_the_lower_account_is_locked_first",),
    ),
    Guard(
        name="day-is-counted-under-the-lock",
        row="what was given on a day is counted after the giver is locked",
        changes=(
            Change(
                "service/flows/transfers.py",
                "    locked = await purses.lock(",
                "    early = await store.given_on(connection, sender, terms.today)\n    locked = await purses.lock(",
            ),
            Change("service/flows/transfers.py", "given=await store.given_on(connection, giver.id, terms.today)", "given=early"),
        ),
        tests=(f"{TRANSFERS}test_the_limit_of_a_day_holds_at_the_same_moment",),
    ),
    Guard(
        name="adjustment-lock",
        row="an adjustment is decided once",
        changes=(Change(STORED_ADJUSTMENTS, 'LOCK: Final = f"{FIND} FOR UPDATE"', 'LOCK: Final = f"{FIND}"'),),
        tests=(f"{ADJUSTMENTS}test_whoever_decides_first_decides",),
    ),
    Guard(
        name="another-operator",
        row=TWO_OPERATORS,
        changes=(Change("service/domain/adjustments.py", 'if step != "withdraw" and own:', "if False:"),),
        tests=(
            f"{ADJUSTMENTS}test_above_the_limit_nothing_happens_until_another_operator_approves",
            "tests/domain/test_transfers.py::test_who_may_decide_what_and_when",
        ),
    ),
    Guard(
        name="four-eyes",
        row=TWO_OPERATORS,
        changes=(
            Change(
                "migrations/0018_adjustments.sql",
                "adjustment_four_eyes CHECK (CASE status",
                "adjustment_four_eyes CHECK (true OR CASE status",
            ),
        ),
        tests=(f"{ADJUSTMENTS}test_not_even_the_database_lets_one_operator_do_it",),
    ),
    Guard(
        name="adjustment-beside-erasure",
        row=ERASED_MEANWHILE,
        changes=(
            Change(
                "service/flows/adjustments.py",
                "        await share_catalogue(connection)\n        return await once",
                "        return await once",
            ),
        ),
        tests=(f"{ADJUSTMENTS}test_an_erasure_waits_for_an_adjustment_in_progress",),
    ),
    Guard(
        name="transfer-beside-erasure",
        row=ERASED_MEANWHILE,
        changes=(Change("service/flows/transfers.py", "        await share_catalogue(connection)  #", "        #"),),
        tests=(f"{TRANSFERS}test_an_erasure_waits_for_a_transfer_in_progress",),
    ),
    Guard(
        name="approval-after-erasure",
        row="nor by an approval that comes after the erasure",
        changes=(Change("service/flows/adjustments.py", "if await vault.is_erased(", "if False and await vault.is_erased("),),
        tests=(f"{ADJUSTMENTS}test_what_was_written_goes_with_the_person",),
    ),
    Guard(
        name="adjustment-in-time",
        row="an adjustment is not decided after its time",
        changes=(Change("service/domain/adjustments.py", "if now >= adjustment.open_until:", "if False:"),),
        tests=(f"{ADJUSTMENTS}test_what_nobody_decides_within_a_week_expires",),
    ),
    Guard(
        name="sweep-of-adjustments-does-not-wait",
        row="the sweep does not wait for who is deciding",
        changes=(Change(STORED_ADJUSTMENTS, "FOR UPDATE SKIP LOCKED", "FOR UPDATE"),),
        tests=(f"{ADJUSTMENTS}test_the_sweep_leaves_alone_what_somebody_is_just_deciding",),
    ),
    Guard(
        name="key-lock",
        row="one request of a key at a time",
        changes=(Change("service/flows/repeats.py", "if not await store.try_key(", "if False and not await store.try_key("),),
        tests=(f"{ADJUSTMENTS}test_a_repeat_while_the_first_is_running_is_sent_back",),
    ),
    Guard(
        name="key-of-one-request",
        row="a key is one request's",
        changes=(Change("service/flows/repeats.py", "if not idempotency.is_repeat(first.request_hash, request_hash):", "if False:"),),
        tests=(f"{ADJUSTMENTS}test_a_repeat_is_answered_as_at_first_and_does_nothing",),
    ),
    Guard(
        name="versions-go-on",
        row="a balance never goes back to an older version, whichever account has the points",
        changes=(Change("service/flows/links.py", "    target.version += skipped\n", "    skipped = 0\n"),),
        tests=("tests/flows/test_links.py::test_nobodys_balance_goes_back_to_an_older_version",),
    ),
    Guard(
        name="not-to-oneself",
        row="nobody gives to themselves, under another name either",
        changes=(Change("service/flows/transfers.py", "    if taker is giver:", "    if False:"),),
        tests=(f"{TRANSFERS}test_nobody_gives_to_a_linked_account_of_their_own",),
    ),
    *(
        Guard(
            name=f"what-was-{whose}",
            row=WRITTEN_TO_SOMEBODY,
            changes=(
                Change(
                    STORED_ADJUSTMENTS,
                    f'AND t.number = g.number\n    WHERE t.reason IS NOT NULL AND {{_THROUGH.format("g")}}\n    {after}',
                    f'AND t.number = -g.number\n    WHERE t.reason IS NOT NULL AND {{_THROUGH.format("g")}}\n    {after}',
                ),
            ),
            tests=(f"{TRANSFERS}test_whoever_was_erased_and_whoever_never_was_are_told_alike",),
        )
        for whose, after in (("written", "UNION"), ("read", "LIMIT $4"))
    ),
    # Rewards
    Guard(
        name="reward-lock",
        row=ONE_REWARD,
        changes=(Change(STORED_REWARDS, "r.sealed_key IS NOT NULL) FOR NO KEY UPDATE)", "r.sealed_key IS NOT NULL))"),),
        tests=tuple(
            f"{REWARDS}{test}"
            for test in (
                "test_fifty_buyers_get_ten_codes_each_once",
                "test_fifty_buyers_share_a_stock_of_ten",
                "test_the_last_code_is_waited_for_and_had_when_its_buyer_gives_up",
            )
        ),
    ),
    Guard(
        name="reward-shared",
        row="a stock that gets an end counts redemptions that are under way",
        changes=(Change(STORED_REWARDS, "AND r.sealed_key IS NULL FOR SHARE)", "AND r.sealed_key IS NULL)"),),
        tests=(f"{REWARDS}test_a_stock_that_gets_an_end_counts_redemptions_under_way",),
    ),
    Guard(
        name="reward-lock-when-given-back",
        row="what is given back meanwhile is counted off it",
        changes=(Change(STORED_REWARDS, "        await _lock(conn, LOCK_BY_ID, program, reward)\n", ""),),
        tests=(f"{REWARDS}test_a_stock_that_is_set_while_somebody_gives_back_counts_them",),
    ),
    Guard(
        name="reward-is-looked-for-again",
        row="a reward that changed its kind while its lock was waited for is looked for again",
        changes=(Change(STORED_REWARDS, "MAX_LOCK_TRIES: Final = 3", "MAX_LOCK_TRIES: Final = 1"),),
        tests=(f"{REWARDS}test_a_stock_that_loses_its_end_while_somebody_waits_is_had",),
    ),
    Guard(
        name="account-lock-of-rewards",
        row="a consumer's limit of a reward is exact",
        changes=(NO_LOCK_OF_PURSES,),
        tests=(f"{REWARDS}test_a_consumer_who_asks_twenty_times_at_once_gets_two",),
    ),
    Guard(
        name="limit-of-linked-accounts",
        row="the limit is that of all linked accounts",
        changes=(
            Change(
                STORED_REWARDS,
                "SELECT $1::smallint, $2::bigint UNION ALL SELECT a.bucket, a.id FROM account a WHERE a.home = $2",
                "SELECT $1::smallint, $2::bigint",
            ),
        ),
        tests=("tests/flows/test_reward_offers.py::test_a_limit_counts_what_was_not_given_back_of_all_linked_accounts",),
    ),
    Guard(
        name="seen-codes-are-void",
        row="a code that somebody has seen is given to nobody else",
        changes=(
            Change(
                STORED_REWARDS,
                "UPDATE voucher v SET state = 'void', voided_at = now() FROM back b",
                "UPDATE voucher v SET state = 'free', bucket = NULL, account = NULL, redemption = NULL FROM back b",
            ),
        ),
        tests=(f"{REWARDS}test_what_is_cancelled_meanwhile_is_bought_again_and_never_twice",),
    ),
    Guard(
        name="voucher-loads-wait",
        row="loads of the same codes wait for each other",
        changes=(Change("service/store/locks.py", "    await conn.execute(LOCK_VOUCHERS, reward)\n", ""),),
        tests=(f"{REWARDS}test_two_loads_of_the_same_codes_wait_for_each_other",),
    ),
)
