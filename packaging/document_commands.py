"""The reference of the commands, made from the texts of --help."""

from collections import Counter
from collections.abc import Iterator

from man_pages import help_of

from hmret.cli.parsing.command_table import COMMANDS, GROUPS

__all__ = ["commands_reference"]

_SHARED = 3  # an option that means the same in more commands than this is described once


def commands_reference() -> str:
    """Make a section for each command, and one for the options that many share."""
    return "\n".join(_sections())


def _sections() -> Iterator[str]:
    groups = [(group, name) for group, names in GROUPS.items() for name in names]
    texts = {" ".join(path): help_of(*path) for path in sorted([*((name,) for name in COMMANDS), *groups])}
    counted = Counter(
        entry for _, _, sections in texts.values() for _, entries in sections for entry in entries
    )
    shared = [entry for entry, count in counted.items() if count > _SHARED and entry[0].startswith("-")]
    _, paragraphs, _ = help_of()
    yield from (f"{_escape(paragraph)}\n" for paragraph in paragraphs)
    for name, (usage, paragraphs, sections) in texts.items():
        yield f"## {name}\n\n```text\n{usage}\n```\n"
        yield from (f"{_escape(paragraph)}\n" for paragraph in paragraphs)
        entries = [entry for _, entries in sections for entry in entries]
        yield from _table([entry for entry in entries if entry not in shared])
        also = [f"`{option.partition(' ')[0].rstrip(',')}`" for option, _ in entries if (option, _) in shared]
        if also:
            yield f"Also: {', '.join(also)} ([options of many commands](#options-of-many-commands)).\n"
    yield "## Options of many commands\n"
    yield from _table(shared)


def _table(entries: list[tuple[str, str]]) -> Iterator[str]:
    if entries:
        yield "| | |\n|---|---|"
        yield from (f"| `{name}` | {_escape(meaning)} |" for name, meaning in entries)
        yield ""


def _escape(text: str) -> str:
    for char in ("\\", "*", "_", "|", "[", "]", "<", "$"):
        text = text.replace(char, f"\\{char}")
    return text
