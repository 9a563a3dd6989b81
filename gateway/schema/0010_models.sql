-- What devices say of their models, as states that follow one another, and how far each sink has frozen them.

CREATE TABLE models (
    revision      INTEGER PRIMARY KEY, -- of when it was said last; rises over all devices, and with windows' revisions
    device        INTEGER NOT NULL,
    began         INTEGER NOT NULL,    -- the revision that it had first: the name of this state of this device
    state         TEXT    NOT NULL,    -- JSON, gateway.models.check_state
    since_unix_ms INTEGER,             -- when it was first heard from the device itself; NULL: never
    heard_unix_ms INTEGER              -- when it was last
);
CREATE INDEX models_device ON models (device, began);

CREATE TABLE model_cursors (           -- next revision that a sink will freeze
    sink          TEXT PRIMARY KEY,
    next_revision INTEGER NOT NULL
) WITHOUT ROWID;

INSERT INTO models
SELECT row_number() OVER (ORDER BY device), device, row_number() OVER (ORDER BY device), model_state, NULL, NULL
FROM devices WHERE model_state IS NOT NULL;
