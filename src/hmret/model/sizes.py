"""Sizes and shares as an operator writes them: `500GiB`, `85%`."""

import re
from decimal import Decimal
from fractions import Fraction

_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?(B|[kK]B|[KMGT]iB|[MGT]B)?")
_SHARE = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,330})?%")  # no float needs more digits
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_UNITS = [
    (base**power, unit)
    for power, letter in ((4, "T"), (3, "G"), (2, "M"), (1, "K"))
    for base, unit in ((1024, f"{letter}iB"), (1000, f"{letter}B".replace("K", "k")))
]
_MOST = 10**18


def parse_size(text: str) -> int:
    """Read a size in bytes, rounded down: a number and B, kB, MB, GB, TB (thousands) or KiB, MiB, GiB, TiB (1024s).

    Without a unit it is bytes.

    Raises:
        ValueError: it is none, 10^18 bytes or more, or less than one byte and yet not 0, which means
            something else.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    whole, part, unit = match[1], match[2] or "", match[3] or "B"
    base = 1024 if "i" in unit else 1000
    number = int(whole + part)
    size_bytes = int(Fraction(number, 10 ** len(part)) * base ** _POWERS.get(unit[0], 0))
    if size_bytes >= _MOST:
        raise ValueError(f"too large: {text!r}")
    if number and not size_bytes:
        raise ValueError(f"less than one byte: {text!r}")
    return size_bytes


def format_exact_size(size_bytes: int) -> str:
    """Write a size with the largest unit of which it is a whole number, as `parse_size` reads it: `500GiB`, `1001`."""
    for unit_bytes, unit in _UNITS:
        if size_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes}{unit}"
    return str(size_bytes)


def parse_share(text: str) -> float:
    """Read a share of a whole, written as a percentage; returns it from 0 to 1.

    Raises:
        ValueError: it is none, or more than 100 %.
    """
    share = Fraction(text[:-1]) / 100 if _SHARE.fullmatch(text) else None
    if share is None or share > 1:
        raise ValueError(f"not a percentage from 0% to 100%: {text!r}")
    return float(share)


def format_share(share: float) -> str:
    """Write a share of a whole from 0 to 1 as a percentage with as few digits as `parse_share` needs for the same."""
    if not share:
        return "0%"
    sign, digits, exponent = Decimal(repr(float(share))).as_tuple()
    assert isinstance(exponent, int)
    text = (
        f"{Decimal((sign, digits, exponent + 2)):f}"  # without arithmetic, which would round to its context
    )
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}%"
