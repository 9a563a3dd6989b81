"""Checks of single values out of /config.json: each gives the value or raises ConfigError naming the field.

Knows nothing of what the fields mean.
"""

from isonode.errors import ConfigError

PIN_MAX = 63


def keys(where, data, known):
    """An object with no keys but the known ones."""
    if not isinstance(data, dict):
        raise ConfigError(where or "file", "must be an object")
    for name in data:
        if name not in known:
            raise ConfigError(where + "." + name if where else name, "is not a known key")


def text(where, value, shortest=0):
    """A text of `shortest` to 128 characters."""
    if not isinstance(value, str) or not shortest <= len(value) <= 128:
        raise ConfigError(where, "must be a text of %d to 128 characters" % shortest)
    return value


def integer(where, value, low, high):
    """An integer within low..high; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(where, "must be an integer between %d and %d" % (low, high))
    return value


def boolean(where, value):
    """true or false."""
    if not isinstance(value, bool):
        raise ConfigError(where, "must be true or false")
    return value


def entries(where, value, shortest, longest):
    """A list of shortest..longest entries."""
    if not isinstance(value, list) or not shortest <= len(value) <= longest:
        raise ConfigError(where, "must be a list of %d to %d entries" % (shortest, longest))
    return value


def hexadecimal(where, value, size_bytes):
    """Hexadecimal digits into bytes."""
    try:
        if len(value) != size_bytes * 2:
            raise ValueError
        return bytes(int(value[i : i + 2], 16) for i in range(0, size_bytes * 2, 2))
    except (TypeError, ValueError):
        raise ConfigError(where, "must be %d hexadecimal digits" % (size_bytes * 2))


def is_address(value):
    """Whether a text is an IPv4 address in four decimal numbers."""
    parts = value.split(".") if isinstance(value, str) else ()
    return len(parts) == 4 and all(p.isdigit() and len(p) <= 3 and int(p) < 256 for p in parts)


def is_name(value):
    """Whether a text can be a host's name: labels of 1 to 63 letters, digits and hyphens, the last not all digits."""
    labels = value.split(".")
    for label in labels:
        if not 1 <= len(label) <= 63 or label[0] == "-" or label[-1] == "-":
            return False
        for c in label.lower():
            if not ("a" <= c <= "z" or "0" <= c <= "9" or c == "-"):
                return False
    return not labels[-1].isdigit()
