-- Runs of the analyses of windows: where each ran or is to run, what was found, and whether it is in a frozen batch.

CREATE TABLE analyses (
    name     TEXT    NOT NULL,
    length_s INTEGER NOT NULL,
    start_s  INTEGER NOT NULL, -- of the window that was judged
    place    TEXT    NOT NULL, -- here | cloud
    request  TEXT    NOT NULL, -- JSON: what has to be run, as the uplink carries it
    outcome  TEXT,             -- JSON: the windows it was made of and the result; NULL: the cloud's to make
    sent     INTEGER NOT NULL, -- 1: frozen
    PRIMARY KEY (name, length_s, start_s)
) WITHOUT ROWID;
CREATE INDEX analyses_unsent ON analyses (start_s) WHERE sent = 0;
