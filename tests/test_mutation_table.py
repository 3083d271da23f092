"""Every mutation finds its anchor in the sources as they are, and every anchor has a mutation that takes it away."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from mutations.anchors import anchors_of
from mutations.check import complaints
from mutations.mutation import ALWAYS, DROP, NEVER, Become, Change, Mutation, Swap
from mutations.run import EVERY, ROOT

TESTS = ("tests/test_mutation_table.py",)
PYTHON = """\
def look(at):
    # guard(whole): Only what is whole counts,
    # and nothing else does.
    if at.whole and (at.ready or at.old):
        # guard(first): It comes first.
        count(at, at.whole)  # once
        return 1
    # guard(else): There is no other.
    elif at.old:
        return 2
    # guard(both): One anchor.
    # guard(again): Another one.
    return tell(
        at,
    )
"""
C = """\
/* guard(flags): No link is followed. */
#define FLAGS (O_RDONLY | \\
               O_NOFOLLOW)

static int look(int at)
{
    /* guard(whole): Only what is whole counts,
       and nothing else does. */
    if (at && (is_whole(at) || ';' == at)) {
        /* guard(first): It comes first. */
        count(at); /* once */
        return 1;
    } else if (at)
        return 2;
    /* guard(both): One anchor. */
    /* another comment; */
    return tell(at, "};");
}
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "look.py").write_text(PYTHON)
    return tmp_path


def changed(source: Path, guard: str, change: Change) -> str:
    (text,) = Mutation("m", ((guard, change),), TESTS).apply(source).values()
    return text


def listed() -> Iterator[Mutation]:
    """Go through all tables that stand beside the program."""
    for path in sorted((ROOT / "tests/mutations").glob("*.py")):
        for name, value in vars(import_module(f"mutations.{path.stem}")).items():
            if name.endswith("MUTATIONS"):
                yield from value


def test_anchors_and_mutations_belong_together() -> None:
    assert list(complaints(ROOT / "src/hmret", EVERY)) == []


def test_every_table_is_run() -> None:
    assert set(listed()) == set(EVERY)


@pytest.mark.parametrize(
    ("guard", "change", "before", "after"),
    [
        ("whole", NEVER, "if at.whole and (at.ready or at.old):", "if False:"),
        ("whole", Swap(" and (at.ready or at.old)", ""), " and (at.ready or at.old):\n", ":\n"),
        ("whole", Swap("at.whole", "True"), "if at.whole and", "if True and"),
        ("first", DROP, "count(at, at.whole)  # once", "pass  # once"),
        ("first", Become("a()\nb()"), "count(at, at.whole)  #", "a()\n        b()  #"),
        ("else", ALWAYS, "elif at.old:", "elif True:"),
        ("both", DROP, "return tell(\n        at,\n    )", "pass"),
        ("again", Swap("at,", "None,"), "        at,\n", "        None,\n"),
    ],
)
def test_the_statement_below_an_anchor_changes_and_nothing_else(
    source: Path, guard: str, change: Change, before: str, after: str
) -> None:
    assert PYTHON.count(before) == 1
    assert changed(source, guard, change) == PYTHON.replace(before, after)


@pytest.mark.parametrize(
    ("guard", "change", "before", "after"),
    [
        ("flags", Swap("O_NOFOLLOW", "0"), "O_NOFOLLOW", "0"),
        ("whole", NEVER, "if (at && (is_whole(at) || ';' == at)) {", "if (0) {"),
        ("whole", ALWAYS, "if (at && (is_whole(at) || ';' == at)) {", "if (1) {"),
        ("first", DROP, "count(at); /* once */", "; /* once */"),
        ("both", Swap('"};"', '""'), '"};"', '""'),
        ("both", Become("return 0;"), 'return tell(at, "};");', "return 0;"),
    ],
)
def test_so_does_that_of_one_in_c(source: Path, guard: str, change: Change, before: str, after: str) -> None:
    (source / "look.py").unlink()
    (source / "look.c").write_text(C)
    assert C.count(before) == 1
    assert changed(source, guard, change) == C.replace(before, after)


@pytest.mark.parametrize(
    ("guard", "change", "message"),
    [
        ("gone", DROP, "no guard(gone)"),
        ("whole", Swap("count", "tell"), "'count' stands there 0 times"),
        ("whole", Swap("at", "None"), "'at' stands there 3 times"),
        ("both", NEVER, "the statement has no condition"),
    ],
)
def test_a_mutation_that_finds_nothing_says_what(
    source: Path, guard: str, change: Change, message: str
) -> None:
    with pytest.raises(LookupError) as caught:
        changed(source, guard, change)
    assert message in str(caught.value)


def test_two_changes_of_one_file_are_both_made(source: Path) -> None:
    (text,) = Mutation("m", (("whole", NEVER), ("else", ALWAYS)), TESTS).apply(source).values()
    assert "if False:" in text
    assert "elif True:" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# guard(Whole): x.\npass\n", "not `guard(some-name): …`"),
        ("# guard(whole) x.\npass\n", "not `guard(some-name): …`"),
        ("pass\n# guard(whole): x.\n", "no statement below guard(whole)"),
        ("x = [\n    # guard(whole): x.\n    1,\n]\ny = 1\n", "no statement below guard(whole)"),
        ("# guard(first): x.\npass\n", "guard(first) stands in"),
    ],
)
def test_an_anchor_that_is_none_is_an_error(source: Path, text: str, message: str) -> None:
    (source / "other.py").write_text(text)
    with pytest.raises(LookupError) as caught:
        anchors_of(source)
    assert message in str(caught.value)
    assert message in next(complaints(source, ()))


def test_what_does_not_belong_together_is_listed(source: Path) -> None:
    found = "\n".join(
        complaints(
            source,
            [
                Mutation("one", (("whole", NEVER),), ("tests/gone.py",)),
                Mutation("one", (("gone", DROP),), ()),
                Mutation("same", (("first", Become("count(at, at . whole)")),), TESTS),
                Mutation("odd", (("first", Become("count(nothing)")),), TESTS),
                Mutation("rest", (("else", DROP), ("both", DROP), ("again", DROP)), TESTS),
            ],
        )
    )
    assert "one: stands in the table 2 times" in found
    assert "one: there is no tests/gone.py" in found
    assert "one: no test is to notice it" in found
    assert "one: no guard(gone)" in found
    assert "same: it changes nothing in" in found
    assert "odd: F821 Undefined name `nothing`" in found
    assert "no mutation takes" not in found
    assert f"{source}/look.py: no mutation takes guard(first) away" in list(complaints(source, ()))
