-- What devices said of their models: the states of each, as each gateway heard them.

CREATE TABLE model (
    device        INTEGER NOT NULL REFERENCES device (id),
    gateway       INTEGER NOT NULL REFERENCES gateway (id),
    began         INTEGER NOT NULL, -- names the state within device and gateway; a later one is greater
    revision      INTEGER NOT NULL, -- the highest that came of it
    since_unix_ms INTEGER,          -- when the device said so first and last; NULL: only a broker did
    heard_unix_ms INTEGER,
    sequence      INTEGER NOT NULL,
    state         TEXT NOT NULL,
    id            TEXT,
    reason        TEXT,
    batch         INTEGER NOT NULL REFERENCES batch (id),
    PRIMARY KEY (device, gateway, began)
) STRICT, WITHOUT ROWID;
