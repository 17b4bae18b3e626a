"""Guards of points that are there: balances and lots, the book and its seals, expiry, releases and leases."""

from typing import Final

from tests.guards.guard import Change, Guard

SEALS = "tests/flows/test_seals.py::"
RECENT = "tests/flows/test_check_recent.py::"
EXPIRE = "tests/flows/test_expire.py::"
RELEASE = "tests/flows/test_release.py::"
CONSTRAINTS = "tests/flows/test_constraints.py::"

MAIN_JOB, SPENDING, BOOK = "migrations/0001_main_job.sql", "migrations/0015_spending.sql", "migrations/0019_seals.sql"


BALANCES = "no balance is negative"
LOTS = "a lot holds no more than it was, and keeps no more apart than it holds"
APPEND_ONLY = "nobody changes the book, whatever `session_replication_role` says"
TOKEN = "a lease's token is looked at in each transaction that expires or releases"

POINTS: Final = (
    # The schema
    *(
        Guard(
            name=f"no-negative-{column}",
            row=BALANCES,
            changes=(
                Change(MAIN_JOB, f"{column:10} bigint NOT NULL DEFAULT 0 CHECK ({column} >= 0)", f"{column} bigint NOT NULL DEFAULT 0"),
            ),
            tests=(f"{CONSTRAINTS}test_no_balance_goes_below_nothing",),
        )
        for column in ("pending", "reserved", "debt")
    ),
    Guard(
        name="lot-reserved",
        row=LOTS,
        changes=(Change(SPENDING, "CHECK (reserved BETWEEN 0 AND remaining)", "CHECK (true)"),),
        tests=(f"{CONSTRAINTS}test_a_lot_holds_no_more_than_it_was",),
    ),
    Guard(
        name="lot-remaining",
        row=LOTS,
        changes=(Change(MAIN_JOB, "CHECK (remaining BETWEEN 0 AND amount)", ""),),
        tests=(f"{CONSTRAINTS}test_a_lot_holds_no_more_than_it_was",),
    ),
    Guard(
        name="one-answer-for-a-key",
        row="a key has one answer",
        changes=(Change(SPENDING, "    PRIMARY KEY (program, key)\n", "    CHECK (true)\n"),),
        tests=(f"{CONSTRAINTS}test_a_key_has_one_answer",),
    ),
    Guard(
        name="goodbye-is-no-defect",
        row="what is asked of a connection that PostgreSQL is just closing is asked again",
        changes=(Change("service/store/connection.py", "    asyncpg.InternalClientError,\n", ""),),
        tests=("tests/flows/test_goodbye.py::test_what_is_asked_between_goodbye_and_the_end_is_worth_trying_again",),
    ),
    Guard(
        name="reset-is-no-defect",
        row="a Redis that resets connections costs no request",
        changes=(
            Change("service/projection.py", "(RedisError, OSError, TimeoutError, RuntimeError)", "(RedisError, OSError, TimeoutError)"),
        ),
        tests=(
            "tests/system/test_redis_resets.py::test_a_projection_fails_quietly",
            "tests/system/test_redis_resets.py::test_a_doorbell_fails_quietly",
        ),
    ),
    # The book
    Guard(
        name="book-is-append-only",
        row=APPEND_ONLY,
        changes=(
            Change(
                BOOK,
                "RAISE EXCEPTION 'the ledger is append-only: % of % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';",
                "RETURN NULL;",
            ),
        ),
        tests=(f"{SEALS}test_the_database_refuses_changes_of_the_book",),
    ),
    *(
        Guard(
            name=f"{table.replace('_', '-')}-is-append-only-{how}",
            row=APPEND_ONLY,
            changes=(change,),
            tests=(f"{SEALS}test_the_database_refuses_changes_of_the_book",),
        )
        for table in ("entry", "lot_use", "seal", "seal_part")
        for how, change in {
            "always": Change(BOOK, f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER", f"ALTER TABLE {table} ENABLE TRIGGER"),
            "truncate": Change(BOOK, f"BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}\n", f"BEFORE UPDATE OR DELETE ON {table}\n"),
        }.items()
    ),
    Guard(
        name="seals-do-not-fork",
        row="two sealers never fork a chain of seals",
        changes=(Change(BOOK, "    PRIMARY KEY (program, block)  ", "    CHECK (true)  "),),
        tests=(f"{SEALS}test_two_sealers_never_fork_the_chain",),
    ),
    Guard(
        name="sealing-waits-for-writers",
        row="sealing waits for who is still writing",
        changes=(Change("service/flows/seal.py", "return min(now - margin, oldest)", "return now - margin if oldest else now"),),
        tests=(f"{SEALS}test_what_commits_late_is_sealed_later",),
    ),
    Guard(
        name="sealing-by-turns",
        row="every account is looked at by turns, whatever is dated when",
        changes=(Change("service/flows/seal.py", "for step in (_seal_dated, _seal_buckets):", "for step in (_seal_dated,):"),),
        tests=(f"{SEALS}test_what_nobody_could_see_coming_is_sealed_when_its_buckets_turn_comes",),
    ),
    Guard(
        name="gaps-are-not-sealed",
        row="what has a gap is not sealed",
        changes=(Change("service/store/seals.py", " AND n.first = s.last + 1 AND n.last = s.last + n.entries", ""),),
        tests=(f"{SEALS}test_what_has_a_gap_is_not_sealed",),
    ),
    Guard(
        name="check-waits-for-writers",
        row="the check of what changed waits for who is still writing",
        changes=(Change("service/flows/check_recent.py", "until = min(now - margin, oldest)", "until = now - margin if oldest else now"),),
        tests=(f"{RECENT}test_what_is_not_committed_yet_is_looked_at_later",),
    ),
    Guard(
        name="told-once",
        row="what is broken is told once",
        changes=(
            Change(
                BOOK,
                "CREATE UNIQUE INDEX alert_open ON alert (program, kind, subject) NULLS NOT DISTINCT",
                "CREATE INDEX alert_open ON alert (program, kind, subject)",
            ),
            Change(
                "service/store/alerts.py",
                'ON CONFLICT (program, kind, subject) WHERE resolved_at IS NULL DO NOTHING\n"""\nRESOLVE_ACCOUNTS',
                'ON CONFLICT DO NOTHING\n"""\nRESOLVE_ACCOUNTS',
            ),
        ),
        tests=(f"{RECENT}test_two_that_look_at_once_tell_it_once",),
    ),
    # Expiry and leases
    Guard(
        name="account-lock-of-expiry",
        row="lock of the account while it is decided what expires",
        changes=(Change("service/store/expiry.py", 'ORDER BY a.id\nFOR NO KEY UPDATE\n"""', 'ORDER BY a.id\n"""'),),
        tests=(f"{EXPIRE}test_expiry_waits_for_a_refund",),
    ),
    Guard(
        name="lease-token",
        row=TOKEN,
        changes=(
            Change(
                "service/store/leases.py",
                "WHERE work = $1 AND part = $2 AND token = $3 RETURNING token",
                "WHERE work = $1 AND part = $2 AND token >= $3 RETURNING token",
            ),
        ),
        tests=(
            f"{EXPIRE}test_a_worker_that_was_paused_changes_nothing_when_it_wakes",
            f"{RELEASE}test_a_worker_that_was_paused_releases_nothing_when_it_wakes",
        ),
    ),
    Guard(
        name="lease-of-releases",
        row=TOKEN,
        changes=(Change("service/flows/release.py", "        await leases.still_mine(connection, lease)\n", ""),),
        tests=(f"{RELEASE}test_a_worker_that_was_paused_releases_nothing_when_it_wakes",),
    ),
    Guard(
        name="lease-is-held",
        row="the lease's row is held until the transaction ends",
        changes=(
            Change(
                "service/store/leases.py",
                "UPDATE lease SET until = clock_timestamp() + make_interval(secs => $4) WHERE work = $1 AND part = $2 AND token = $3 RETURNING token",
                "SELECT token FROM lease WHERE work = $1 AND part = $2 AND token = $3 AND $4::float8 > 0",
            ),
        ),
        tests=(f"{EXPIRE}test_a_lease_is_kept_until_the_transaction_ends",),
    ),
    Guard(
        name="lease-of-another",
        row="a lease that runs is nobody else's",
        changes=(Change("service/store/leases.py", " AND until <= clock_timestamp() FOR UPDATE", " FOR UPDATE"),),
        tests=(f"{EXPIRE}test_a_worker_that_was_paused_changes_nothing_when_it_wakes",),
    ),
    Guard(
        name="account-lock-of-releases",
        row="lock of the account before a reservation is released",
        changes=(Change("service/flows/release.py", "        await purses.lock(connection, [account for _, account, _ in found])\n", ""),),
        tests=(f"{RELEASE}test_a_release_waits_for_a_capture_and_leaves_it_alone",),
    ),
    Guard(
        name="still-due",
        row="a reservation is looked at again under that lock",
        changes=(Change("service/store/releases.py", "WHERE r.status = 'reserved' AND r.expires_at <= now()", "WHERE true"),),
        tests=(f"{RELEASE}test_a_release_waits_for_a_capture_and_leaves_it_alone",),
    ),
    Guard(
        name="idle-transactions-end",
        row="a worker that stops inside a transaction loses it",
        changes=(Change("workers/run.py", ", idle_transaction_s=settings.idle_transaction_timeout_s", ""),),
        tests=("tests/system/test_paused_worker.py::test_a_worker_that_stops_with_accounts_locked",),
    ),
    Guard(
        name="reserved-does-not-expire",
        row="reserved points do not expire",
        changes=(Change("service/store/expiry.py", "l.remaining - l.reserved AS free", "l.remaining AS free"),),
        tests=(f"{EXPIRE}test_what_is_reserved_stays_until_it_comes_back",),
    ),
    Guard(
        name="program-s-own-day",
        row="the day that is over is the program's own",
        changes=(Change("service/flows/expire.py", "now.astimezone(ZoneInfo(zone)).date()", "now.date()"),),
        tests=(f"{EXPIRE}test_the_day_is_the_programs_own",),
    ),
    Guard(
        name="one-looks-for-warnings",
        row="one worker looks through a program for warnings",
        changes=(Change("service/store/warnings.py", " FOR UPDATE OF w SKIP LOCKED", ""),),
        tests=("tests/flows/test_warn.py::test_two_workers_do_not_look_at_one_program",),
    ),
    Guard(
        name="policy-begins-later",
        row="a saved points policy begins later, by the clock under the catalogue lock",
        changes=(
            Change(
                "service/store/points_policy.py",
                "clock_timestamp() + make_interval(secs => $3)",
                "clock_timestamp() + make_interval(secs => $3 * 0)",
            ),
        ),
        tests=("tests/api/test_points_policy.py::test_a_version_counts_from_ten_seconds_later",),
    ),
)
