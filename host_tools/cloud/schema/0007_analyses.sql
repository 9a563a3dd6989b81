-- Results of analyses of windows, one for each gateway, analysis and window: made by the gateway, or here on its request.

CREATE TABLE analysis (
    gateway       INTEGER NOT NULL REFERENCES gateway (id),
    name          TEXT NOT NULL,
    length_s      INTEGER NOT NULL,
    start_unix_s  INTEGER NOT NULL,
    window_count  INTEGER NOT NULL, -- the print of the windows that it is made of: how many there are,
    revisions     INTEGER NOT NULL, -- the sum of their revisions,
    last_revision INTEGER NOT NULL, -- and the greatest
    place         TEXT NOT NULL,    -- gateway | cloud
    input         TEXT,             -- JSON: what is still to be run; NULL once there is a result
    result        BLOB,             -- isocore.analysis.encode
    foreseen      INTEGER NOT NULL, -- sensors that will cross a limit
    matching      INTEGER NOT NULL, -- 0: the gateway had other windows than were here
    batch         INTEGER NOT NULL REFERENCES batch (id),
    PRIMARY KEY (gateway, name, length_s, start_unix_s)
) STRICT;
CREATE INDEX analysis_due ON analysis (batch) WHERE input IS NOT NULL;
CREATE INDEX analysis_start ON analysis (start_unix_s);
