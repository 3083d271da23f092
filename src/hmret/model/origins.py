"""Whether an image can be pulled again.

Nothing in hypeman's metadata tells an image that was built or pushed on this host from one that was pulled.
The evidence is a label, the records of builds, and the repository under which the image is kept.
"""

import re
from collections.abc import Iterable, Mapping, Set as AbstractSet
from typing import Self

import attrs

from hmret.model.errors import InvalidReferenceError
from hmret.model.references import parsed
from hmret.model.values import frozen

LABEL = "io.hmret.pullable"
"""The label of an image that says, as `true` or `false`, whether it can be pulled again; it overrides other
evidence.
"""

_LOCAL = re.compile(
    r"(?:(?:[^/]*\.)?localhost(?:\.localdomain)?|ip6-(?:localhost|loopback)|127\.[0-9.]+|0(?:\.0\.0\.0)?"
    r"|\[(?:::1?|0*(?::0*){1,7}:0*1|::ffff:127\.[0-9.]+|::ffff:7f[0-9a-f]{2}:[0-9a-f]{1,4})\])(?::[0-9]+)?/.*",
    re.IGNORECASE | re.DOTALL,
)

_BUILD = re.compile(r"[^/]+/builds/[^/]+")
"""Where hypeman keeps what it has built, under whatever host its registry had at the time."""
_BUILDER = "/internal/builder"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_local(repository: str) -> bool:
    """Return whether the registry of a repository is this very host, from which nothing can be pulled again.

    That is `localhost` and its subdomains, 127.0.0.0/8, `0.0.0.0`, `[::1]` and `[::]`, with or without a
    port. Every other host counts as a remote registry: a name alone does not show what it resolves to.
    """
    return _LOCAL.fullmatch(repository) is not None


@frozen
class Origins:
    """The repositories whose images were made on this host."""

    registry: str = ""
    """Host and port of hypeman's own registry; empty: unknown."""
    builder: str = ""
    """The repository of the image in which hypeman builds; empty: the default one."""

    @classmethod
    def of(cls, registry_url: str, builder_image: str) -> Self:
        """Read hypeman's settings `registry.url` (with a scheme or without) and `build.builder_image`."""
        host = registry_url[match.end() :] if (match := _SCHEME.match(registry_url)) else registry_url
        builder = ""
        if builder_image:
            try:
                builder = parsed(builder_image).repository
            except InvalidReferenceError:
                builder = builder_image
        return cls(host.partition("/")[0], builder)

    def are_here(self, repository: str) -> bool:
        """Return whether a repository's images were made on this host, so that they cannot be pulled again."""
        # guard(builds-are-irreplaceable): Images that hypeman built on this host cannot be pulled again, so
        # they stay unless the operator says otherwise.
        return (
            repository.endswith(_BUILDER)
            or _BUILD.fullmatch(repository) is not None
            or repository == self.builder
            or repository.partition("/")[0] == self.registry
            or is_local(repository)
        )


@frozen
class Builds:
    """The images named in the build records of this host."""

    digests: AbstractSet[str] = frozenset()
    """Digests that were built on this host, under whatever repository they are kept."""
    tags: Mapping[str, AbstractSet[str]] = attrs.field(factory=dict)
    """The tags that builds were asked to set, by repository."""
    named: Mapping[str, AbstractSet[str]] = attrs.field(factory=dict)
    """Digests that builds name in a reference, by repository."""

    @classmethod
    def of(cls, digests: Iterable[str], references: Iterable[str]) -> Self:
        """Collect what build records name: digests and references; a text that is not a reference is ignored."""
        tags: dict[str, set[str]] = {}
        named: dict[str, set[str]] = {}
        for text in references:
            try:
                reference = parsed(text)
            except InvalidReferenceError:
                continue
            if reference.digest is not None:
                named.setdefault(reference.repository, set()).add(reference.digest)
            elif reference.tag is not None:
                tags.setdefault(reference.repository, set()).add(reference.tag)
        return cls(frozenset(digests), tags, named)
