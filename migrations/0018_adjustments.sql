-- Adjustments by operators, and points that consumers give each other.

CREATE TABLE adjustment (
    bucket        smallint NOT NULL,
    account       bigint NOT NULL,                     -- that the name stood for; a linked one's points are another's
    number        bigint NOT NULL,
    program       integer NOT NULL,
    platform      integer NOT NULL,                    -- whose name for the consumer the operator used
    points        bigint NOT NULL CHECK (points <> 0),
    reason        text,                                -- the consumer may read it; forgotten with the person, like both notes
    note          text,                                -- for operators
    own_last_day  boolean NOT NULL,                    -- expires_on was said; else the program's policy says it
    expires_on    date,                                -- null and said: never
    may_owe       boolean NOT NULL,                    -- what is missing may become debt, where the policy has any
    alone         boolean NOT NULL,                    -- within what one operator may do alone, when it was proposed
    status        text NOT NULL CHECK (status IN ('pending', 'done', 'rejected', 'withdrawn', 'expired')),
    proposed_by   integer NOT NULL REFERENCES operator,
    proposed_at   timestamptz NOT NULL,
    open_until    timestamptz NOT NULL,                -- a pending one expires then
    decided_by    integer REFERENCES operator,         -- null: nobody but who proposed it, or a worker
    decided_at    timestamptz,
    decision_note text,
    transfer      bigint,                              -- the number of its transfer and of its lot
    PRIMARY KEY (bucket, account, number),
    CHECK ((status = 'pending') = (decided_at IS NULL)),
    CHECK ((status = 'done') = (transfer IS NOT NULL)),
    CHECK (NOT alone OR status = 'done'),
    -- Four eyes, whatever the code does: what one operator may not do alone, another one decides.
    CONSTRAINT adjustment_four_eyes CHECK (CASE status
        WHEN 'done' THEN alone = (decided_by IS NULL) AND decided_by IS DISTINCT FROM proposed_by
        WHEN 'rejected' THEN decided_by IS NOT NULL AND decided_by <> proposed_by
        WHEN 'withdrawn' THEN decided_by IS NOT NULL AND decided_by = proposed_by
        ELSE decided_by IS NULL END)
) WITH (fillfactor = 80);
CREATE INDEX adjustment_program ON adjustment (program, number);
CREATE INDEX adjustment_open ON adjustment (open_until) WHERE status = 'pending';

-- One row per gift, with its giver; both sides have a row of `transfer` with this number.
CREATE TABLE consumer_transfer (
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,                        -- that gave
    number     bigint NOT NULL,
    program    integer NOT NULL,
    platform   integer NOT NULL,
    id         text NOT NULL,
    to_bucket  smallint NOT NULL,
    to_account bigint NOT NULL,
    points     bigint NOT NULL CHECK (points > 0),
    day        date NOT NULL,                          -- of the program, on which it counts against the giver's limit
    at         timestamptz NOT NULL,
    PRIMARY KEY (bucket, account, number),
    CHECK (account <> to_account)
);
CREATE INDEX consumer_transfer_day ON consumer_transfer (bucket, account, day);
CREATE INDEX consumer_transfer_to ON consumer_transfer (to_bucket, to_account);
