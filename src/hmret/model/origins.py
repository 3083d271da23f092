"""Whether an image can be pulled again."""

import re

__all__ = ["LABEL", "is_local"]

LABEL = "io.hmret.pullable"
"""The label of an image that tells, `true` or `false`, whatever else tells otherwise."""

_LOCAL = re.compile(
    r"(?:(?:[^/]*\.)?localhost(?:\.localdomain)?|ip6-(?:localhost|loopback)|127\.[0-9.]+|0(?:\.0\.0\.0)?"
    r"|\[(?:::1?|0*(?::0*){1,7}:0*1|::ffff:127\.[0-9.]+|::ffff:7f[0-9a-f]{2}:[0-9a-f]{1,4})\])(?::[0-9]+)?/.*",
    re.IGNORECASE | re.DOTALL,
)


def is_local(repository: str) -> bool:
    """Tell whether the registry of a repository is this very host, from which nothing can be pulled again.

    That is `localhost` and what is below it, 127.0.0.0/8, `0.0.0.0`, `[::1]` and `[::]`, with a port or without. Every
    other host counts as a registry elsewhere: a name alone does not tell what it resolves to.
    """
    return _LOCAL.fullmatch(repository) is not None
