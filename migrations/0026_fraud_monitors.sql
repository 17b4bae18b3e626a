-- The monitors of the fraud checks.

-- Every minute the scores of 29 days are compared. Counts are not in the index, so that adding to them does not touch it.
CREATE INDEX fraud_hour_scores ON fraud_hour (hour, program) WHERE kind = 'score';

-- Decisions by day.
CREATE INDEX fraud_decision_done ON fraud_decision (program, (coalesce(decided_at, proposed_at))) WHERE status = 'done';
