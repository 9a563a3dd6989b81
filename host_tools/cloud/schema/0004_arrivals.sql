-- What each batch brought, as runs of seqs: the store as a log that can be read from any batch on. A row of `reading`
-- belongs to the batch that it names, so a run may span rows of other batches; runs of one batch never overlap.

CREATE TABLE arrival (
    batch     INTEGER NOT NULL REFERENCES batch (id),
    device    INTEGER NOT NULL REFERENCES device (id),
    boot      INTEGER NOT NULL,
    first_seq INTEGER NOT NULL,
    last_seq  INTEGER NOT NULL,
    PRIMARY KEY (batch, device, boot, first_seq)
) STRICT, WITHOUT ROWID;

INSERT INTO arrival SELECT batch, device, boot, min(seq), max(seq) FROM reading GROUP BY batch, device, boot;

CREATE INDEX window_batch ON window (batch);
