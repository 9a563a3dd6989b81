"""The list of keys that may sign models: what the root key signs, and nothing else does.

Payload, JSON inside a signed container of kind KEYS (sign.py), whose signer is the fleet's root:

    v        1
    fleet    [a-z0-9-]{1,32}
    version  1..2^30-1; a board only takes a higher one than it has, so a withdrawn key cannot be brought back
    keys     1 to KEYS_MAX public keys, each 128 hexadecimal digits x || y

A new model key is made known by a list with old and new, and the old one dropped by the next list; after a compromise
by one list with the new key alone. It knows no signature and keeps nothing.
"""

import binascii
import json

from isocore.errors import TrustError
from isocore.topics import is_device_id

VERSION = 1
KEYS_MAX = 4
LIST_MAX = 0x3FFFFFFF


def parse(payload, fleet):
    """(version, [public keys, 64 bytes each]) of a list for `fleet`. Raises TrustError and nothing else."""
    try:
        data = json.loads(bytes(payload).decode())
    except (ValueError, UnicodeError, RuntimeError, MemoryError):
        raise TrustError("payload", "is not JSON") from None
    if not isinstance(data, dict) or sorted(data) != ["fleet", "keys", "v", "version"]:
        raise TrustError("payload", "must be an object of v, fleet, version and keys")
    if data["v"] != VERSION or isinstance(data["v"], bool):
        raise TrustError("v", "must be %d" % VERSION)
    if not is_device_id(data["fleet"]) or data["fleet"] != fleet:
        raise TrustError("fleet", "is not this one")
    version = data["version"]
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= LIST_MAX:
        raise TrustError("version", "must be an integer between 1 and %d" % LIST_MAX)
    found = data["keys"]
    if not isinstance(found, list) or not 1 <= len(found) <= KEYS_MAX:
        raise TrustError("keys", "must be 1 to %d keys" % KEYS_MAX)
    return version, [_key(text) for text in found]


def _key(text):
    if not isinstance(text, str) or len(text) != 128:
        raise TrustError("keys", "a key has 128 hexadecimal digits")
    try:
        return binascii.unhexlify(text)
    except (ValueError, TypeError):
        raise TrustError("keys", "a key has 128 hexadecimal digits") from None


def to_payload(fleet, version, keys):
    """The one payload of a list. Raises TrustError for what `parse` would refuse. Only for hosts."""
    hexed = [binascii.hexlify(key).decode() for key in keys]
    data = {"v": VERSION, "fleet": fleet, "version": version, "keys": hexed}
    payload = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    parse(payload, fleet)
    return payload
