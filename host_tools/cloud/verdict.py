"""What the receiver found out about a row by its board's tag. The numbers are stored: they never change their meaning.

Pure. docs/readings-security.md says what each means, and what to do about it.
"""

from __future__ import annotations

UNCHECKED = 0  # the receiver held no keys when it came
VERIFIED = 1  # its frame was made again from stored columns, and its board's tag matches
UNVERIFIED = 2  # its board tags, and this row came without one
WAITING = 3  # its frame has a tag, and other rows of that frame have not come yet
OFF = 4  # a board of the fleet that does not tag
UNLISTED = 5  # no board of the fleet: a device that the gateway speaks for, or an invented one
THINNED = 6  # had a tag; the gateway ran out of room and thinned what it covered
ALTERED = 10  # a tag that does not match: a value, time, seq or the tag was changed on the way
FORGED = 11  # a tag under the name of a board that is not in the fleet
REPLAYED = 12  # a tag that was this board's for other readings
SWAPPED = 13  # a tag of another board
GENERATION = 14  # a tag with a key from before the board was provisioned anew
REVOKED = 15  # came after its board was revoked
CLONED = 16  # two contents under one identity, both with a matching tag: two boards hold one key
INCOMPLETE = 17  # rows of its frame never came

NAMES = {
    UNCHECKED: "unchecked",
    VERIFIED: "verified",
    UNVERIFIED: "unverified",
    WAITING: "waiting",
    OFF: "off",
    UNLISTED: "unlisted",
    THINNED: "thinned",
    ALTERED: "altered",
    FORGED: "forged",
    REPLAYED: "replayed",
    SWAPPED: "swapped",
    GENERATION: "generation",
    REVOKED: "revoked",
    CLONED: "cloned",
    INCOMPLETE: "incomplete",
}
