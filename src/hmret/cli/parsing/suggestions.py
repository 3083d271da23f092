"""Suggestions for unknown words."""

from collections.abc import Iterable

# A typo must never lead to a suggestion that deletes, runs the engine, or removes what keeps images.
_NEVER_SUGGESTED = (
    "run",
    "sweep",
    "confirm",
    "unlease",
    "--enable",
    "--unused-for",
    "--allow",
    "--yes",
    "--release-brake",
    "--stop-timers",
)


def suggest(given: str, known: Iterable[str]) -> str:
    """Suggest a known word that was probably meant, if it is harmless; empty: none."""
    import difflib  # noqa: PLC0415 - only needed for typos

    names = {name.lstrip("-"): name for name in known if len(name) > len("-o")}
    # Only the closest match counts: if it may not be suggested, no weaker match takes its place.
    nearest = difflib.get_close_matches(given.partition("=")[0].lstrip("-")[:60], names, n=1)
    meant = names[nearest[0]] if nearest else ""
    return f". Did you mean {meant}?" if meant and meant not in _NEVER_SUGGESTED else ""
