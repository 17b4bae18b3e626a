-- Versions that a link or a split has left out, so that nobody's balance goes back to an older one when another account has their points.
ALTER TABLE account ADD COLUMN skipped bigint NOT NULL DEFAULT 0;
