-- Who the sinks are: when each began, and whether it is configured still. A sink that is not holds no reading back from
-- retention. A sink that began later than the store counts what it left out as skipped, so that its ledger reconciles.

CREATE TABLE sinks (
    sink          TEXT    PRIMARY KEY,
    since_unix_ms INTEGER NOT NULL,  -- 0: before this table was
    gone_unix_ms  INTEGER            -- NULL: configured at the latest start; else the first start without it
) WITHOUT ROWID;

INSERT INTO sinks SELECT sink, 0, NULL FROM
    (SELECT sink FROM cursors UNION SELECT sink FROM batches UNION SELECT sink FROM ledger_sink);

ALTER TABLE ledger_sink ADD COLUMN skipped_reports INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN skipped_events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN skipped_windows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN skipped_notices INTEGER NOT NULL DEFAULT 0;
