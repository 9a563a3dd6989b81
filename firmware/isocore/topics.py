"""MQTT topic names: the one place where they are spelled.

    iso/1/<device>/up          frames, binary, QoS 0                     board -> gateway
    iso/1/<device>/ack         JSON {"boot","seq",...} after the commit  gateway -> board
    iso/1/<device>/status      "online" / "offline", retained, last will board -> all
    iso/1/<device>/meta        JSON, retained: board, firmware, channels board -> all
    iso/1/<device>/health      JSON, retained: memory, resets, outbox    board -> all
    iso/1/<device>/model/set   signed container, retained                gateway -> board
    iso/1/<device>/model/state JSON, retained: what the board runs       board -> all
    iso/1/<device>/state       JSON decoded by the gateway               gateway -> people
    iso/1/<device>/keys/set    signed list of model keys, retained       operator -> board
    iso/1/<gateway>/access/set   signed: who may use the broker, retained  operator -> gateway
    iso/1/<gateway>/access/state JSON, retained: which of them is in force gateway -> operator

A device id matches [a-z0-9-]{1,32}: no separator and no wildcard of MQTT 3.1.1 clause 4.7 can stand in it.
"""

from isocore.errors import TopicError

ROOT = "iso/1/"
UP = "up"
ACK = "ack"
STATUS = "status"
META = "meta"
HEALTH = "health"
MODEL_SET = "model/set"
MODEL_STATE = "model/state"
STATE = "state"
KEYS_SET = "keys/set"
ACCESS_SET = "access/set"
ACCESS_STATE = "access/state"
BOARD_LEAVES = (UP, ACK, STATUS, META, HEALTH, MODEL_SET, MODEL_STATE, KEYS_SET)
LEAVES = BOARD_LEAVES + (STATE, ACCESS_SET, ACCESS_STATE)

DEVICE_ID_MAX = 32
_ALLOWED = "abcdefghijklmnopqrstuvwxyz0123456789-"


def is_device_id(name):
    """True if `name` is a str that matches [a-z0-9-]{1,32}."""
    if not isinstance(name, str) or not 0 < len(name) <= DEVICE_ID_MAX:
        return False
    return all(c in _ALLOWED for c in name)


def topic(device, leaf):
    """Full topic of a leaf, such as `topic("fridge-1", UP)`. Raises TopicError for a bad id or leaf."""
    if not is_device_id(device):
        raise TopicError("device id must match [a-z0-9-]{1,32}, got " + repr(device))
    if leaf not in LEAVES:
        raise TopicError("no such topic leaf: " + repr(leaf))
    return ROOT + device + "/" + leaf


def parse(name):
    """Split a topic into (device, leaf). Raises TopicError if it is not one of ours."""
    if name.startswith(ROOT):
        device, _, leaf = name[len(ROOT) :].partition("/")
        if is_device_id(device) and leaf in LEAVES:
            return device, leaf
    raise TopicError("not an Isotherm topic: " + repr(name[:80]))
