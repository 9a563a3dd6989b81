-- Rows that a later batch changed: a tag proved or disproved them (store_tags.py). Who reads the store as a log reads them
-- again under the batch that changed them. Changes by the batch that brought a row are part of its coming.

ALTER TABLE reading ADD COLUMN changed INTEGER; -- id of the batch that changed it last, above its own

CREATE INDEX reading_changed ON reading (changed) WHERE changed IS NOT NULL;

CREATE TRIGGER reading_changed
AFTER UPDATE OF kind, channel, value, trend, uptime_ms, epoch_unix_ms, trusted, verdict ON reading
WHEN OLD.batch < (SELECT max(id) FROM batch)
BEGIN
    UPDATE reading SET changed = (SELECT max(id) FROM batch)
    WHERE device = OLD.device AND boot = OLD.boot AND seq = OLD.seq;
END;
