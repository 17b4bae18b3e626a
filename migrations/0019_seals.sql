-- The book is append-only -------------------------------------------------------------------------------------

-- As the audit: nobody changes or removes what was written, the owner of the tables included; a superuser can drop the trigger, and
-- that is a change of the schema. ALWAYS: session_replication_role does not switch it off. An INSERT does not fire it.
CREATE FUNCTION refuse_change_of_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % of % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER entry_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_ledger();
CREATE TRIGGER lot_use_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON lot_use
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_ledger();
ALTER TABLE entry ENABLE ALWAYS TRIGGER entry_is_append_only;
ALTER TABLE lot_use ENABLE ALWAYS TRIGGER lot_use_is_append_only;

-- Sealed blocks (docs/ledger.md) ------------------------------------------------------------------------------

-- A chain of blocks per program: each names the head before it, so that nothing below a head that somebody keeps can change unnoticed.
CREATE TABLE seal (
    program   integer NOT NULL,
    block     bigint NOT NULL CHECK (block > 0),           -- gapless per program
    entries   bigint NOT NULL CHECK (entries > 0),
    accounts  integer NOT NULL CHECK (accounts > 0),       -- rows of seal_part
    previous  bytea NOT NULL CHECK (length(previous) = 32), -- the head of the block before; of the first: zeros
    content   bytea NOT NULL CHECK (length(content) = 32), -- SHA-256 of the block's parts
    head      bytea NOT NULL CHECK (length(head) = 32),    -- SHA-256 of all of the above and the time
    sealed_at timestamptz NOT NULL,                        -- whole seconds
    PRIMARY KEY (program, block)                           -- two sealers never fork the chain
);

-- What a block holds of one account: its entries from `first` to `last`. An entry is in one part; parts follow each other without a gap.
CREATE TABLE seal_part (
    bucket  smallint NOT NULL,
    account bigint NOT NULL,
    first   bigint NOT NULL CHECK (first > 0),
    last    bigint NOT NULL CHECK (last >= first),
    program integer NOT NULL,
    block   bigint NOT NULL,
    hash    bytea NOT NULL CHECK (length(hash) = 32),      -- SHA-256 of its entries
    PRIMARY KEY (bucket, account, first)
);
CREATE INDEX seal_part_block ON seal_part (program, block);

CREATE TRIGGER seal_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON seal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_ledger();
CREATE TRIGGER seal_part_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON seal_part
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_ledger();
ALTER TABLE seal ENABLE ALWAYS TRIGGER seal_is_append_only;
ALTER TABLE seal_part ENABLE ALWAYS TRIGGER seal_part_is_append_only;

-- Checking what changed ----------------------------------------------------------------------------------------

-- How far sealing and the check of what changed have come: what was dated earlier has been looked at. It only saves work: `seal` looks
-- at `bucket` by turns whatever is dated when, and the full check at everything.
CREATE TABLE proof_progress (
    work    text PRIMARY KEY CHECK (work IN ('seal', 'check')),
    through timestamptz NOT NULL,
    bucket  smallint NOT NULL DEFAULT 0
);
INSERT INTO proof_progress (work, through) VALUES ('seal', '2000-01-01'), ('check', now());

-- What is broken, told once: while a row is open, finding the same again changes nothing.
CREATE TABLE alert (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    program     integer,                               -- null: of the deployment, found by a check of everything
    kind        text NOT NULL,                         -- the name of the invariant: service.flows.check.RULES
    subject     text NOT NULL,                         -- `account 17`, or `ledger`
    words       text NOT NULL,                         -- what was found first
    at          timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,                           -- a later look found that it holds again
    bucket      smallint,
    account     bigint                                 -- to look at again
);
CREATE UNIQUE INDEX alert_open ON alert (program, kind, subject) NULLS NOT DISTINCT WHERE resolved_at IS NULL;
CREATE INDEX alert_program ON alert (program, id);
