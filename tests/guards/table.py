"""The guards of the ledger: what is taken out, and which tests must go red then. One entry a guard; docs/guards.md tells the same list.

To add one: a row in docs/guards.md, and a `Guard` here whose `row` is that row's first cell. `python -m tests.guards --only NAME` runs it.
"""

from typing import Final

from tests.guards.backups import BACKUPS
from tests.guards.fraud import FRAUD
from tests.guards.fraud_cases import FRAUD_CASES
from tests.guards.guard import Change, Guard
from tests.guards.judging import JUDGING
from tests.guards.models import MODELS
from tests.guards.moves import MOVES
from tests.guards.objections import OBJECTIONS
from tests.guards.points import POINTS

LOCKS = "tests/flows/test_locks.py::"
RECEIVE = "tests/flows/test_receive.py::"
ERASE = "tests/flows/test_erase.py::"
PLASTICS = "tests/flows/test_plastics.py::"
PACKAGING = "tests/flows/test_packaging.py::"
BATCHES = "tests/flows/test_batches.py::"
OPERATORS = "tests/api/test_operators.py::"
REDEEM = "tests/flows/test_redeem.py::"
SPENDING = "tests/api/test_redemptions.py::"
SPENDING_LOCKS = "tests/flows/test_spending_locks.py::"
LINKS = "tests/api/test_links.py::"

CREDIT = "service/store/credit.py"

NO_LOCK_IN_OPEN = Change(CREDIT, "    ORDER BY a.id\n    FOR NO KEY UPDATE OF a\n), budgets", "    ORDER BY a.id\n), budgets")
NO_LOCK_OF_ACCOUNTS = Change(CREDIT, 'ORDER BY a.id\nFOR NO KEY UPDATE OF a\n"""\nREAD_ACCOUNTS', 'ORDER BY a.id\n"""\nREAD_ACCOUNTS')

PLASTIC_RACES = (
    f"{PLASTICS}test_a_closing_waits_for_rows_that_are_being_written",
    f"{PLASTICS}test_rows_wait_for_a_closing_and_are_refused_then",
    f"{PLASTICS}test_rows_are_hammered_while_the_period_is_closed",
)

GUARDS: Final = (
    Guard(
        name="registry-key",
        row="unique key of the registry: an event id, an order, once for ever",
        changes=(Change("migrations/0001_main_job.sql", "    PRIMARY KEY (program, kind, key)\n);", "    CHECK (true)\n);"),),
        tests=(f"{LOCKS}test_the_first_sighting_of_one_id", f"{LOCKS}test_a_fact_waits_for_its_order"),
    ),
    Guard(
        name="account-lock-of-credits",
        row="lock of the account while a batch decides",
        changes=(NO_LOCK_IN_OPEN, NO_LOCK_OF_ACCOUNTS),
        tests=(f"{LOCKS}test_two_credits_of_one_account", f"{RECEIVE}test_caps_and_budgets_are_exact_under_concurrency"),
    ),
    Guard(
        name="account-lock-of-settlements",
        row="lock of the account while it is settled",
        changes=(
            Change(
                "service/store/settlement.py",
                'ORDER BY a.id\nFOR NO KEY UPDATE\n"""\n\n\nasync def lock_due',
                'ORDER BY a.id\n"""\n\n\nasync def lock_due',
            ),
        ),
        tests=(f"{LOCKS}test_a_settlement_waits_for_a_credit",),
    ),
    Guard(
        name="order-lock",
        row="lock of the order while its facts are read",
        changes=(Change(CREDIT, 'ORDER BY r.program, r.key\nFOR NO KEY UPDATE OF r\n"""', 'ORDER BY r.program, r.key\n"""'),),
        tests=(f"{LOCKS}test_an_order_waits_for_a_fact_that_parks",),
    ),
    Guard(
        name="version-fence",
        row="version fence of balances in Redis",
        changes=(
            Change(
                "service/projection.py",
                "if old == '' or old < new or (old == new and string.sub(value, 21, 21) == 'd') then",
                "if true then",
            ),
        ),
        tests=("tests/system/test_redis.py::test_an_old_value_never_replaces_a_newer_one",),
    ),
    Guard(
        name="budget-when-written",
        row="a budget is never exceeded when it is written",
        changes=(Change(CREDIT, " AND (w.most IS NULL OR b.used + w.change <= w.most)", ""),),
        tests=(f"{LOCKS}test_two_credits_of_one_budget",),
    ),
    Guard(
        name="budget-lock",
        row="row lock of a budget near its end, so that a cut is decided once",
        changes=(
            Change(
                CREDIT,
                "ORDER BY b.campaign, b.day FOR NO KEY UPDATE OF b)\nSELECT {READING}",
                "ORDER BY b.campaign, b.day)\nSELECT {READING}",
            ),
        ),
        tests=(f"{LOCKS}test_two_credits_of_one_budget",),
    ),
    Guard(
        name="catalogue-lock",
        row="catalogue lock: a campaign changes before a credit or after it",
        changes=(Change(CREDIT, "(SELECT pg_advisory_xact_lock_shared($4))", "(SELECT $4::int)"),),
        tests=(f"{LOCKS}test_a_new_cap_waits_for_credits_that_it_must_count", f"{LOCKS}test_a_credit_waits_for_a_new_cap"),
    ),
    Guard(
        name="read-again-after-waiting",
        row="what was read with the lock is read again if the account changed while it was waited for",
        changes=(Change(CREDIT, "_reading(row) if row[17] == row[20] else None", "_reading(row)"),),
        tests=(f"{LOCKS}test_two_credits_of_one_account", f"{RECEIVE}test_caps_and_budgets_are_exact_under_concurrency"),
    ),
    Guard(
        name="catalogue-version",
        row="what was read before the catalogue lock was ours is looked at again when it is written",
        changes=(Change(CREDIT, "(SELECT catalogue_version = $20 AND", "(SELECT $20::bigint >= 0 AND"),),
        tests=(f"{LOCKS}test_a_credit_waits_for_a_new_cap",),
    ),
    Guard(
        name="first-report-of-an-order",
        row="only what counted first is an order's content",
        changes=(
            Change(
                "service/domain/orders.py",
                "        if self.bought is None:\n            self.bought = event\n",
                "        self.bought = event\n",
            ),
        ),
        tests=(f"{BATCHES}test_a_second_report_of_an_order_changes_nothing_of_it",),
    ),
    Guard(
        name="writer-outlives-defects",
        row="a writer of a lane outlives any defect",
        changes=(
            Change(
                "service/flows/batcher.py",
                "        except Exception:\n            # A writer must",
                "        except ZeroDivisionError:\n            # A writer must",
            ),
            Change("service/flows/batcher.py", "            self.tallies.isolated.add()\n", "            raise RuntimeError\n"),
        ),
        tests=(f"{BATCHES}test_a_fact_that_cannot_be_written_is_isolated",),
    ),
    Guard(
        name="catalogue-held-fast",
        row="a batch reads the windows of the catalogue that it decides by",
        changes=(
            Change(
                "service/flows/receive.py",
                "if reading.catalogue_version != catalogue.version:",
                "if reading.catalogue_version != knowledge.catalogue.version:",
            ),
            Change(
                "service/flows/receive.py",
                "return reading, usage, locked, catalogue\n",
                "return reading, usage, locked, knowledge.catalogue\n",
            ),
        ),
        tests=(f"{RECEIVE}test_writers_of_a_fresh_process_do_not_miss_what_was_counted",),
    ),
    Guard(
        name="vault-version-when-written",
        row="nobody is credited who was erased since the account was looked up",
        changes=(Change(CREDIT, " AND vault_version = $21 FROM deployment", " AND $21::bigint >= 0 FROM deployment"),),
        tests=(f"{ERASE}test_a_credit_that_waits_for_an_erasure_is_decided_anew",),
    ),
    Guard(
        name="vault-version-when-opened",
        row="the same, seen before anything is decided",
        changes=(
            Change(CREDIT, " AND vault_version = $21 FROM deployment", " AND $21::bigint >= 0 FROM deployment"),
            Change("service/flows/receive.py", "if opening.vault_version != vault_version:", "if opening.vault_version < 0:"),
        ),
        tests=(f"{ERASE}test_who_comes_back_is_somebody_new", f"{ERASE}test_a_process_that_remembers_who_was_erased_does_not_credit_them"),
    ),
    Guard(
        name="erasure-beside-no-credit",
        row="an erasure runs beside no credit",
        changes=(
            Change(
                "service/flows/erase.py",
                "        await lock_catalogue(connection)\n        found = (await vault.lock_names",
                "        found = (await vault.lock_names",
            ),
        ),
        tests=(f"{ERASE}test_an_erasure_waits_for_a_fact_that_will_wait_for_its_order",),
    ),
    Guard(
        name="erasure-and-hold",
        row="an erasure and a legal hold wait for each other",
        changes=(Change("service/store/vault.py", 'FOR UPDATE OF r\n"""\nHELD', '"""\nHELD'),),
        tests=(f"{ERASE}test_an_erasure_waits_for_a_hold_that_is_just_being_placed",),
    ),
    Guard(
        name="guesses-are-counted",
        row="guesses at a password are counted before they are looked at",
        changes=(Change("service/store/operators.py", "least(a.attempts, 1000000) + 1 END", "least(a.attempts, 1000000) END"),),
        tests=(
            f"{OPERATORS}test_guesses_at_the_same_time_are_no_more_than_guesses_one_after_the_other",
            f"{OPERATORS}test_after_ten_failures_an_account_answers_429_until_the_quarter_is_over",
        ),
    ),
    Guard(
        name="guesses-are-compared",
        row="guesses at a password are counted before they are looked at",
        changes=(Change("service/flows/operators.py", "taken.attempts > MAX_FAILURES", "taken.attempts < 0"),),
        tests=(
            f"{OPERATORS}test_guesses_at_the_same_time_are_no_more_than_guesses_one_after_the_other",
            f"{OPERATORS}test_after_ten_failures_an_account_answers_429_until_the_quarter_is_over",
        ),
    ),
    Guard(
        name="session-of-the-verified-password",
        row="a session only for the password that was verified",
        changes=(
            Change("service/store/operators.py", "id = $2 AND active AND password_hash = $5\n", "id = $2 AND active AND $5::text <> ''\n"),
        ),
        tests=(f"{OPERATORS}test_a_password_that_is_changed_while_somebody_signs_in_gives_no_session",),
    ),
    Guard(
        name="access-token-ends-with-its-key",
        row="an access token ends with its key",
        changes=(
            Change(
                "service/store/access_tokens.py",
                "   AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now()) AND p.active\n",
                "   AND p.active\n",
            ),
        ),
        tests=("tests/api/test_oauth.py::test_a_token_ends_when_its_key_is_revoked",),
    ),
    Guard(
        name="test-key-in-a-live-program",
        row="a test key opens no live program",
        changes=(
            Change(
                "service/api/callers.py",
                "if not secrets.is_access_token(token) and secrets.is_test_key(token) != found.sandbox:",
                "if not secrets.is_access_token(token) and found is None:",
            ),
        ),
        tests=("tests/api/test_keys.py::test_a_sandbox_hands_out_test_keys_which_touch_nothing_live",),
    ),
    Guard(
        name="key-set-address",
        row="a key set is fetched from the address that was checked",
        changes=(Change("service/flows/jwks.py", "url.copy_with(host=address)", "url.copy_with(host=address and url.host)"),),
        tests=("tests/flows/test_jwks.py::test_the_connection_goes_to_the_address_that_was_checked",),
    ),
    Guard(
        name="key-set-all-addresses",
        row="a key set is fetched from the address that was checked",
        changes=(Change("service/flows/jwks.py", "not all(is_allowed(", "not any(is_allowed("),),
        tests=("tests/flows/test_jwks.py::test_a_name_is_refused_when_any_of_its_addresses_is_private",),
    ),
    Guard(
        name="token-spelling",
        row="a consumer token has one spelling, and no member twice",
        changes=(
            Change(
                "service/domain/tokens.py",
                'if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():',
                "if not isinstance(data, bytes):",
            ),
        ),
        tests=("tests/domain/test_tokens.py::test_a_token_has_one_spelling",),
    ),
    Guard(
        name="token-members",
        row="a consumer token has one spelling, and no member twice",
        changes=(Change("service/domain/tokens.py", "if len(found) != len(members):", "if len(found) > len(members):"),),
        tests=("tests/domain/test_tokens.py::test_a_member_that_stands_twice_is_refused",),
    ),
    Guard(
        name="plastic-period-shared",
        row="no row gets into a half-year of plastics that is closed",
        changes=(Change("service/flows/plastics.py", "            await locks.share_plastic_periods(conn, platform.program)\n", ""),),
        tests=PLASTIC_RACES,
    ),
    Guard(
        name="plastic-period-closed-once",
        row="the same, from the other side; a half-year is closed once",
        changes=(Change("service/flows/plastics.py", "        await locks.lock_plastic_periods(conn, program)\n", ""),),
        tests=PLASTIC_RACES,
    ),
    Guard(
        name="plastic-rows",
        row="revisions of a row follow each other",
        changes=(Change("service/flows/plastics.py", "            await locks.lock_plastic_rows(conn, platform.id)\n", ""),),
        tests=(f"{PLASTICS}test_two_imports_of_one_row_follow_each_other",),
    ),
    Guard(
        name="plastic-report-kept",
        row="a closed half-year's report is the bytes that were kept",
        changes=(Change("service/flows/plastics.py", "        if kept is not None:\n            return kept\n", ""),),
        tests=(f"{PLASTICS}test_what_was_avoided_is_what_awards_say_that_were_not_taken_back",),
    ),
    Guard(
        name="registered-asset-is-itself",
        row="a registered asset is itself, whatever an association says is on what",
        changes=(
            Change("service/store/asset_tags.py", "WHERE NOT EXISTS (SELECT FROM asset a WHERE a.program = $1 AND a.key = w.tag)\n", ""),
        ),
        tests=("tests/flows/test_asset_tags.py::test_a_registered_asset_is_itself_whatever_is_said_to_be_on_what",),
    ),
    Guard(
        name="association-stays-wrong",
        row="an association that was declared wrong stays so, in whatever order they come",
        changes=(
            Change(
                "service/store/asset_tags.py",
                "ON CONFLICT (program, platform, event, tag, asset) DO UPDATE SET void = true WHERE EXCLUDED.void AND NOT asset_tag.void\n",
                "ON CONFLICT (program, platform, event, tag, asset) DO NOTHING\n",
            ),
        ),
        tests=("tests/flows/test_asset_tags.py::test_what_was_declared_wrong_never_was",),
    ),
    Guard(
        name="asset-lock",
        row="lock of the asset while its trips are decided",
        changes=(
            Change(
                "service/store/packaging.py", 'ORDER BY a.program, a.key\nFOR NO KEY UPDATE OF a\n"""', 'ORDER BY a.program, a.key\n"""'
            ),
        ),
        tests=("tests/flows/test_packaging_locks.py::test_two_returns_of_one_box_follow_each_other",),
    ),
    Guard(
        name="waiting-return-lock",
        row="a return that waits for several packages is picked up once",
        changes=(Change("service/store/packaging.py", "        await lock_parked(connection, parked)\n", ""),),
        tests=(
            "tests/flows/test_packaging_locks.py::test_two_boxes_of_one_return_are_picked_up_one_after_the_other",
            "tests/flows/test_packaging_locks.py::test_a_return_of_both_kinds_is_picked_up_once",
            "tests/flows/test_packaging_locks.py::test_what_was_just_declared_wrong_is_not_picked_up",
        ),
    ),
    Guard(
        name="declared-return-lock",
        row="what waits is picked up or declared wrong, not both",
        changes=(
            Change(
                "service/flows/receive.py",
                '        await store_packaging.lock_parked(connection, [(fact.program, found["number"])])\n',
                "        pass\n",
            ),
        ),
        tests=("tests/flows/test_packaging_locks.py::test_what_is_picked_up_and_declared_wrong_at_once_counts_for_nothing",),
    ),
    Guard(
        name="claims-are-placed",
        row="who may take a claim waits for whoever is taking it",
        changes=(
            Change(
                "service/store/packaging.py",
                "    if lock:\n        await connection.execute(PLACE_CLAIMS, *_columns(keys))\n",
                "    assert lock or not lock\n",
            ),
        ),
        tests=("tests/flows/test_packaging_locks.py::test_two_orders_of_one_waybill_follow_each_other",),
    ),
    Guard(
        name="account-lock-of-packaging",
        row="lock of the account while packaging, its trips and what was sent are decided",
        changes=(NO_LOCK_IN_OPEN, NO_LOCK_OF_ACCOUNTS),
        tests=("tests/flows/test_packaging_locks.py::test_two_returns_of_what_was_sent_to_one_consumer_follow_each_other",),
    ),
    Guard(
        name="declaration-takes-the-key",
        row="a declaration takes the key of what has not come yet",
        changes=(
            Change(
                "service/flows/receive.py",
                "    await store.park(connection, rows)\n",
                "    rows = rows[:1]\n"
                "    if unknown is not None:\n"
                "        await store_packaging.unregister(connection, fact.program, platform_key(fact.platform, event.error.event))\n"
                "    await store.park(connection, rows)\n",
            ),
        ),
        tests=(f"{PACKAGING}test_what_is_declared_wrong_before_it_comes_never_counts",),
    ),
    Guard(
        name="station-day-lock",
        row="lock of a station's day while it is decided what it takes",
        changes=(Change("service/store/stations.py", '   FOR NO KEY UPDATE OF d\n"""', '"""'),),
        tests=("tests/flows/test_station_days.py::test_a_limit_holds_however_many_bring_something_at_once",),
    ),
    Guard(
        name="items-see-what-was-given",
        row="items of one return see what those before them took",
        changes=(Change("service/domain/returns.py", "window_days=window) - given\n", "window_days=window)\n"),),
        tests=(f"{PACKAGING}test_items_of_one_return_share_what_was_sent",),
    ),
    Guard(
        name="no-negative-balance",
        row="no balance is negative",
        changes=(
            Change(
                "migrations/0001_main_job.sql",
                "available  bigint NOT NULL DEFAULT 0 CHECK (available >= 0)",
                "available  bigint NOT NULL DEFAULT 0",
            ),
        ),
        tests=("tests/flows/test_constraints.py::test_no_balance_goes_below_nothing",),
    ),
    Guard(
        name="no-more-reversed-than-awarded",
        row="an award is taken back at most once in full",
        changes=(Change("migrations/0001_main_job.sql", "DEFAULT 0 CHECK (reversed BETWEEN 0 AND points)", "DEFAULT 0"),),
        tests=("tests/flows/test_constraints.py::test_no_more_is_taken_back_than_was_awarded",),
    ),
    Guard(
        name="entries-numbered-once",
        row="an account's entries are numbered once",
        changes=(Change("migrations/0001_main_job.sql", "    PRIMARY KEY (bucket, account, seq)\n", "    CHECK (true)\n"),),
        tests=("tests/flows/test_constraints.py::test_an_account_s_entries_are_numbered_once",),
    ),
    Guard(
        name="items-see-the-station-s-day",
        row="items of one return see what those before them took",
        changes=(
            Change(
                "service/domain/station_days.py",
                "return verdict if stations.allowed(station, used, units=more.units, mass_g=more.mass_g) else _FULL",
                "return verdict if used or more else _FULL",
            ),
        ),
        tests=(f"{PACKAGING}test_items_of_one_return_share_what_its_station_takes_that_day",),
    ),
    Guard(
        name="no-negative-reserve",
        row="no balance is negative",
        changes=(
            Change(
                "migrations/0001_main_job.sql",
                "reserved   bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0)",
                "reserved   bigint NOT NULL DEFAULT 0",
            ),
        ),
        tests=("tests/flows/test_constraints.py::test_no_balance_goes_below_nothing",),
    ),
    Guard(
        name="purse-lock",
        row="lock of the account while it is decided what is spent",
        changes=(Change("service/store/purses.py", 'ORDER BY a.id\nFOR NO KEY UPDATE OF a\n"""', 'ORDER BY a.id\n"""'),),
        tests=(f"{REDEEM}test_nobody_spends_more_than_there_is", f"{SPENDING}test_fifty_at_once_spend_what_is_there_and_no_more"),
    ),
    Guard(
        name="redemption-key-lock",
        row="one request to spend of a key at a time",
        changes=(
            Change(
                "service/store/repeats.py",
                "pg_try_advisory_xact_lock(hashtextextended(concat({program}, ':', {key}), 7315))",
                "(hashtextextended(concat({program}, ':', {key}), 7315) IS NOT NULL)",
            ),
        ),
        tests=(f"{REDEEM}test_a_key_whose_first_request_is_still_running_is_refused",),
    ),
    Guard(
        name="redemption-key-reused",
        row="a key to spend with is one request's",
        changes=(
            Change(
                "service/flows/redeem.py", "if not idempotency.is_repeat(first.request_hash, ask.request_hash):", "if not first.status:"
            ),
        ),
        tests=(f"{SPENDING}test_a_key_is_one_request_s",),
    ),
    Guard(
        name="name-shared-while-spending",
        row="nobody is erased while something is spent under their name",
        changes=(
            Change(
                "service/store/redemptions.py",
                "    ORDER BY r.platform, r.reference FOR KEY SHARE\n",
                "    ORDER BY r.platform, r.reference\n",
            ),
        ),
        tests=(f"{SPENDING_LOCKS}test_an_erasure_waits_for_whoever_has_looked_the_name_up",),
    ),
    Guard(
        name="payers-locked-by-erasure",
        row="nor while a step goes on that names nobody",
        changes=(Change("service/store/redemptions.py", "    await connection.execute(LOCK_PAYERS, accounts)\n", ""),),
        tests=(f"{SPENDING_LOCKS}test_an_erasure_waits_for_a_step_that_names_nobody",),
    ),
    Guard(
        name="redemptions-of-former-homes",
        row="what was spent from a purse that was shared is forgotten, too",
        changes=(
            Change(
                "service/store/redemptions.py",
                "    UNION\n    SELECT (l.home & 1023)::smallint, l.home FROM mine m JOIN account_link l USING (bucket, account)\n",
                "",
            ),
        ),
        tests=(f"{SPENDING_LOCKS}test_each_platform_forgets_what_is_its_own_wherever_the_points_were",),
    ),
    Guard(
        name="no-more-reserved-than-left",
        row="no more of a lot is reserved than is left of it",
        changes=(
            Change(
                "migrations/0015_spending.sql",
                "ADD CONSTRAINT lot_reserved CHECK (reserved BETWEEN 0 AND remaining);",
                "ADD CONSTRAINT lot_reserved CHECK (true);",
            ),
        ),
        tests=("tests/flows/test_constraints.py::test_no_more_of_a_lot_is_reserved_than_is_left",),
    ),
    Guard(
        name="one-open-link",
        row="an account has one home at a time",
        changes=(
            Change(
                "migrations/0020_links.sql",
                "CREATE UNIQUE INDEX account_link_open ON account_link (bucket, account) WHERE split_at IS NULL;",
                "CREATE INDEX account_link_open ON account_link (bucket, account) WHERE split_at IS NULL;",
            ),
        ),
        tests=("tests/flows/test_constraints.py::test_an_account_has_one_home_at_a_time",),
    ),
    Guard(
        name="home-looked-up-again",
        row="where an account's points are is looked up again once it is locked",
        changes=(Change("service/store/purses.py", "    if await homes(connection, before) != before:\n", "    if not before and ids:\n"),),
        tests=(f"{SPENDING_LOCKS}test_who_waited_for_a_link_spends_from_the_one_purse",),
    ),
    Guard(
        name="credits-go-home",
        row="what is earned goes where the points are, whatever a process remembers",
        changes=(
            Change(
                "service/flows/receive.py",
                "found = {a.id: a.home for a in accounts.values() if a.home is not None or a.id in knowledge.homes}",
                "found = {id_: home for id_, home in knowledge.homes.items() if id_ in accounts and home in accounts}",
            ),
        ),
        tests=("tests/flows/test_links.py::test_both_platforms_see_one_balance",),
    ),
    Guard(
        name="link-code-once",
        row="a link code counts once",
        changes=(
            Change(
                "service/store/links.py",
                '"DELETE FROM link_code WHERE hash = $1 AND program = $2 RETURNING account, expires_at > now() AS counts"',
                '"SELECT account, expires_at > now() AS counts FROM link_code WHERE hash = $1 AND program = $2"',
            ),
        ),
        tests=(f"{LINKS}test_a_code_counts_once_in_its_program_while_it_lives",),
    ),
    Guard(
        name="no-version-behind-a-pointer",
        row="a version is not looked for behind a pointer in Redis, which may be of a link that was undone",
        changes=(Change("service/flows/balances.py", "held = None if min_version else await projection", "held = await projection"),),
        tests=(f"{LINKS}test_what_was_seen_in_a_link_is_never_older_however_stale_redis_is",),
    ),
    *FRAUD,
    *POINTS,
    *MOVES,
    *FRAUD_CASES,
    *OBJECTIONS,
    *MODELS,
    *BACKUPS,
    *JUDGING,
)
