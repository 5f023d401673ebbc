"""Numbers in messages, as people read them."""

from __future__ import annotations


def count(number: int, word: str, plural: str = "") -> str:
    """``1 row``, ``3 rows``."""
    return f"{number} {word if number == 1 else plural or word + 's'}"


def figure(value: float) -> str:
    """``0.18``, ``5391.61``, ``12345678``: a measured value, never with an exponent."""
    return f"{value:.0f}" if abs(value) >= 1e6 else f"{value:g}"


def milliseconds(value: float) -> str:
    """``0.42 ms``, ``36.9 ms``, ``1729 ms``."""
    return f"{value:.0f} ms" if value >= 100 else f"{value:.3g} ms"


def lasting(seconds: float) -> str:
    """``5400`` → ``1h30m``; below a minute with the fraction that matters."""
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "m"), (rest, "s")]
    return "".join(f"{number}{unit}" for number, unit in parts if number)
