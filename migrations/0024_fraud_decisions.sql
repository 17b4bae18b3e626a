-- What carrying out decisions about fraud cases needs.

-- The id of the fact that takes the event back: fixed when that is decided, so that a retry repeats it, and nobody can guess it.
ALTER TABLE fraud_case_event ADD COLUMN reversal text;
CREATE INDEX fraud_case_event_undecided ON fraud_case_event (program, fraud_case) WHERE decided_at IS NULL;
-- Decided, by persons or by the deadline's policy, and not carried out yet.
CREATE INDEX fraud_case_event_unfinished ON fraud_case_event (fraud_case)
    WHERE decided_at IS NULL AND (decision IS NOT NULL OR reversal IS NOT NULL);

ALTER TABLE fraud_decision
    ADD COLUMN decided_note text,                      -- what the second operator says, or who withdraws
    DROP CONSTRAINT fraud_decision_status_check,
    -- lapsed: nothing of what it is about was left to decide
    ADD CONSTRAINT fraud_decision_status_check CHECK (status IN ('pending', 'done', 'refused', 'withdrawn', 'lapsed'));
CREATE UNIQUE INDEX fraud_decision_pending ON fraud_decision (fraud_case) WHERE status = 'pending';
