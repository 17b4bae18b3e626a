-- The plastics ledger: what platforms report as used and collected, by half-year; periods that are closed, and their reports as they were.

-- Append-only. A row that is sent again with other values is corrected: an entry takes the one before back, another one says what is right.
CREATE TABLE plastic_entry (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program    integer NOT NULL REFERENCES program,
    platform   integer NOT NULL REFERENCES platform,
    row_id     text COLLATE "C" NOT NULL,              -- the platform's own id of the row
    revision   integer NOT NULL CHECK (revision > 0),
    reversal   boolean NOT NULL DEFAULT false,         -- it takes back the entry of this row and revision
    half       text NOT NULL CHECK (half ~ '^[0-9]{4}H[12]$'),
    first_day  date NOT NULL,
    last_day   date NOT NULL,
    class      text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('used', 'collected')),
    mass_g     numeric(18, 3) NOT NULL,                -- signed: the sum over all entries is what is reported
    units      bigint,                                 -- signed as the mass; null: not said
    merchant   text COLLATE "C",
    note       text,
    corrects   text COLLATE "C",                       -- the row of a closed period that it corrects
    actor      text NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (platform, row_id, revision, reversal),
    CHECK (first_day <= last_day)
);
CREATE INDEX plastic_entry_program ON plastic_entry (program, number);
CREATE INDEX plastic_entry_corrects ON plastic_entry (platform, corrects) WHERE corrects IS NOT NULL;
CREATE INDEX plastic_entry_half ON plastic_entry (program, half, platform, class, merchant);

-- A period without a row here is open. Who writes entries holds the program's lock shared, who closes holds it alone.
CREATE TABLE plastic_period (
    program   integer NOT NULL REFERENCES program,
    half      text NOT NULL,
    closed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    closed_by text NOT NULL,
    PRIMARY KEY (program, half)
);

-- The bytes of a closed period's report.
CREATE TABLE plastic_report (
    program  integer NOT NULL,
    half     text NOT NULL,
    platform integer NOT NULL,                         -- 0: of the whole program
    format   text NOT NULL CHECK (format IN ('json', 'csv')),
    body     bytea NOT NULL,
    sha256   bytea NOT NULL CHECK (sha256 = sha256(body)),
    PRIMARY KEY (program, half, platform, format),
    FOREIGN KEY (program, half) REFERENCES plastic_period
);

-- As the audit: nobody changes or removes what was written, the owner of the tables included.
CREATE FUNCTION refuse_change_of_plastics() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the plastics ledger is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER plastic_entry_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON plastic_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_plastics();
CREATE TRIGGER plastic_period_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON plastic_period
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_plastics();
CREATE TRIGGER plastic_report_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON plastic_report
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_plastics();
ALTER TABLE plastic_entry ENABLE ALWAYS TRIGGER plastic_entry_is_append_only;
ALTER TABLE plastic_period ENABLE ALWAYS TRIGGER plastic_period_is_append_only;
ALTER TABLE plastic_report ENABLE ALWAYS TRIGGER plastic_report_is_append_only;
