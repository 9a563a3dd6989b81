-- LOST records get a class of their own in the ledger (a board's events_sent does not count them), and batches that a
-- person dropped from quarantine get an outcome of their own. Sinks' figures of before stay as they were counted.

ALTER TABLE ledger ADD COLUMN stored_notices INTEGER NOT NULL DEFAULT 0; -- LOST records
ALTER TABLE ledger_sink ADD COLUMN uploaded_notices INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN quarantined_notices INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN dropped_reports INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN dropped_events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN dropped_windows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN dropped_notices INTEGER NOT NULL DEFAULT 0;

UPDATE ledger SET stored_notices = (
    SELECT count(*) FROM readings AS r WHERE r.kind BETWEEN 3 AND 12 AND r.kind = 11 AND r.device = ledger.device
);
UPDATE ledger SET stored_events = stored_events - stored_notices;
