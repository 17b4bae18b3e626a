-- Two references of one person, one purse: facts stay with the account that they came for (account.home says who has its points).

-- Whose version the event has, where its account was linked when it came; null: its own account's.
ALTER TABLE event ADD COLUMN home bigint;
CREATE INDEX event_home ON event (home, number) WHERE home IS NOT NULL;

-- What a change did to points on hold: linking moves them, too.
ALTER TABLE transfer ADD COLUMN pending bigint NOT NULL DEFAULT 0;

-- Every link that ever was; the one without an end holds.
CREATE TABLE account_link (
    bucket   smallint NOT NULL,
    account  bigint NOT NULL,                          -- whose points went
    number   bigint NOT NULL,                          -- of the transfer
    program  integer NOT NULL,
    home     bigint NOT NULL,                          -- where they went
    platform integer NOT NULL,                         -- that asked for it
    code     bytea NOT NULL,                           -- the hash of the code that it used: a repeat finds it here
    at       timestamptz NOT NULL,
    split_at timestamptz,                              -- a wrong link: when it was undone
    PRIMARY KEY (bucket, account, number)
);
CREATE UNIQUE INDEX account_link_open ON account_link (bucket, account) WHERE split_at IS NULL;
CREATE INDEX account_link_code ON account_link (code);

-- Codes by which a person shows one platform that an account of another is theirs: once, for a few minutes.
CREATE TABLE link_code (
    hash       bytea PRIMARY KEY,                      -- SHA-256 of the program and the code
    program    integer NOT NULL,
    platform   integer NOT NULL,                       -- that gave it out
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX link_code_account ON link_code (bucket, account);
CREATE INDEX link_code_expires ON link_code (expires_at);
