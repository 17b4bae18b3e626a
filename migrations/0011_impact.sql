-- Impact factors of programs, and what makes the impact of millions of awards quick to report.

-- A program's own factors, and its corrections of factors of the reference list (service/domain/data/impact_factors.json). A version is
-- never changed: awards pin what they were reckoned by.
CREATE TABLE impact_factor (
    program        integer NOT NULL REFERENCES program,
    id             text COLLATE "C" NOT NULL,
    version        integer NOT NULL CHECK (version > 0),
    effective_from timestamptz NOT NULL,              -- counts for what occurs from then on
    body           text NOT NULL,                     -- JSON of schemas.impact.FactorBody
    created_at     timestamptz NOT NULL DEFAULT now(),
    created_by     text NOT NULL,
    PRIMARY KEY (program, id, version)
);

-- Only awards with an impact: the others are not in it and cost nothing.
CREATE INDEX award_impact ON award (program, day) WHERE impact IS NOT NULL;
