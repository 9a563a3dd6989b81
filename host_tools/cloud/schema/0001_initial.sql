-- Who sent, what arrived, and what is known of the devices. Times are unix milliseconds, values milli-units.

CREATE TABLE gateway (
    id           INTEGER PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    posts        INTEGER NOT NULL DEFAULT 0,  -- answered requests, repeats included
    bytes_uplink INTEGER NOT NULL DEFAULT 0   -- request line, headers and body of those
) STRICT;

CREATE TABLE batch (
    id           INTEGER PRIMARY KEY,
    gateway      INTEGER NOT NULL REFERENCES gateway (id),
    number       INTEGER NOT NULL,
    digest       BLOB NOT NULL,               -- SHA-256 of the body as sent
    lane         TEXT NOT NULL,
    row_count    INTEGER NOT NULL,
    new_count    INTEGER NOT NULL,
    recv_unix_ms INTEGER NOT NULL,            -- just before the commit that stored it
    UNIQUE (gateway, number)
) STRICT;

CREATE TABLE device (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL UNIQUE,
    class TEXT
) STRICT;

CREATE TABLE channel (
    device INTEGER NOT NULL REFERENCES device (id),
    number INTEGER NOT NULL,
    name   TEXT NOT NULL,
    unit   TEXT,
    PRIMARY KEY (device, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE reading (
    device        INTEGER NOT NULL REFERENCES device (id),
    boot          INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    kind          INTEGER NOT NULL,
    channel       INTEGER NOT NULL,
    value         INTEGER NOT NULL,
    trend         INTEGER NOT NULL,
    uptime_ms     INTEGER NOT NULL,
    epoch_unix_ms INTEGER,                    -- unix time at uptime 0
    trusted       INTEGER NOT NULL,           -- 1: the board's own time; 0: the gateway's guess
    batch         INTEGER NOT NULL REFERENCES batch (id),
    PRIMARY KEY (device, boot, seq)
) STRICT, WITHOUT ROWID;

-- Running totals, kept in the transactions they count, so that nothing ever counts the whole table.
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
