"""Sizes and shares as an operator writes them: `500GiB`, `85%`."""

import re
from fractions import Fraction

__all__ = ["parse_share", "parse_size"]

_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?(B|[kK]B|[KMGT]iB|[MGT]B)?")
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")
_POWERS = {"k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_MOST = 10**18


def parse_size(text: str) -> int:
    """Read a size in bytes, rounded down: a number and B, kB, MB, GB, TB (thousands) or KiB, MiB, GiB, TiB (1024s).

    Without a unit it is bytes.

    Raises:
        ValueError: it is none, or 10^18 bytes or more.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a size: {text!r}")
    whole, part, unit = match[1], match[2] or "", match[3] or "B"
    base = 1024 if "i" in unit else 1000
    size_bytes = int(Fraction(int(whole + part), 10 ** len(part)) * base ** _POWERS.get(unit[0], 0))
    if size_bytes >= _MOST:
        raise ValueError(f"too large: {text!r}")
    return size_bytes


def parse_share(text: str) -> float:
    """Read a share of a whole, written as a percentage; returns it from 0 to 1.

    Raises:
        ValueError: it is none, or more than 100 %.
    """
    match = _SHARE.fullmatch(text)
    if match is None or float(match[1]) > 100:  # noqa: PLR2004 - per cent
        raise ValueError(f"not a percentage from 0% to 100%: {text!r}")
    return float(Fraction(match[1]) / 100)
