"""Rules that are valid but without effect: patterns that match nothing, and rules that an earlier one shadows."""

from collections.abc import Iterator, Sequence

from hmret.model.policy.pattern_doubts import covers, show_pattern, why_never, why_never_tag
from hmret.model.policy.rules import Rule

_MOST_RULES = 300  # the number of rules that are compared with each other


def doubt_rules(rules: Sequence[Rule]) -> Iterator[str]:
    """Yield warnings about rules, one line each; of very many rules only the first are examined."""
    for number, rule in enumerate(rules[:_MOST_RULES], start=1):
        told = f"hmret.rules, rule {number}"
        yield from (f"{told}: {reason}" for reason in map(why_never, rule.match) if reason is not None)
        # guard(impossible-tag-is-reported): A pattern that no tag can match protects nothing; the operator learns of
        # it before images go.
        yield from (f"{told}: {reason}" for reason in map(why_never_tag, rule.tags) if reason is not None)
        yield from (f"{told}: {reason}" for reason in _shadows(rules[: number - 1], rule))
    if rules and _covers_all(rules[0]) and rules[0].unused_for == "never":
        yield "hmret.rules, rule 1: keeps every image, so nothing is eligible for deletion"


def _shadows(before: Sequence[Rule], rule: Rule) -> Iterator[str]:
    """Yield which patterns of a rule have no effect, since earlier rules match everything that they match."""
    match = {pattern: _first_over(before, (pattern,), rule.tags) for pattern in rule.match}
    tags = {tag: _first_over(before, rule.match, (tag,)) for tag in rule.tags}
    if all(found is not None for found in match.values()):
        numbers = sorted({found for found in match.values() if found is not None})
        yield f"never applies, since {_named(numbers)} whatever it does"
        return
    if tags and all(found is not None for found in tags.values()):
        numbers = sorted({found for found in tags.values() if found is not None})
        yield f"never applies, since {_named(numbers)} whatever it does"
        return
    for pattern, found in (match | tags).items():
        if found is not None:
            yield f"pattern {show_pattern(pattern)} never applies, since {_named([found])} whatever it does"


def _first_over(before: Sequence[Rule], match: Sequence[str], tags: Sequence[str]) -> int | None:
    """Return the number of the first rule that matches everything with one of these repositories and tags."""
    for number, other in enumerate(before, start=1):
        has_tags = not other.tags or (bool(tags) and _all_covered(other.tags, tags, of="tag"))
        # guard(shadowed-rule-is-reported): A rule in the shadow of a wider one has no effect; the operator learns of
        # it before images go.
        if has_tags and _all_covered(other.match, match, of="repository"):
            return number
    return None


def _all_covered(wide: Sequence[str], narrow: Sequence[str], *, of: str) -> bool:
    return all(any(covers(other, pattern, of=of) for other in wide) for pattern in narrow)


def _named(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"rule {numbers[0]} matches"
    return f"rules {', '.join(map(str, numbers[:-1]))} and {numbers[-1]} match"


def _covers_all(rule: Rule) -> bool:
    return not rule.tags and any(covers(pattern, "*") for pattern in rule.match)
