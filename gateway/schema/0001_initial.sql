-- First schema of the gateway's store. Applied in one transaction; PRAGMA user_version becomes 1.

CREATE TABLE properties (          -- single values: batch counter, notes of a set-aside file
    key   TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;

CREATE TABLE devices (             -- dictionary: rows carry the small number
    device            INTEGER PRIMARY KEY,
    name              TEXT    NOT NULL UNIQUE,
    class             TEXT,
    meta              TEXT,        -- last meta, JSON as received
    status            TEXT,
    model_state       TEXT,
    health            TEXT,
    last_seen_unix_ms INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE boots (               -- watermark of each boot of a device
    device        INTEGER NOT NULL,
    boot          INTEGER NOT NULL,
    covered       INTEGER NOT NULL, -- every seq up to here is stored or accounted for: what an ack may name
    top           INTEGER NOT NULL, -- highest seq stored or accounted for
    epoch_unix_ms INTEGER,          -- unix time in ms at uptime 0, best known
    epoch_source  INTEGER NOT NULL, -- 0 receive time, 1 meta's uptime, 2 the board's trusted time
    closed        INTEGER NOT NULL, -- 1: the board said that it holds nothing of this boot any more
    PRIMARY KEY (device, boot)
) WITHOUT ROWID;

CREATE TABLE readings (
    id            INTEGER PRIMARY KEY, -- order of arrival; never reused
    device        INTEGER NOT NULL,
    boot          INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    kind          INTEGER NOT NULL,
    channel       INTEGER NOT NULL,
    value         INTEGER NOT NULL, -- milli-units, or what isocore.record says of the kind
    trend         INTEGER NOT NULL, -- milli-units a minute
    uptime_ms     INTEGER NOT NULL,
    epoch_unix_ms INTEGER NOT NULL,
    trusted       INTEGER NOT NULL, -- 1: the frame carried the epoch; 0: the gateway estimated it
    recv_unix_ms  INTEGER NOT NULL
);
CREATE UNIQUE INDEX readings_identity ON readings (device, boot, seq);
CREATE INDEX readings_events ON readings (id) WHERE kind BETWEEN 3 AND 12; -- the alarm lane reads only these

CREATE TABLE frames (              -- tagged frames only: what the cloud needs to check a board's HMAC
    device        INTEGER NOT NULL,
    boot          INTEGER NOT NULL,
    first_seq     INTEGER NOT NULL,
    last_seq      INTEGER NOT NULL,
    epoch_unix_ms INTEGER,          -- as in the frame's header; NULL: none
    tag           BLOB    NOT NULL,
    PRIMARY KEY (device, boot, first_seq, last_seq)
) WITHOUT ROWID;

CREATE TABLE holes (               -- disjoint ranges of identities that will never come, less the rows held in them
    device    INTEGER NOT NULL,
    boot      INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq  INTEGER NOT NULL,
    reason    TEXT    NOT NULL,    -- lost: the board said so; gap: it no longer holds them and never said why
    PRIMARY KEY (device, boot, first_seq)
) WITHOUT ROWID;

CREATE TABLE ledger (              -- what became of each record, kept in the transaction that stores it
    device         INTEGER PRIMARY KEY,
    received       INTEGER NOT NULL DEFAULT 0,
    stored_reports INTEGER NOT NULL DEFAULT 0,
    stored_events  INTEGER NOT NULL DEFAULT 0,
    stored_windows INTEGER NOT NULL DEFAULT 0,
    duplicates     INTEGER NOT NULL DEFAULT 0,
    conflicts      INTEGER NOT NULL DEFAULT 0, -- same identity, other content: a clone, or a forgery
    lost           INTEGER NOT NULL DEFAULT 0,
    gap            INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE ledger_sink (
    sink                TEXT    NOT NULL,
    device              INTEGER NOT NULL,
    uploaded_reports    INTEGER NOT NULL DEFAULT 0,
    uploaded_events     INTEGER NOT NULL DEFAULT 0,
    uploaded_windows    INTEGER NOT NULL DEFAULT 0,
    quarantined_reports INTEGER NOT NULL DEFAULT 0,
    quarantined_events  INTEGER NOT NULL DEFAULT 0,
    quarantined_windows INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (sink, device)
) WITHOUT ROWID;

CREATE TABLE cursors (             -- next row a lane will freeze; rows before it are in a batch, or in `backfill`
    sink     TEXT    NOT NULL,
    lane     TEXT    NOT NULL,
    next_row INTEGER NOT NULL,
    PRIMARY KEY (sink, lane)
) WITHOUT ROWID;

CREATE TABLE backfill (            -- ranges the live lane left behind
    sink     TEXT    NOT NULL,
    last_row INTEGER NOT NULL,
    next_row INTEGER NOT NULL,
    PRIMARY KEY (sink, last_row)
) WITHOUT ROWID;

CREATE TABLE batches (             -- frozen and not yet stored by the sink; gone once its reply came
    sink            TEXT    NOT NULL,
    batch           INTEGER NOT NULL,
    lane            TEXT    NOT NULL,
    first_row       INTEGER NOT NULL,
    last_row        INTEGER NOT NULL,
    rows            INTEGER NOT NULL,
    counts          TEXT    NOT NULL, -- JSON [[device, reports, events, windows], ...]
    encoding        TEXT    NOT NULL,
    digest          TEXT    NOT NULL, -- SHA-256 of body, hex
    body            BLOB    NOT NULL,
    state           TEXT    NOT NULL, -- pending | quarantined
    reason          TEXT,
    frozen_unix_ms  INTEGER NOT NULL,
    PRIMARY KEY (sink, batch)
);
CREATE INDEX batches_state ON batches (sink, state, batch);
