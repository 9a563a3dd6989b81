"""Every error of the lake, and the exit code each ends in.

LakeError            exit 1   the lake cannot be read or written; the text names the file and what to do
+-- NotThere                  no such file; readers look for a newer snapshot, then give up
QueryError           exit 2   the SQL cannot be run as it stands: DuckDB's own words
"""

from __future__ import annotations

from host_tools.errors import HostError, InputError


class LakeError(HostError):
    """The lake cannot be read or written."""


class NotThere(LakeError):
    """A file that is not there."""


class QueryError(InputError):
    """SQL that cannot be run."""
