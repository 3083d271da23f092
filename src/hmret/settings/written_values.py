"""How numbers, booleans and lists are written, in whatever source of settings."""

import re

from hmret.settings.source_location import SourceLocation, show

__all__ = [
    "COUNT",
    "COUNT_EXPECTED",
    "GO_BOOLEANS",
    "MAPPINGS_EXPECTED",
    "between_commas",
    "parse_go_boolean",
]

COUNT = re.compile(r"0|[1-9][0-9]{0,17}")
"""A whole number as every source of settings writes it."""
COUNT_EXPECTED = "a whole number, 0 or more, of at most 18 digits"
"""What messages call it."""
MAPPINGS_EXPECTED = "a list, each element a mapping of keys to values"
"""What messages call a list of mappings."""
GO_BOOLEANS = dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True) | dict.fromkeys(
    ("0", "f", "F", "FALSE", "false", "False"), False
)
"""What Go's strconv.ParseBool takes."""


def parse_go_boolean(text: str) -> bool | None:
    """Read a boolean as Go's strconv.ParseBool does; None: it is none."""
    return GO_BOOLEANS.get(text)


def between_commas(place: SourceLocation, text: str, expected: str) -> list[tuple[SourceLocation, str]]:
    """Take a list that is one text with commas; an empty text is an empty list.

    Raises:
        ConfigError: nothing stands between two commas.
    """
    elements = text.split(",") if text else []
    if not all(element.strip() for element in elements):
        raise place.error(f"expected {expected} between commas, got {show(text)!r}")
    return [(place, element) for element in elements]
