"""Resource quantities ("500m", "2Gi"): their canonical text and their value.

A server stores quantities canonically, so "1000m" comes back as "1"; a client that compares what
it sent with what it got must see the same here.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_FORM = re.compile(r"([+-]?[0-9.]+)([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?")
_DECIMAL = {
    "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def parse(text: str | int | float) -> Decimal:
    """The value of a quantity. Raises ValueError for what is none."""
    return _split(str(text))[0]


def _split(text: str) -> tuple[Decimal, str]:
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(text)
    try:
        number = Decimal(match[1])
    except InvalidOperation:
        raise ValueError(text) from None
    unit = match[2] or ""
    if unit in _BINARY:
        return number * 2 ** _BINARY[unit], unit
    if unit in _DECIMAL:
        return number.scaleb(_DECIMAL[unit]), unit
    return number.scaleb(int(unit[1:])), unit


def canonical(text: str | int | float) -> str:
    """The one way to write this quantity in its own family of units: largest unit, no fraction.

    Raises ValueError for what is no quantity.
    """
    value, unit = _split(str(text))
    if value == 0:
        return "0"
    if unit in _BINARY and value == value.to_integral_value():
        for name, power in reversed(_BINARY.items()):
            if value % 2**power == 0:
                return f"{int(value) // 2**power}{name}"
        return str(int(value))
    for name, power in reversed(_DECIMAL.items()):
        scaled = value.scaleb(-power)
        if scaled == scaled.to_integral_value():
            suffix = f"e{power}" if unit[:1] in ("e", "E") and unit not in _DECIMAL else name
            return f"{int(scaled)}{'' if suffix == 'e0' else suffix}"
    return f"{int(value.scaleb(9).to_integral_value(rounding='ROUND_UP'))}n"
