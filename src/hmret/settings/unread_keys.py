"""Keys of a config file that are not read and resemble one that is: probably a slip, by which settings are lost."""

from collections.abc import Collection, Iterator

from hmret.settings.given_values import GivenValue
from hmret.settings.setting_table import SETTING_SCHEMAS
from hmret.settings.source_location import SourceLocation, show

_LIKENESS = 0.8  # `hmert` is that like `hmret`; of hypeman's own keys none is that like one of ours
_SHARED = ("", "images")
"""The sections in which hypeman has keys of its own, so that an unknown one cannot be refused."""


def doubt_keys(root: GivenValue | None) -> Iterator[str]:
    """Yield a warning, one line, for each key of a document that probably stands for one that is read.

    The keys that are read have been checked: those on the way to them are mappings, or null.
    """
    for section in _SHARED:
        if root is None:
            return
        found = root
        if section:
            sections = [*root.fields((section,), prefix="", strict=False)]
            if not sections:
                continue
            found = sections[0]
        yield from _doubt_section(found, f"{section}." if section else "")


def _doubt_section(section: GivenValue, prefix: str) -> Iterator[str]:
    known = dict.fromkeys(
        setting.key.removeprefix(prefix).partition(".")[0]
        for setting in SETTING_SCHEMAS
        if setting.key.startswith(prefix)
    )
    for key, _ in section.pairs():
        if key.text is None or key.merges or key.text in known:
            continue
        meant = _nearest(key.text, known)
        # guard(misspelt-section-is-reported): Pins below a misspelt key protect nothing; the operator learns of it
        # before images go.
        if meant:
            place = SourceLocation(f"{section.file}:{key.line}: {prefix}{show(key.text)}")
            yield str(place.error(f"not read; did you mean {prefix}{meant}?"))


def _nearest(name: str, known: Collection[str]) -> str:
    """Return the known key that a name is probably meant to be; empty: none."""
    import difflib  # noqa: PLC0415 - without a file, or with nothing of hypeman's in it, it is not needed

    nearest = difflib.get_close_matches(show(name).casefold(), known, n=1, cutoff=_LIKENESS)
    return nearest[0] if nearest else ""
