"""Which of the operator's rules holds for which image, and which images are the newest."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set as AbstractSet
from functools import lru_cache

import attrs

from hmret.model.images import Image, Repository
from hmret.model.policy import Policy, Terms, TermsRule

__all__ = ["RepositoryTerms", "latest_of", "tags_by_digest", "terms_of"]

_NONE: AbstractSet[str] = frozenset()


@attrs.frozen(eq=False)
class RepositoryTerms:
    """What holds for the images of one repository."""

    usual: Terms
    """What holds where nothing else is said."""
    by_digest: Mapping[str, Terms]
    """Of each image, where it may differ; empty: the usual terms hold for all."""

    def of(self, digest: str) -> Terms:
        """Tell what holds for an image."""
        return self.by_digest.get(digest, self.usual)


@lru_cache(maxsize=64)
def _alike(terms: Terms) -> RepositoryTerms:
    """Say that the same holds for all images; one value for all repositories of which that is so."""
    return RepositoryTerms(terms, {})


def terms_of(policy: Policy, name: str, repository: Repository | None) -> RepositoryTerms:
    """Tell what holds for the images of a repository: of the rules that match an image the first."""
    general = policy.terms
    if not policy.rules:
        return _alike(general)
    rules = list(_candidates(policy.rules, name, general))
    usual = rules.pop()[1] if rules and rules[-1][0].tags is None else general
    if not rules or repository is None:
        return _alike(usual)
    by_digest: dict[str, Terms] = {}
    for digest, tags in tags_by_digest(repository).items():
        for rule, terms in rules:
            if rule.tags is not None and any(map(rule.tags.matches, tags)):
                by_digest[digest] = terms
                break
    return RepositoryTerms(usual, by_digest)


def _candidates(rules: Iterable[TermsRule], name: str, general: Terms) -> Iterator[tuple[TermsRule, Terms]]:
    """List the rules for a repository, with their terms, up to the first that matches all of its images."""
    for number, rule in enumerate(rules, 1):
        if rule.match.matches(name):
            yield (
                rule,
                Terms(
                    general.window_ns if rule.window_ns is None else rule.window_ns,
                    general.keep_latest if rule.keep_latest is None else rule.keep_latest,
                    number,
                ),
            )
            if rule.tags is None:
                return


def latest_of(policy: Policy, repository: Repository | None, terms: RepositoryTerms) -> AbstractSet[str]:
    """List the digests of a repository that stay for being among its newest.

    By `created_at`, then by digest; only images that are ready and whole count. Those that state no `created_at` stay
    beside the newest, as they may be. A number that a rule states is counted among the images for which that rule
    holds, the general one among all.
    """
    if repository is None or not policy.keeps_latest:
        return _NONE
    whole = [
        image
        for image in repository.images.values()
        if image.status == "ready" and image.broken is None and image.digest not in repository.unready
    ]
    whole.sort(key=_age)
    own: defaultdict[int, list[Image]] = defaultdict(list)
    general = frozenset(_newest(whole, policy.keep_latest))
    latest: set[str] = set()
    for image in whole:
        number = terms.of(image.digest).rule
        if number is not None and policy.rules[number - 1].keep_latest is not None:
            own[number].append(image)
        elif image.digest in general:
            latest.add(image.digest)
    for number, images in own.items():
        latest.update(_newest(images, policy.rules[number - 1].keep_latest or 0))
    return latest


def _age(image: Image) -> tuple[int, str]:
    return image.created_ns or 0, image.digest


def _newest(images: Iterable[Image], count: int) -> Iterator[str]:
    """Pick the newest of images that are sorted by age, and those that may be."""
    if not count:
        return
    dated = [image.digest for image in images if image.created_ns is not None]
    yield from dated[-count:]
    yield from (image.digest for image in images if image.created_ns is None)


def tags_by_digest(repository: Repository) -> Mapping[str, tuple[str, ...]]:
    """List the tags of each digest, sorted."""
    tags: defaultdict[str, list[str]] = defaultdict(list)
    for tag in sorted(repository.tags):
        tags[repository.tags[tag]].append(tag)
    return {digest: tuple(names) for digest, names in tags.items()}
