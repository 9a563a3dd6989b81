-- Windows that the gateway makes of what channels report, and how far those who read behind the store have come.

CREATE TABLE followers (           -- rows before next_row are worked in, in the transaction that moved it
    name     TEXT PRIMARY KEY,
    next_row INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE windows (             -- isocore.aggregate.Window; milli-units, times in ms
    device         INTEGER NOT NULL,
    channel        INTEGER NOT NULL,
    length_s       INTEGER NOT NULL,
    start_s        INTEGER NOT NULL, -- unix time, a multiple of length_s
    revision       INTEGER NOT NULL, -- 0: not closed yet; else rises over all windows, so the highest is the latest
    least          INTEGER,
    greatest       INTEGER,
    last           INTEGER,
    area           INTEGER NOT NULL, -- milli-units times ms
    count          INTEGER NOT NULL,
    covered_ms     INTEGER NOT NULL,
    alarm_ms       INTEGER NOT NULL,
    fault_ms       INTEGER NOT NULL,
    opening        TEXT    NOT NULL, -- JSON [state, unix_ms]: where folding starts again when something comes late
    open_boot      INTEGER,          -- the identity of that state's record, in its order; NULL: not to start from
    open_uptime_ms INTEGER,
    open_seq       INTEGER,
    PRIMARY KEY (device, channel, length_s, start_s)
) WITHOUT ROWID;
CREATE UNIQUE INDEX windows_revision ON windows (revision) WHERE revision > 0;
CREATE INDEX windows_open ON windows (device) WHERE revision = 0;

CREATE TABLE window_channels (     -- where folding stands: JSON [state, [reached_ms of each length]]
    device  INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    state   TEXT    NOT NULL,
    PRIMARY KEY (device, channel)
) WITHOUT ROWID;

CREATE TABLE window_cursors (      -- next revision that a sink will freeze
    sink          TEXT PRIMARY KEY,
    next_revision INTEGER NOT NULL
) WITHOUT ROWID;

-- Records that a sink's policy keeps from it: aggregated are reports that went into windows instead, withheld the rest.
ALTER TABLE ledger_sink ADD COLUMN withheld_reports INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN withheld_events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN withheld_windows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN withheld_notices INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN aggregated_reports INTEGER NOT NULL DEFAULT 0;
