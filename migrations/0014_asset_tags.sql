-- Which tag (a GIAI or GRAI of its own) is on which reusable asset, as EPCIS AssociationEvents report it. Never changed but to void it:
-- what holds at a time follows from all rows up to it, so they may come in any order.
CREATE TABLE asset_tag (
    program  integer NOT NULL,
    platform integer NOT NULL,                         -- whose hook reported it
    event    text COLLATE "C" NOT NULL,                -- the id of the event, or its hash
    tag      text COLLATE "C" NOT NULL,                -- the canonical form: service.domain.identifiers; '': all tags of the asset
    asset    text COLLATE "C" NOT NULL,
    at       timestamptz NOT NULL,
    joined   boolean NOT NULL,                         -- put on; false: taken off
    void     boolean NOT NULL DEFAULT false,           -- declared wrong
    PRIMARY KEY (program, platform, event, tag, asset),
    CHECK (tag <> '' OR NOT joined)
);
CREATE INDEX asset_tag_tag ON asset_tag (program, tag, at);
CREATE INDEX asset_tag_all ON asset_tag (program, asset, at) WHERE tag = '';
