"""What a payload says of one quantity, as integers in milli-units. Pure.

Numbers are read as decimals, never as binary floats: 21.35 °C is 21350 m°C, and 70 °F is the milli-degree nearest to
190/9 °C. Fahrenheit and kelvin become Celsius: C = (F - 32) * 5/9 and C = K - 273.15 (NIST SP 811, appendix B.8).
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from gateway.errors import MessageRejected
from isocore.record import VALUE_MAX

CELSIUS = "degC"
HUMIDITY = "%RH"
ABSENT = frozenset(("", "unavailable", "unknown", "offline", "none", "null", "nan"))
_NUMBER = re.compile(r"[+-]?(?:\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(?:[eE][+-]?\d{1,2})?", re.ASCII)
_EXPONENT_MAX = 12  # past it no reading; and an exact fraction of 10^(10^6) would take all memory

# What a unit may be called, and what the value becomes: (unit, factor, offset in milli of that unit).
UNITS: dict[str, tuple[str, Fraction, Fraction]] = {
    **dict.fromkeys(("degC", "°C", "C", "celsius"), (CELSIUS, Fraction(1000), Fraction(0))),
    **dict.fromkeys(("degF", "°F", "F", "fahrenheit"), (CELSIUS, Fraction(5000, 9), Fraction(-160000, 9))),
    **dict.fromkeys(("K", "kelvin"), (CELSIUS, Fraction(1000), Fraction(-273150))),
    **dict.fromkeys(("%RH", "%", "%rh"), (HUMIDITY, Fraction(1000), Fraction(0))),
}


def is_absent(value: Any) -> bool:
    """True for what stands where no reading is: null, unavailable, nan and the like."""
    return value is None or (isinstance(value, str) and value.strip().lower() in ABSENT)


def milli(value: Any, unit: str) -> int | None:
    """Milli-units of a number or its text; None when it is past what a record holds.

    Raises MessageRejected("value") for anything else, a truth value included.
    """
    if isinstance(value, str):
        text = value.strip()
        if not _NUMBER.fullmatch(text):
            raise MessageRejected("value", f"{value[:40]!r} is no number")
        value = Decimal(text)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise MessageRejected("value", f"a number is wanted, not {type(value).__name__}")
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise MessageRejected("value", "a number is wanted, not one without end")
        if value and abs(value.adjusted()) > _EXPONENT_MAX:
            return None if value.adjusted() > 0 else _held(Fraction(0), unit)
    elif abs(value) > 10**_EXPONENT_MAX:
        return None
    return _held(Fraction(value), unit)


def _held(value: Fraction, unit: str) -> int | None:
    _, factor, offset = UNITS.get(unit, (unit, Fraction(1000), Fraction(0)))
    found = round(value * factor + offset)  # half to even
    return found if -VALUE_MAX <= found <= VALUE_MAX else None


def unit_of(unit: str) -> str:
    """The unit that values of a unit are kept in."""
    return UNITS[unit][0] if unit in UNITS else unit
