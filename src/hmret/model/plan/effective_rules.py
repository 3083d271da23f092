"""Which of the operator's rules applies to which image, and which images are the newest."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set as AbstractSet
from functools import lru_cache

from hmret.model.images import Image, Repository
from hmret.model.policy.compiled import NEVER, CompiledRule, EffectiveRule, Policy
from hmret.model.values import frozen

_NONE: AbstractSet[str] = frozenset()


@frozen(eq=False)
class EffectiveRules:
    """The rules that apply to the images of one repository."""

    usual: EffectiveRule
    """The rule that applies to an image without tags."""
    by_digest: Mapping[str, tuple[EffectiveRule, ...]]
    """The rules of each image's tags, longest window first, where they may differ from the usual one; empty:
    the usual rule applies to all images.
    """

    def of(self, digest: str) -> EffectiveRule:
        """Return the rule that applies to an image: of its tags' rules, the one with the longest window."""
        return self.by_digest[digest][0] if digest in self.by_digest else self.usual

    def all_of(self, digest: str) -> tuple[EffectiveRule, ...]:
        """List the rules of all tags of an image, longest window first."""
        return self.by_digest.get(digest) or (self.usual,)


@lru_cache(maxsize=64)
def _alike(effective: EffectiveRule) -> EffectiveRules:
    """Return the value for repositories in which one rule applies to all images; all of them share it."""
    return EffectiveRules(effective, {})


def effective_rules(policy: Policy, name: str, repository: Repository | None) -> EffectiveRules:
    """Return the rules that apply to the images of a repository.

    An image is evaluated once for each of its tags, by the first rule that matches that tag (none: the
    general one), and once where it has no tag. Of these results the one that keeps it longest counts: no tag
    of an image can shorten what another one grants.
    """
    general = policy.terms
    if not policy.rules:
        return _alike(general)
    rules = list(_candidates(policy.rules, name, general))
    usual = rules.pop()[1] if rules and rules[-1][0].tags is None else general
    if not rules or repository is None:
        return _alike(usual)
    by_tag = {tag: _rule_of_tag(tag, rules, usual) for tag in repository.tags}
    by_digest = {
        digest: tuple(sorted({by_tag[tag] for tag in tags}, key=_longest_first))
        for digest, tags in tags_by_digest(repository.tags).items()
    }
    return EffectiveRules(
        usual, {digest: effective for digest, effective in by_digest.items() if effective != (usual,)}
    )


def _rule_of_tag(
    tag: str, rules: Iterable[tuple[CompiledRule, EffectiveRule]], usual: EffectiveRule
) -> EffectiveRule:
    """Return the first rule that matches a tag, among the rules that ask for tags."""
    for rule, effective in rules:
        if rule.tags is not None and rule.tags.matches(tag):
            # guard(first-rule-decides): Operators write exceptions before the general rule, so the first rule
            # that matches a tag decides.
            return effective
    return usual


def _longest_first(effective: EffectiveRule) -> tuple[int, int]:
    # guard(longest-keeping-tag-decides): Of several tags, the one that keeps an image longest decides: no
    # rule for one takes away what another gives.
    return -effective.window_ns, effective.rule or 0


def _candidates(
    rules: Iterable[CompiledRule], name: str, general: EffectiveRule
) -> Iterator[tuple[CompiledRule, EffectiveRule]]:
    """List the rules for a repository, with their values, up to the first that matches all of its images."""
    for number, rule in enumerate(rules, 1):
        if rule.match.matches(name):
            yield (
                rule,
                EffectiveRule(
                    general.window_ns if rule.window_ns is None else rule.window_ns,
                    general.keep_latest if rule.keep_latest is None else rule.keep_latest,
                    number,
                ),
            )
            if rule.tags is None:
                return


def latest_of(
    policy: Policy, repository: Repository | None, rules: EffectiveRules, now_ns: int
) -> AbstractSet[str]:
    """List the digests of a repository that are kept for being among its newest.

    They are ordered by `created_at`, then by digest; only images that are ready and complete count. Images
    without a `created_at`, or with one in the future, are kept in addition, since they may be the newest. A
    number stated by a rule is counted among the images of which a tag falls under that rule, the general
    number among all images; an image stays where any of its tags keeps it.
    """
    if repository is None or not policy.keeps_latest:
        return _NONE
    # guard(newest-are-bootable): Only whole, ready images count among the newest, or a broken one would push
    # out the last that boots.
    whole = [
        image
        for image in repository.images.values()
        if image.is_plain and image.digest not in repository.unready
    ]
    whole.sort(key=_age)
    own: defaultdict[int, list[Image]] = defaultdict(list)
    general = frozenset(_newest(whole, policy.keep_latest, now_ns))
    latest: set[str] = set()
    for image in whole:
        # guard(newest-for-any-tag): An image that is among the newest for one of its tags stays, whatever the
        # rules for its other tags say.
        for effective in rules.all_of(image.digest):
            number = effective.rule
            if number is not None and policy.rules[number - 1].keep_latest is not None:
                own[number].append(image)
            elif image.digest in general:
                latest.add(image.digest)
    for number, images in own.items():
        latest.update(_newest(images, policy.rules[number - 1].keep_latest or 0, now_ns))
    return latest


def next_dated_ns(policy: Policy, repository: Repository | None, now_ns: int) -> int:
    """Return when the next image with a future `created_at` takes its place by age; `NEVER`: none does."""
    if repository is None or not policy.keeps_latest:
        return NEVER
    times = (image.created_ns for image in repository.images.values())
    return min((time for time in times if time is not None and time > now_ns), default=NEVER)


def _age(image: Image) -> tuple[int, str]:
    return image.created_ns or 0, image.digest


def _newest(images: Iterable[Image], count: int, now_ns: int) -> Iterator[str]:
    """Yield the newest of images that are sorted by age, and those whose age is unknown."""
    if not count:
        return
    dated: list[str] = []
    for image in images:
        # guard(odd-age-displaces-none): An image with no age, or one from the future, may be the newest: it
        # stays, but takes the place of none.
        if image.created_ns is None or image.created_ns > now_ns:
            yield image.digest
        else:
            dated.append(image.digest)
    yield from dated[-count:]


def tags_by_digest(digests: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """Return the sorted tags of each digest; `digests` maps each tag to its digest."""
    tags: defaultdict[str, list[str]] = defaultdict(list)
    for tag in sorted(digests):
        tags[digests[tag]].append(tag)
    return {digest: tuple(names) for digest, names in tags.items()}
