-- The last messages taken from a broker's persistent session, written with the records that were made of them: what the
-- broker sends again because an acknowledgement was lost is known by it. A ring, so its size is fixed (store/own.py).

CREATE TABLE inbox (
    slot   INTEGER PRIMARY KEY, -- the message's number modulo the size of the ring
    number INTEGER NOT NULL,    -- counts messages; rises for ever
    mid    INTEGER NOT NULL,    -- MQTT packet identifier
    digest BLOB    NOT NULL     -- of topic and payload
);

ALTER TABLE devices ADD COLUMN own INTEGER NOT NULL DEFAULT 0; -- 1: the gateway speaks for it and gives its numbers
