"""The model keys that a board goes by: those of the newest list that the fleet's root signed (isocore/keylist.py).

A list comes at provisioning, as a file that is taken in at the next start and then removed, or by topic keys/set. It
counts when its signature, its fleet and a version above the kept one are right, and from one rename on: a cut leaves
the old list or the new one. Kept is what was checked, under a CRC, so that a model costs one verification and not two:

    8 bytes key id of the root, version, SHA-256 of the container, then 64 bytes a key

Another root's lists count as none: whoever provisions the board with another root starts at version 0. Loaded when a
model or a list comes, and forgotten (docs/memory.md). Must not know topics or models.
"""

import hashlib
import os
import struct

from isocore import keylist, sign
from isocore.errors import SignatureError, TrustError
from isonode import durable
from isonode.errors import ModelRefused

_MAGIC = b"IMK1"
_HEAD = "<8sI32s"
_HEAD_BYTES = 44
_KEY_BYTES = 64


def kept(folder, root_key):
    """(version, keys, SHA-256 of the container) of the list in force; version 0 and no keys where there is none."""
    data = durable.load(folder + "/keys", _MAGIC)
    if data is None or len(data) < _HEAD_BYTES:
        return 0, [], b""
    root, version, digest = struct.unpack_from(_HEAD, data, 0)
    if root != sign.key_id(root_key):
        return 0, [], b""
    return version, [data[i : i + _KEY_BYTES] for i in range(_HEAD_BYTES, len(data), _KEY_BYTES)], digest


def take(folder, root_key, fleet, container):
    """Put a list in force. Returns its version, or 0 when it is in force already.

    Raises ModelRefused, and the kept list stays. Takes as long as a model's signature does.
    """
    at, _, known = kept(folder, root_key)
    digest = hashlib.sha256(container).digest()
    if digest == known:
        return 0
    try:
        version, keys = keylist.parse(sign.open_container(container, sign.KIND_KEYS, [root_key]), fleet)
    except SignatureError as error:
        raise ModelRefused(error.reason)
    except TrustError as error:
        raise ModelRefused(error.field)
    if version <= at:
        raise ModelRefused("version")
    try:
        durable.save(
            folder + "/keys", _MAGIC, struct.pack(_HEAD, sign.key_id(root_key), version, digest) + b"".join(keys)
        )
    except OSError:
        raise ModelRefused("storage")
    return version


def take_file(folder, root_key, fleet, path):
    """The same for the file that provisioning left, if it did; it is removed unless there was no room or no memory."""
    try:
        if os.stat(path)[6] > sign.CONTAINER_BYTES_MAX:
            raise ModelRefused("size")
        with open(path, "rb") as file:
            container = file.read()
    except OSError:
        return 0
    try:
        version = take(folder, root_key, fleet, container)
    except ModelRefused as refusal:
        if refusal.reason != "storage":
            _remove(path)
        raise
    _remove(path)
    return version


def _remove(path):
    try:
        os.remove(path)
    except OSError:
        pass  # the next start finds it again, and knows it
