-- Windows that gateways made of what channels reported: the highest revision of each. Figures in milli-units.

CREATE TABLE window (
    device       INTEGER NOT NULL REFERENCES device (id),
    channel      INTEGER NOT NULL,
    length_s     INTEGER NOT NULL,
    start_unix_s INTEGER NOT NULL,
    revision     INTEGER NOT NULL,
    least        INTEGER,
    mean         INTEGER,
    greatest     INTEGER,
    last         INTEGER,
    reports      INTEGER NOT NULL, -- stamped inside the window; 0: a value carried in
    covered_ms   INTEGER NOT NULL, -- time for which there was a value
    alarm_ms     INTEGER NOT NULL,
    fault_ms     INTEGER NOT NULL,
    batch        INTEGER NOT NULL REFERENCES batch (id),
    PRIMARY KEY (device, channel, length_s, start_unix_s)
) STRICT, WITHOUT ROWID;
