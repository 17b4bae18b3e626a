-- Fraud checks: every event has a verdict before it settles.

-- What does not settle: an event that waits for its verdict, or for a person. Most rows live for a second. `due` keeps its row meanwhile.
CREATE TABLE screening (
    bucket  smallint NOT NULL,
    account bigint NOT NULL,
    event   bigint NOT NULL,
    program integer NOT NULL,
    state   smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 2),  -- 0 waits for a verdict, 1 held, 2 rejected (it stays, as a mark)
    hint    smallint NOT NULL DEFAULT 0,               -- what the checks at the door say: 0 nothing, 1 on a block list, 2 a burst
    PRIMARY KEY (bucket, event)
) WITH (fillfactor = 80);
CREATE INDEX screening_waiting ON screening (program, event) WHERE state = 0;
CREATE INDEX screening_account ON screening (bucket, account) WHERE state > 0;

-- One row per judged event, in the order in which the program's judge took them in: rebuilding its memory takes the same order.
CREATE TABLE verdict (
    program   integer NOT NULL,
    seq       bigint NOT NULL,
    bucket    smallint NOT NULL,
    account   bigint NOT NULL,
    event     bigint NOT NULL,
    points    bigint NOT NULL,                         -- what it would earn; negative: what it takes back
    outcome   smallint NOT NULL CHECK (outcome BETWEEN 0 AND 4),  -- 0 earns nothing, 1 pass, 2 hold, 3 reject, 4 could not be judged: held
    enforced  boolean NOT NULL,                        -- false: in shadow mode, or on an allow list: it was told, and passed
    model     integer NOT NULL,
    score     smallint NOT NULL,                       -- probability in basis points
    own       integer NOT NULL,                        -- what it raised by itself, thousandths of a nat: without what it inherits
    shadow_model   integer,                            -- of the model that runs beside
    shadow_score   smallint,
    shadow_outcome smallint,
    strengths text,                                    -- JSON {signal: quarters}, those above 0; null: none
    judged_at timestamptz NOT NULL,
    PRIMARY KEY (program, seq)
);
CREATE INDEX verdict_event ON verdict (bucket, event);
CREATE INDEX verdict_judged ON verdict USING brin (judged_at) WITH (pages_per_range = 16);

-- The judge of a program: one worker at a time, under a lease. What it is taking in, so that one that ends at a poisonous event is noticed.
CREATE TABLE judge (
    program integer PRIMARY KEY REFERENCES program,
    seq     bigint NOT NULL DEFAULT 0,                 -- of the last verdict
    taking  bigint[] NOT NULL DEFAULT '{}',            -- events of the batch that was begun and not finished
    began   timestamptz,
    tries   smallint NOT NULL DEFAULT 0                -- how often a batch was begun since one was finished
);

-- Versions of weights and thresholds. At most one runs and one runs beside it; none: the one that is shipped (version 0).
CREATE TABLE fraud_model (
    program    integer NOT NULL REFERENCES program,
    version    integer NOT NULL CHECK (version > 0),
    body       text NOT NULL,                          -- JSON of service.domain.fraud.model.Model
    state      text NOT NULL CHECK (state IN ('draft', 'shadow', 'running', 'retired')),
    note       text,
    report     text,                                   -- JSON: what tuning said
    created_by integer REFERENCES operator,            -- null: a command
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (program, version)
);
CREATE UNIQUE INDEX fraud_model_running ON fraud_model (program) WHERE state = 'running';
CREATE UNIQUE INDEX fraud_model_shadow ON fraud_model (program) WHERE state = 'shadow';

-- What a program decides about holds. No row: the defaults.
CREATE TABLE fraud_policy (
    program        integer PRIMARY KEY REFERENCES program,
    hold_for       interval NOT NULL DEFAULT '7 days' CHECK (hold_for BETWEEN '1 minute' AND '90 days'),  -- somebody decides until then
    at_deadline    text NOT NULL DEFAULT 'release' CHECK (at_deadline IN ('release', 'reject')),           -- if nobody did
    alone_points   bigint NOT NULL DEFAULT 10000 CHECK (alone_points >= 0),  -- up to which one operator decides alone
    reviews_a_day  integer NOT NULL DEFAULT 50 CHECK (reviews_a_day > 0),    -- cases that reviewers look at: those shown first
    version        integer NOT NULL DEFAULT 1,
    changed_at     timestamptz NOT NULL DEFAULT now()
);

-- A case: the suspicious events of a ring.
CREATE TABLE fraud_case (
    number     bigint PRIMARY KEY,                     -- from the sequence `number`
    program    integer NOT NULL REFERENCES program,
    ring       bigint NOT NULL,                        -- an account of it: its root when the case was opened
    status     text NOT NULL CHECK (status IN ('open', 'proposed', 'closed')),  -- proposed: a decision waits for a second operator
    score      smallint NOT NULL,                      -- the highest of its events, basis points
    opened_at  timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    closed_at  timestamptz,
    merged_into bigint REFERENCES fraud_case,          -- two rings turned out to be one: its events are there
    CHECK ((status = 'closed') = (closed_at IS NOT NULL)),
    CHECK (merged_into IS NULL OR status = 'closed')
);
CREATE INDEX fraud_case_program ON fraud_case (program, number);
CREATE INDEX fraud_case_ring ON fraud_case (program, ring) WHERE status <> 'closed';

CREATE TABLE fraud_case_event (
    bucket     smallint NOT NULL,
    account    bigint NOT NULL,
    event      bigint NOT NULL,
    program    integer NOT NULL,
    fraud_case bigint NOT NULL REFERENCES fraud_case,
    points     bigint NOT NULL,
    score      smallint NOT NULL,
    reasons    text NOT NULL,                          -- JSON of list[schemas.fraud.CaseReason], the heaviest first
    found      text NOT NULL CHECK (found IN ('arrival', 'door', 'look_back', 'unchecked')),
    state      text NOT NULL CHECK (state IN ('held', 'settled', 'approved', 'rejected', 'released', 'voided')),
    -- held: waits; settled: it had settled when its ring was found, and is taken back if rejected; approved, rejected: by persons, or
    -- rejected by the deadline's policy; released: by the deadline's policy; voided: it was cancelled or refunded meanwhile
    held_at    timestamptz NOT NULL,
    deadline   timestamptz,                            -- of a held one
    at_deadline text CHECK (at_deadline IN ('release', 'reject')),  -- what comes then: the policy when it was held
    decided_at timestamptz,
    decision   bigint,                                 -- fraud_decision.number; null: the deadline's policy
    PRIMARY KEY (bucket, event),
    CHECK ((state = 'held') = (deadline IS NOT NULL) AND (deadline IS NULL) = (at_deadline IS NULL)),
    CHECK ((state IN ('held', 'settled')) = (decided_at IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX fraud_case_event_case ON fraud_case_event (fraud_case, event);
CREATE INDEX fraud_case_event_account ON fraud_case_event (bucket, account);
CREATE INDEX fraud_case_event_deadline ON fraud_case_event (deadline) WHERE state = 'held';

CREATE TABLE fraud_decision (
    number      bigint PRIMARY KEY,
    program     integer NOT NULL REFERENCES program,
    fraud_case  bigint NOT NULL REFERENCES fraud_case,
    decision    text NOT NULL CHECK (decision IN ('approve', 'reject')),
    events      bigint[] NOT NULL,                     -- what it is about: all that was undecided, unless some were named
    points      bigint NOT NULL,
    note        text,
    alone       boolean NOT NULL,                      -- within what one operator may decide alone, when it was proposed
    status      text NOT NULL CHECK (status IN ('pending', 'done', 'refused', 'withdrawn')),
    proposed_by integer NOT NULL REFERENCES operator,
    proposed_at timestamptz NOT NULL,
    decided_by  integer REFERENCES operator,
    decided_at  timestamptz,
    told_seq    bigint,                                -- the judge knows of it since this verdict; null: not yet
    -- Four eyes, whatever the code does.
    CONSTRAINT fraud_decision_four_eyes CHECK (CASE status
        WHEN 'done' THEN alone = (decided_by IS NULL) AND decided_by IS DISTINCT FROM proposed_by
        WHEN 'refused' THEN decided_by IS NOT NULL AND decided_by <> proposed_by
        WHEN 'withdrawn' THEN decided_by = proposed_by
        ELSE decided_by IS NULL END)
);
CREATE INDEX fraud_decision_case ON fraud_decision (fraud_case);
CREATE INDEX fraud_decision_told ON fraud_decision (program, told_seq) WHERE status = 'done';

-- What a decided event looked like to the signals, and what it was: tuning learns from it. It outlives the case; it names nobody.
CREATE TABLE fraud_label (
    program   integer NOT NULL REFERENCES program,
    event     bigint NOT NULL,
    fraud     boolean NOT NULL,
    points    bigint NOT NULL,
    score     smallint NOT NULL,
    strengths text NOT NULL,                           -- as in verdict
    source    text NOT NULL CHECK (source IN ('decision', 'import')),
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (program, event)
);

-- Who is always let through, or always held. Entities are the keyed hashes that events carry; nothing raw is stored.
CREATE TABLE fraud_list (
    number     bigint PRIMARY KEY,
    program    integer NOT NULL REFERENCES program,
    list       text NOT NULL CHECK (list IN ('allow', 'block')),
    kind       text NOT NULL CHECK (kind IN ('account', 'device', 'payment', 'address', 'ip')),
    value      text NOT NULL,                          -- keyed hash; of an account its number
    reason     text NOT NULL,
    until      timestamptz,                            -- null: until it is taken off
    added_by   integer REFERENCES operator,
    added_at   timestamptz NOT NULL DEFAULT now(),
    removed_at timestamptz
);
CREATE UNIQUE INDEX fraud_list_entry ON fraud_list (program, kind, value) WHERE removed_at IS NULL;

-- A person objects to a hold or a rejection: somebody looks at it.
CREATE TABLE fraud_objection (
    bucket      smallint NOT NULL,
    account     bigint NOT NULL,
    event       bigint NOT NULL,
    program     integer NOT NULL,
    text        text,                                  -- forgotten with the person
    status      text NOT NULL CHECK (status IN ('open', 'upheld', 'refused')),  -- upheld: the person was right
    made_at     timestamptz NOT NULL,
    answer      text,
    answered_by integer REFERENCES operator,
    answered_at timestamptz,
    PRIMARY KEY (bucket, event),
    CHECK ((status = 'open') = (answered_at IS NULL))
);
CREATE INDEX fraud_objection_open ON fraud_objection (program, made_at) WHERE status = 'open';

-- How scores and signals are spread, hour by hour: drift shows here.
CREATE TABLE fraud_hour (
    program integer NOT NULL,
    hour    timestamptz NOT NULL,
    model   integer NOT NULL,
    kind    text NOT NULL CHECK (kind IN ('score', 'outcome', 'signal', 'held_by')),
    name    text NOT NULL,                             -- a tenth of the score, an outcome, a signal
    events  bigint NOT NULL,
    points  bigint NOT NULL,
    PRIMARY KEY (program, hour, model, kind, name)
);

-- What platforms are to be told, in order; delivery comes later. One row per thing that happened, written with it.
CREATE TABLE outbox (
    number   bigint PRIMARY KEY,                       -- from the sequence `number`
    program  integer NOT NULL,
    platform integer NOT NULL,
    type     text NOT NULL,
    bucket   smallint NOT NULL,
    account  bigint NOT NULL,
    event    bigint,
    data     text NOT NULL,                            -- JSON: the body's `data`, without names
    at       timestamptz NOT NULL
);
CREATE INDEX outbox_account ON outbox (bucket, account);

-- The part of a judge's lease is its program.
ALTER TABLE lease ALTER COLUMN part TYPE integer;
