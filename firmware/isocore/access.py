"""Who may use the broker, and for what: the signed document that host and gateway exchange, and mosquitto's list of it.

Payload, JSON inside a signed container of kind ACCESS (sign.py) of at most BYTES_MAX, whose signer is the fleet's root:

    v       1
    fleet   [a-z0-9-]{1,32}
    number  1..2^30-1; only a higher one than the last is taken, so a revoked node cannot be brought back
    nodes   [[name, role], ...]; role: board, gateway or operator. Who is not in it has no topic at all
    crl     the authority's list of revoked certificates, PEM

Boards never see it. It knows no signature, no file and no broker.
"""

import json

from isocore import topics
from isocore.errors import TrustError

VERSION = 1
BYTES_MAX = 65535
NUMBER_MAX = 0x3FFFFFFF
ROLES = ("board", "gateway", "operator")

_CRL_FIRST = "-----BEGIN X509 CRL-----\n"
_CRL_LAST = "-----END X509 CRL-----\n"
_CRL_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\n"
_SAYS = (topics.UP, topics.STATUS, topics.META, topics.HEALTH, topics.MODEL_STATE)
_ANSWERS = (topics.ACK, topics.STATE)
_ORDERS = (topics.MODEL_SET, topics.KEYS_SET)
_WATCHES = _SAYS + (topics.ACK,)  # the operator: a reading has arrived when it is acknowledged
_HEARS = (topics.ACK,) + _ORDERS
_GATEWAY_SAYS = (topics.STATUS, topics.META, topics.HEALTH, topics.MODEL_STATE, topics.STATE, topics.ACCESS_STATE)
_GATEWAY_HEARS = (topics.MODEL_SET, topics.ACCESS_SET)


def parse(payload, fleet):
    """(number, [(name, role), ...], crl) of a document for `fleet`. Raises TrustError and nothing else."""
    try:
        data = json.loads(bytes(payload).decode())
    except (ValueError, UnicodeError, RuntimeError):
        raise TrustError("payload", "is not JSON") from None
    if not isinstance(data, dict) or sorted(data) != ["crl", "fleet", "nodes", "number", "v"]:
        raise TrustError("payload", "must be an object of v, fleet, number, nodes and crl")
    if data["v"] != VERSION or isinstance(data["v"], bool):
        raise TrustError("v", "must be %d" % VERSION)
    if not topics.is_device_id(data["fleet"]) or data["fleet"] != fleet:
        raise TrustError("fleet", "is not this one")
    number = data["number"]
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= NUMBER_MAX:
        raise TrustError("number", "must be an integer between 1 and %d" % NUMBER_MAX)
    return number, _nodes(data["nodes"]), _crl(data["crl"])


def _nodes(data):
    if not isinstance(data, list):
        raise TrustError("nodes", "must be a list")
    seen = set()
    nodes = []
    for entry in data:
        if not isinstance(entry, list) or len(entry) != 2:
            raise TrustError("nodes", "must hold pairs of name and role")
        name, role = entry
        if not topics.is_device_id(name) or name in seen:
            raise TrustError("nodes", "a name is no device id, or comes twice")
        if role not in ROLES:
            raise TrustError("nodes", name + " has an unknown role")
        seen.add(name)
        nodes.append((name, role))
    return nodes


def _crl(text):
    """The list as text; its signature is the broker's to check, which refuses to load another."""
    if not isinstance(text, str) or not text.startswith(_CRL_FIRST) or not text.endswith(_CRL_LAST):
        raise TrustError("crl", "is no list of revoked certificates in PEM form")
    if not all(sign in _CRL_SIGNS for sign in text[len(_CRL_FIRST) : -len(_CRL_LAST)]):
        raise TrustError("crl", "is no list of revoked certificates in PEM form")
    return text


def to_payload(fleet, number, nodes, crl):
    """The one payload of a document. Raises TrustError for what `parse` would refuse."""
    data = {"v": VERSION, "fleet": fleet, "number": number, "nodes": [list(node) for node in nodes], "crl": crl}
    payload = json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    parse(payload, fleet)
    return payload


def acl(nodes):
    """mosquitto's access list (mosquitto.conf(5), acl_file) for `nodes`: an allow-list, a topic at a time.

    Every board has its own topics and no pattern with a wildcard in it, so one that is not named here can neither
    be heard nor spoken to, whatever certificate it shows. Names are device ids: no line can be smuggled in.
    """
    boards = sorted(name for name, role in nodes if role == "board")
    gateways = sorted(name for name, role in nodes if role == "gateway")
    lines = ["# Made from the fleet's registry; a change here is lost at the next one."]
    for name, role in sorted(nodes):
        lines += ["", "user " + name]
        if role == "board":
            lines += _lines("write", name, _SAYS) + _lines("read", name, _HEARS)
            continue
        for board in boards:
            lines += _lines("read", board, _SAYS if role == "gateway" else _WATCHES)
            lines += _lines("write", board, _ANSWERS if role == "gateway" else _ORDERS)
        if role == "gateway":
            lines += _lines("write", name, _GATEWAY_SAYS) + _lines("read", name, _GATEWAY_HEARS)
            continue
        for gateway in gateways:
            lines += _lines("read", gateway, _GATEWAY_SAYS) + _lines("write", gateway, _GATEWAY_HEARS)
    return "\n".join(lines) + "\n"


def _lines(what, name, leaves):
    return ["topic " + what + " " + topics.topic(name, leaf) for leaf in leaves]
