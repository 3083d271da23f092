"""Where a setting was read, and the errors about it, each of one line."""

from collections.abc import Collection

from hmret.model.errors import ConfigError
from hmret.model.values import frozen


@frozen
class SourceLocation:
    """Where a value was read: a line of a file and its key, an environment variable or a flag."""

    text: str

    def within(self, name: str) -> "SourceLocation":
        """Return the location of a part of this value."""
        return SourceLocation(f"{self.text}, {name}")

    def error(self, problem: str) -> ConfigError:
        """Make the error of exactly one line that reports a problem with the value."""
        message = f"{self.text}: {problem}"
        return ConfigError("".join(char if char.isprintable() else ascii(char)[1:-1] for char in message))


def show(text: str, limit: int = 60) -> str:
    """Shorten a text that a message quotes to `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def name_unknown(name: str, known: Collection[str]) -> str:
    """Return the message about an unknown name: the known one that it resembles most, and all known ones."""
    import difflib  # noqa: PLC0415 - most names are known

    nearest = difflib.get_close_matches(show(name), known, n=1)
    suggestion = f"did you mean {nearest[0]}? " if nearest else ""
    return f"unknown, {suggestion}known are {', '.join(known)}"
