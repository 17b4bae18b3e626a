-- What changed lately is looked up by a B-tree. A BRIN index knows nothing of pages that were written since the last vacuum,
-- so that finding the last second's events read all of the last minutes'.
DROP INDEX event_received;
CREATE INDEX event_received ON event (received_at);
DROP INDEX entry_at;
CREATE INDEX entry_at ON entry (at);
