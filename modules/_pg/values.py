"""Values of columns as JSON has them."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Mapping
from typing import Any


def as_json(value: Any) -> Any:
    """A column's value as JSON: numbers as numbers, times in ISO 8601, the rest as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, decimal.Decimal):
        return _number(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | memoryview):
        return f"\\x{bytes(value).hex()}"
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return str(value)


def _number(value: decimal.Decimal) -> int | float | str:
    """A number as JSON has it; as text what no float is large enough for."""
    if not value.is_finite():
        return str(value)
    if not math.isfinite(float(value)):
        return format(value, "f")
    return int(value) if value == value.to_integral_value() else float(value)
