"""Small files that survive a power cut at any write: checksummed, replaced whole or not at all.

littlefs commits a file at close and renames atomically, so a reader finds the old content, the new content, or, when
the file system itself was torn, bytes that fail their CRC; those count as no content. Knows nothing of what it keeps.
"""

import binascii
import os
import struct

_HEAD = "<4sI"  # magic of the owner, CRC-32 of all that follows
_HEAD_BYTES = 8


def save(path, magic, data):
    """Replace the file's content with `data`. Raises OSError; the old content then still stands."""
    new = path + ".new"
    with open(new, "wb") as file:
        file.write(struct.pack(_HEAD, magic, binascii.crc32(data) & 0xFFFFFFFF))
        file.write(data)
        file.flush()
    os.rename(new, path)


def load(path, magic):
    """The content that was last saved, or None when there is none or it cannot be trusted."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError:
        return None
    if len(raw) < _HEAD_BYTES:
        return None
    got, crc = struct.unpack_from(_HEAD, raw, 0)
    data = raw[_HEAD_BYTES:]
    if got != magic or crc != binascii.crc32(data) & 0xFFFFFFFF:
        return None
    return data


def make_folder(path):
    """Create a folder unless it is there."""
    try:
        os.stat(path)
    except OSError:
        os.mkdir(path)
