"""The gateway: takes frames from the broker, keeps every record in SQLite, acknowledges, and uploads in batches.

`app.py` connects the stages; no stage imports another. Nothing here runs on a board or knows the host tools.
"""

__version__ = "0.1.0"
