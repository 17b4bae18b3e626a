-- Campaigns: a tag for conditional requests -----------------------------------------------------------------

-- Counted by the database, so that no statement can forget it, nor code of an older release that runs beside the new one.
ALTER TABLE campaign ADD COLUMN revision integer NOT NULL DEFAULT 1;

CREATE FUNCTION count_revision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.revision := OLD.revision + 1;
    RETURN NEW;
END
$$;
CREATE TRIGGER campaign_revision BEFORE UPDATE ON campaign FOR EACH ROW EXECUTE FUNCTION count_revision();

-- The audit is append-only ----------------------------------------------------------------------------------

-- Nobody changes or removes what was recorded, the owner of the table included; a superuser can drop the trigger, and that is a
-- change of the schema. ALWAYS: session_replication_role does not switch it off.
CREATE FUNCTION refuse_change_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_audit();
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_is_append_only;

CREATE INDEX audit_program ON audit (program, id);
CREATE INDEX audit_request ON audit (request_id) WHERE request_id IS NOT NULL;

-- The log of inbound deliveries -----------------------------------------------------------------------------

ALTER TABLE delivery
    ADD COLUMN connector   text,
    ADD COLUMN size_bytes  integer NOT NULL DEFAULT 0,
    ADD COLUMN verdict     text NOT NULL DEFAULT 'verified',
    ADD COLUMN events      jsonb NOT NULL DEFAULT '[]',       -- [{"id", "status", "points", "refused": [codes]}], nothing about a person
    ADD COLUMN duration_ms real,
    ADD COLUMN request_id  text,
    ADD COLUMN deliveries  integer NOT NULL DEFAULT 1,        -- forged ones beyond a few are only counted, in one row
    ADD COLUMN sealed      text,                              -- headers and body of what verified and failed, sealed with the master key
    ADD COLUMN attempts    integer NOT NULL DEFAULT 0,        -- replays
    ADD COLUMN replayed_at timestamptz,
    ALTER COLUMN detail SET DEFAULT '',
    ALTER COLUMN body DROP NOT NULL;                          -- of rows of an older release; now it is sealed

CREATE INDEX delivery_program ON delivery (program, id);
CREATE INDEX delivery_events ON delivery USING gin (events jsonb_path_ops);
CREATE INDEX delivery_received ON delivery (received_at);
CREATE INDEX delivery_kept ON delivery (received_at) WHERE sealed IS NOT NULL OR body IS NOT NULL;
