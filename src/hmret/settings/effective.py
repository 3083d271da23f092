"""A setting as it takes effect: its value, and where that came from."""

from typing import Literal

import attrs

from hmret.model.values import frozen

Source = Literal["default", "file", "environment", "flag"]


@frozen
class EffectiveSetting:
    """One effective value and where it came from."""

    value: object
    """Ready for JSON: durations are seconds, as a float, sizes bytes, shares percentages as text; None: unset."""
    source: Source
    path: str | None = None
    """The file that it was read from; None: it is from elsewhere."""
    where: str | None = attrs.field(default=None, eq=False)
    """The file and line, the variable or the option; None: it is the default."""
