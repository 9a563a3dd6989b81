-- Limits that will be crossed, as the results of analyses say, one row for each sensor and run that foresees it.

CREATE TABLE foresight (
    gateway       INTEGER NOT NULL REFERENCES gateway (id),
    name          TEXT NOT NULL,
    length_s      INTEGER NOT NULL,
    start_unix_s  INTEGER NOT NULL,
    device        TEXT NOT NULL,
    channel       INTEGER NOT NULL,
    value_milli   INTEGER,
    slope_milli_h INTEGER NOT NULL,
    limit_milli   INTEGER NOT NULL,
    cross_s       INTEGER NOT NULL, -- from the window's end on, as the next two
    earliest_s    INTEGER,
    latest_s      INTEGER,
    PRIMARY KEY (gateway, name, length_s, device, channel, start_unix_s)
) STRICT, WITHOUT ROWID;
CREATE INDEX foresight_start ON foresight (start_unix_s);
CREATE INDEX analysis_done ON analysis (gateway, name, length_s, start_unix_s) WHERE result IS NOT NULL;

INSERT OR IGNORE INTO foresight
SELECT a.gateway, a.name, a.length_s, a.start_unix_s, substr(r.value ->> 0, 1, instr(r.value ->> 0, '/') - 1),
       CAST(substr(r.value ->> 0, instr(r.value ->> 0, '/') + 1) AS INTEGER),
       CAST(r.value ->> 1 AS INTEGER), CAST(r.value ->> 4 AS INTEGER), CAST(r.value ->> 5 AS INTEGER),
       CAST(r.value ->> 6 AS INTEGER), CAST(r.value ->> 7 AS INTEGER), CAST(r.value ->> 8 AS INTEGER)
FROM analysis a, json_each(CAST(a.result AS TEXT), '$[3]') r
WHERE a.result IS NOT NULL AND a.foreseen > 0 AND r.value ->> 5 IS NOT NULL AND r.value ->> 6 IS NOT NULL
  AND r.value ->> 4 IS NOT NULL;
