-- Points that were taken over from another system: a row is one lot of one consumer, written once.
CREATE TABLE opening (
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,
    number     bigint NOT NULL,                        -- of its registry row (kind 3); its lot's `event` and its transfer, too
    program    integer NOT NULL,
    platform   integer NOT NULL,
    id         text NOT NULL,
    points     bigint NOT NULL CHECK (points > 0),
    expires_on date,                                   -- last day on which they can be spent; null: never
    earned_at  timestamptz,                            -- when they were earned over there, if it was said
    at         timestamptz NOT NULL,
    version    bigint NOT NULL,                        -- of the account after it
    PRIMARY KEY (bucket, account, number)
);
