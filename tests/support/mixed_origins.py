"""Whether an image can be pulled again, told by plain comparisons."""

from support import naive
from support.mixed_reading import Build, Tree
from support.mixed_rows import Row

__all__ = ["is_pullable"]

LOCAL = ("localhost", "127.0.0.1", "0.0.0.0")
"""Hosts that are this one, whatever the port."""
OWN_REGISTRY = "localhost:8080"
"""hypeman's own, where its settings do not say otherwise."""


def is_pullable(tree: Tree, row: Row) -> bool:
    """Tell whether a row's image can be had again once it is gone."""
    labels = row.standing.fields.get("labels")
    label = dict(labels).get("io.hmret.pullable") if isinstance(labels, naive.Pairs) else None
    if label is not None:
        return str(label).lower() == "true"
    if any(is_of(build, row) for build in tree.builds):
        return False
    host, *path = row.repository.split("/")
    if path[:-1] == ["builds"] or path[-2:] == ["internal", "builder"]:
        return False
    return host != OWN_REGISTRY and host.partition(":")[0] not in LOCAL


def is_of(build: Build, row: Row) -> bool:
    """Tell whether the record of a build names a row as its result."""
    if build.digest == row.digest:
        return True
    for text in build.texts:
        repository, tag, digest = naive.parse(text) or ("", None, None)
        if repository == row.repository and (digest == row.digest or tag in row.tags):
            return True
    return False
