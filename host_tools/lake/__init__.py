"""The lake: what receivers stored, as Parquet files that any engine opens. docs/lake.md is its contract.

    store_log -> writer -> snapshot -> storage          rows in, exactly once
                 upkeep -> snapshot                     small files merged, old days folded into windows and dropped
                 query, reader <- snapshot              rows out: SQL, and the trainer's view

`storage` knows bytes by name and nothing else; `snapshot` which files are the lake; `tables` what stands in them. Needs
the extra `cloud` (pyarrow, duckdb, fsspec), so nothing outside this package and its commands may import it at its top.
"""
