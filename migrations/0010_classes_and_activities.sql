-- What a program's events may name beside the reference lists: packaging classes and activities of its own. Neither is ever deleted:
-- what was awarded for one keeps its meaning.

CREATE TABLE packaging_class (
    program          integer NOT NULL REFERENCES program,
    code             text COLLATE "C" NOT NULL,           -- never one of the reference list
    class_group      text NOT NULL CHECK (class_group IN ('avoid', 'reduce', 'reuse', 'recycled', 'substitute', 'baseline')),
    name_en          text NOT NULL,
    name_zh          text,
    description      text NOT NULL,
    needs_asset      boolean NOT NULL,                    -- its pieces are told apart, and count only when registered
    evidence         text[] NOT NULL,                     -- schemas.packaging_classes.Evidence
    contains_plastic boolean,                             -- null: it depends on the piece
    reportable       boolean,                             -- as disposable plastic; null: it depends on the piece
    baseline         text,                                -- the class that it takes the place of
    caveat           text NOT NULL,
    active           boolean NOT NULL DEFAULT true,       -- false: retired, in no new event
    created_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (program, code)
);

CREATE TABLE activity_kind (
    program    integer NOT NULL REFERENCES program,
    code       text COLLATE "C" NOT NULL,                 -- never one that is built in
    name       text NOT NULL,
    schema     text NOT NULL,                             -- JSON Schema of the evidence: service.domain.evidence
    claim      text,                                      -- JSON of schemas.activities.ClaimRule; null: nothing earns once
    active     boolean NOT NULL DEFAULT true,             -- false: retired, in no new event
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (program, code)
);
