-- Tags of boards' frames, by the rows that a frame brought, so that they go up and leave together with those rows. They
-- replace a table that named a frame by its ends only, from which not every frame could be made again.

DROP TABLE frames;
CREATE TABLE tags (
    first_row     INTEGER NOT NULL, -- the rows that the frame brought; of a frame that brought none, the row after it
    last_row      INTEGER NOT NULL,
    device        INTEGER NOT NULL,
    boot          INTEGER NOT NULL,
    epoch_unix_ms INTEGER,          -- as in the frame's header; NULL: none
    first_seq     INTEGER NOT NULL,
    seqs          TEXT    NOT NULL, -- JSON: how many records, seq rising by 1; or the steps between them
    other         TEXT,             -- JSON: its records whose rows say something else (a LOST, a clone's) or are gone
    tag           BLOB              -- 16 bytes; NULL: rows of it were thinned, so it can prove nothing any more
);
CREATE INDEX tags_rows ON tags (last_row);
