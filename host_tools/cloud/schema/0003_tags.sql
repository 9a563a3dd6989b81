-- Tags on readings: what became of each row's, frames that wait for rows, and what was found wrong. Verdicts: verdict.py.

ALTER TABLE reading ADD COLUMN verdict INTEGER NOT NULL DEFAULT 0;

CREATE TABLE frame (                -- tagged frames of which some row has not come
    id            INTEGER PRIMARY KEY,
    gateway       INTEGER NOT NULL REFERENCES gateway (id),
    device        INTEGER NOT NULL REFERENCES device (id),
    boot          INTEGER NOT NULL,
    first_seq     INTEGER NOT NULL,
    last_seq      INTEGER NOT NULL,
    content       TEXT NOT NULL,    -- JSON: epoch, steps between the seqs, records in the place of rows
    tag           BLOB NOT NULL,
    recv_unix_ms  INTEGER NOT NULL,
    UNIQUE (device, boot, last_seq, first_seq, tag, gateway)
) STRICT;
CREATE INDEX frame_age ON frame (recv_unix_ms);

CREATE TABLE contested (            -- rows of tagged boards whose identity was stored with other content
    device    INTEGER NOT NULL REFERENCES device (id),
    boot      INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    gateway   INTEGER NOT NULL REFERENCES gateway (id),
    kind      INTEGER NOT NULL,
    channel   INTEGER NOT NULL,
    value     INTEGER NOT NULL,
    trend     INTEGER NOT NULL,
    uptime_ms INTEGER NOT NULL,
    PRIMARY KEY (device, boot, seq, gateway)
) STRICT, WITHOUT ROWID;

CREATE TABLE proven (               -- tags that matched once: one that comes again under another identity is a replay
    tag       BLOB PRIMARY KEY,
    device    INTEGER NOT NULL REFERENCES device (id),
    boot      INTEGER NOT NULL,
    first_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE alarm (                -- what was found wrong with whose readings, and who brought them
    device        TEXT NOT NULL,
    reason        TEXT NOT NULL,
    gateway       TEXT NOT NULL,
    count         INTEGER NOT NULL,
    boot          INTEGER NOT NULL, -- of the latest
    seq           INTEGER NOT NULL,
    first_unix_ms INTEGER NOT NULL,
    last_unix_ms  INTEGER NOT NULL,
    PRIMARY KEY (device, reason, gateway)
) STRICT, WITHOUT ROWID;
