-- Rows that are no longer hot lie in segment files beside this one (segment.sql); this file stays the only one that
-- transactions change, and the only truth about which segment counts. docs/adr/0008-store-segments.md says why.

CREATE TABLE segments (
    segment   INTEGER PRIMARY KEY, -- number; never reused
    file      TEXT    NOT NULL,    -- name beside this file; a rewritten segment gets a new one
    first_row INTEGER NOT NULL,    -- range of row ids it stands for; ranges never overlap
    last_row  INTEGER NOT NULL,
    rows      INTEGER NOT NULL,    -- rows in it
    events    INTEGER NOT NULL,    -- of which events and notices
    bytes     INTEGER NOT NULL,
    digest    TEXT    NOT NULL,    -- SHA-256 of the file, hex
    lived_s   INTEGER NOT NULL,    -- the store's own clock at its sealing: store/keeper.py
    stage     INTEGER NOT NULL     -- how far retention has cut it down: store/retention.py
);
CREATE UNIQUE INDEX segments_rows ON segments (last_row);

CREATE TABLE segment_counts (      -- what a segment holds, known even when its file is damaged
    segment INTEGER NOT NULL,
    device  INTEGER NOT NULL,
    reports INTEGER NOT NULL,
    events  INTEGER NOT NULL,
    windows INTEGER NOT NULL,
    notices INTEGER NOT NULL,
    PRIMARY KEY (segment, device)
) WITHOUT ROWID;

CREATE TABLE sealed (              -- disjoint ranges of identities that were stored and are no longer in `readings`
    device    INTEGER NOT NULL,
    boot      INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq  INTEGER NOT NULL,
    segment   INTEGER NOT NULL,    -- where their rows are, as far as they were kept; 0: gone
    PRIMARY KEY (device, boot, first_seq)
) WITHOUT ROWID;
CREATE INDEX sealed_segment ON sealed (segment);

CREATE TABLE ledger_left (         -- rows that were stored and are here no more
    device  INTEGER NOT NULL,
    why     TEXT    NOT NULL,      -- uploaded | thinned | bytes | days | damaged
    reports INTEGER NOT NULL,
    events  INTEGER NOT NULL,
    windows INTEGER NOT NULL,
    notices INTEGER NOT NULL,
    PRIMARY KEY (device, why)
) WITHOUT ROWID;

-- Windows that thinning made of reports: each stands under the identity of a report that it replaced.
ALTER TABLE ledger ADD COLUMN made_windows INTEGER NOT NULL DEFAULT 0;
-- The same for a sink that had not frozen those reports.
ALTER TABLE ledger_sink ADD COLUMN thinned_reports INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger_sink ADD COLUMN made_windows INTEGER NOT NULL DEFAULT 0;
