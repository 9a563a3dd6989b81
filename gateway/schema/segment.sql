-- A segment: a whole file of rows, written once, synced, and never changed. It carries its own dictionary, so that its
-- rows can be taken over when the main file is lost. Indexes are made after the rows (store/segments.py).

CREATE TABLE segment (             -- one row; store: which main file wrote it
    store TEXT NOT NULL, number INTEGER NOT NULL, first_row INTEGER NOT NULL, last_row INTEGER NOT NULL,
    lived_s INTEGER NOT NULL, stage INTEGER NOT NULL
);
CREATE TABLE devices (device INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, class TEXT, meta TEXT);
CREATE TABLE readings (            -- as in the main file
    id INTEGER PRIMARY KEY, device INTEGER NOT NULL, boot INTEGER NOT NULL, seq INTEGER NOT NULL,
    kind INTEGER NOT NULL, channel INTEGER NOT NULL, value INTEGER NOT NULL, trend INTEGER NOT NULL,
    uptime_ms INTEGER NOT NULL, epoch_unix_ms INTEGER NOT NULL, trusted INTEGER NOT NULL, recv_unix_ms INTEGER NOT NULL
);
CREATE TABLE tags (                -- as in the main file; of a frame whose rows lie in two segments, in both
    first_row INTEGER NOT NULL, last_row INTEGER NOT NULL, device INTEGER NOT NULL, boot INTEGER NOT NULL,
    epoch_unix_ms INTEGER, first_seq INTEGER NOT NULL, seqs TEXT NOT NULL, other TEXT, tag BLOB
);
CREATE TABLE ranges (              -- identities that it stands for, whether or not their rows were kept
    device INTEGER NOT NULL, boot INTEGER NOT NULL, first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
    PRIMARY KEY (device, boot, first_seq)
) WITHOUT ROWID;
