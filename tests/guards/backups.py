"""Guards of backups and restores."""

from typing import Final

from tests.guards.guard import Change, Guard

BACKUP = "tests/local/test_backup.py::"
STORE, DEPLOYMENT = "service/store/backups.py", "service/store/deployment.py"
ANOTHER_EPOCH = "what Redis holds is of another epoch, however often one backup is restored"
HISTORY = (f"{BACKUP}test_what_redis_and_processes_remember_is_of_another_history",)

BACKUPS: Final = (
    Guard(
        name="restore-is-one-transaction",
        row="a restore is one transaction: whatever interrupts it, nothing has happened",
        changes=(Change(STORE, '        "BEGIN",\n', ""),),
        tests=(f"{BACKUP}test_a_restore_that_is_killed_has_not_happened",),
    ),
    Guard(
        name="epoch-of-a-restore",
        row=ANOTHER_EPOCH,
        changes=(Change(DEPLOYMENT, "    epoch             = greatest(d.epoch + 1, (t.ms / 1000)::integer),\n", ""),),
        tests=HISTORY,
    ),
    Guard(
        name="epoch-rises-by-time",
        row=ANOTHER_EPOCH,
        changes=(
            Change(DEPLOYMENT, "epoch             = greatest(d.epoch + 1, (t.ms / 1000)::integer)", "epoch             = d.epoch + 1"),
        ),
        tests=HISTORY,
    ),
    Guard(
        name="epoch-waits-for-its-second",
        row=ANOTHER_EPOCH,
        changes=(Change(DEPLOYMENT, "pg_sleep(1.001 - extract(epoch FROM clock_timestamp())::numeric % 1)", "pg_sleep(0)"),),
        tests=(f"{BACKUP}test_no_two_histories_begin_in_one_second",),
    ),
    Guard(
        name="vault-version-of-a-restore",
        row="what processes remember is not gone by",
        changes=(Change(DEPLOYMENT, "t.ms),\n    vault_version     = greatest(d.vault_version + 1, t.ms)\n", "t.ms)\n"),),
        tests=HISTORY,
    ),
    Guard(
        name="restore-keeps-migrations-out",
        row="nobody migrates a database that is being restored",
        changes=(Change(STORE, '_unless(f"pg_try_advisory_xact_lock({ADVISORY_LOCK})", ', '_unless("true", '),),
        tests=(f"{BACKUP}test_nobody_migrates_a_database_that_is_being_restored",),
    ),
    Guard(
        name="restore-is-alone",
        row="nobody is connected when the data is replaced",
        changes=(Change(STORE, '_unless(f"NOT EXISTS ({OTHERS})", ', '_unless("true", '),),
        tests=(f"{BACKUP}test_who_connects_at_the_last_moment_is_noticed",),
    ),
    Guard(
        name="rows-of-the-manifest",
        row="all rows of the manifest are there before it is committed",
        changes=(Change(STORE, "IF n <> r.rows THEN", "IF false THEN"),),
        tests=(f"{BACKUP}test_a_restore_that_lacks_rows_has_not_happened",),
    ),
    Guard(
        name="erased-again-and-nobody-else",
        row="who was erased since is erased again, and nobody else",
        changes=(Change(STORE, '      AND NOT encode({hash_sql("r.platform", "r.reference")}, \'hex\') = ANY (w.kept)\n', ""),),
        tests=(f"{BACKUP}test_who_was_erased_since_is_erased_again",),
    ),
    Guard(
        name="sha-of-a-backup",
        row="the file is what was backed up",
        changes=(Change("service/local/backup.py", "if digest.hexdigest() != manifest.sha256:", "if False:"),),
        tests=(f"{BACKUP}test_what_does_not_fit_is_refused_before_anything_is_touched",),
    ),
    Guard(
        name="one-snapshot",
        row="counts and data are of one snapshot",
        changes=(Change("service/local/backup.py", 'f"--snapshot={snapshot.name}", ', ""),),
        tests=(f"{BACKUP}test_a_backup_under_load_is_one_moment",),
    ),
    Guard(
        name="one-schema",
        row="a backup is of one schema",
        changes=(Change("service/local/backup.py", "if await store.migrations(connection) != manifest.migrations:", "if False:"),),
        tests=(f"{BACKUP}test_a_backup_that_was_overtaken_by_a_migration_is_none",),
    ),
)
