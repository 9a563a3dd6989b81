-- Who looked at identity alarms, and why they need no more looking at. Nothing of an alarm is ever taken away.

ALTER TABLE alarm ADD COLUMN acked INTEGER NOT NULL DEFAULT 0; -- so many of `count` were acknowledged: above it, it stands
ALTER TABLE alarm ADD COLUMN again_unix_ms INTEGER;            -- the first after all before were acknowledged

CREATE TABLE acknowledgement (
    id      INTEGER PRIMARY KEY,
    device  TEXT NOT NULL,
    reason  TEXT NOT NULL,
    gateway TEXT NOT NULL,
    times   INTEGER NOT NULL, -- of the alarm's count
    who     TEXT NOT NULL,
    why     TEXT NOT NULL,
    unix_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX acknowledgement_alarm ON acknowledgement (device, reason, gateway, id);
