-- How often a platform may call, per class of routes, as an administrator set it: {"credit": {"requests": 1000, "per_s": 60}}.
-- A class that is absent is not limited.
ALTER TABLE platform ADD COLUMN limits jsonb NOT NULL DEFAULT '{}';
