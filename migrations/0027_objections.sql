-- Persons under review: objections are listed and answered, campaigns count what is held and rejected of theirs.

-- The id of the fact that takes a rejected event back, fixed when that is decided (whoever carries decisions out may have brought it).
ALTER TABLE fraud_case_event ADD COLUMN IF NOT EXISTS reversal text;
-- By which the points came back, where the person was right about a rejection.
ALTER TABLE fraud_objection ADD COLUMN adjustment bigint;
-- An objection is called by its event's number, which is unique in the deployment.
CREATE UNIQUE INDEX fraud_objection_number ON fraud_objection (program, event);
-- The list: open ones first, the oldest event before others; then those that were answered, the newest first.
CREATE INDEX fraud_objection_list ON fraud_objection (
    program, (CASE WHEN status = 'open' THEN event ELSE 9223372036854775807 - event END)
);

-- Which campaigns an event of a case had points of: what a campaign counts is found without looking at other campaigns' events.
CREATE TABLE fraud_campaign_event (
    campaign    integer NOT NULL,
    bucket      smallint NOT NULL,
    event       bigint NOT NULL,
    platform    integer NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (campaign, bucket, event)
);

-- Whoever puts an event into a case need not know: it happens in the same statement.
CREATE FUNCTION note_campaigns_of_case_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO fraud_campaign_event (campaign, bucket, event, platform, received_at)
    SELECT DISTINCT a.campaign, a.bucket, a.event, e.platform, e.received_at
    FROM fresh f
    JOIN award a ON a.bucket = f.bucket AND a.account = f.account AND a.event = f.event
    JOIN event e ON e.bucket = f.bucket AND e.account = f.account AND e.number = f.event
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
CREATE TRIGGER fraud_case_event_campaigns AFTER INSERT ON fraud_case_event
    REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION note_campaigns_of_case_events();
INSERT INTO fraud_campaign_event (campaign, bucket, event, platform, received_at)
SELECT DISTINCT a.campaign, a.bucket, a.event, e.platform, e.received_at
FROM fraud_case_event f
JOIN award a ON a.bucket = f.bucket AND a.account = f.account AND a.event = f.event
JOIN event e ON e.bucket = f.bucket AND e.account = f.account AND e.number = f.event;

-- What is forgotten by age.
CREATE INDEX fraud_case_event_reasons ON fraud_case_event (decided_at) WHERE reasons <> '[]';
CREATE INDEX fraud_objection_answered ON fraud_objection (answered_at) WHERE text IS NOT NULL;
