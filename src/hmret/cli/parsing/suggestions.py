"""What was probably meant by a word that nothing is called."""

from collections.abc import Iterable

__all__ = ["suggest"]

# A slip of the hand must not be helped to delete, to run, or to take away what keeps images.
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
    """Suggest what was probably meant, so far as that does no harm where it was not; empty: nothing."""
    import difflib  # noqa: PLC0415 - most words are typed as they are

    names = {name.lstrip("-"): name for name in known if len(name) > len("-o")}
    # The nearest of all, so that what is not suggested is not replaced by something else that looks a little like it.
    nearest = difflib.get_close_matches(given.partition("=")[0].lstrip("-")[:60], names, n=1)
    meant = names[nearest[0]] if nearest else ""
    return f". Did you mean {meant}?" if meant and meant not in _NEVER_SUGGESTED else ""
