-- Who fell silent, what each gateway brought today, and rows by time: for questions that ask for a span or for alarms.

ALTER TABLE gateway ADD COLUMN heard_unix_ms INTEGER; -- its last answered batch
ALTER TABLE device ADD COLUMN heard_unix_ms INTEGER;  -- the last batch with rows of it that were not a backlog's

CREATE TABLE silence (
    id            INTEGER PRIMARY KEY,
    kind          TEXT NOT NULL,    -- "device" or "gateway"
    name          TEXT NOT NULL,
    after_s       INTEGER NOT NULL, -- silent for more than this when it was missed
    since_unix_ms INTEGER NOT NULL, -- when it was missed
    until_unix_ms INTEGER           -- when it spoke again; NULL: it is silent
) STRICT;
CREATE UNIQUE INDEX silence_open ON silence (kind, name) WHERE until_unix_ms IS NULL;

CREATE TABLE brought (              -- of the day that quotas are of
    gateway  INTEGER PRIMARY KEY REFERENCES gateway (id),
    unix_day INTEGER NOT NULL,
    rows     INTEGER NOT NULL,
    bytes    INTEGER NOT NULL
) STRICT;

CREATE INDEX reading_time ON reading (device, channel, epoch_unix_ms + uptime_ms) WHERE epoch_unix_ms IS NOT NULL;
CREATE INDEX reading_event ON reading (device, channel, boot, seq) WHERE kind BETWEEN 3 AND 10;
CREATE INDEX event_arrival ON reading (batch) WHERE kind BETWEEN 3 AND 10;
