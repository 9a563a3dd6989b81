-- Alarms that the gateway's rules raised: those that stand, and a bounded history. gateway/alarms.py is their life.

CREATE TABLE alarms (
    alarm           INTEGER PRIMARY KEY, -- number; rises, never reused
    rule            TEXT    NOT NULL,
    device          TEXT    NOT NULL,    -- "": the gateway itself, or several devices
    channel         TEXT    NOT NULL,    -- "": the device as a whole
    severity        TEXT    NOT NULL,
    text            TEXT    NOT NULL,
    value_milli     INTEGER,
    raised_unix_ms  INTEGER NOT NULL,
    acked_unix_ms   INTEGER,
    cleared_unix_ms INTEGER
);
CREATE UNIQUE INDEX alarms_standing ON alarms (rule, device, channel) WHERE cleared_unix_ms IS NULL;

CREATE TABLE notices (                   -- what a webhook or a command has still to be told
    notice INTEGER PRIMARY KEY,
    output TEXT NOT NULL,
    event  TEXT NOT NULL                 -- JSON
);
