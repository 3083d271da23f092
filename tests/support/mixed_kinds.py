"""Of what the random trees are made, and how often each kind of thing comes."""

__all__ = [
    "CONTENTS",
    "EXTRAS",
    "HIDDEN",
    "LEGACIES",
    "LINKS",
    "MADE_HERE",
    "ODD_STATUS",
    "ORDINARY",
    "STATES",
    "TAGS",
]

ORDINARY = (
    "docker.io/library/alpine",
    "docker.io/library/app",
    "ghcr.io/o/app",
    "ghcr.io/o/app/web",
    "ghcr.io/o/app/latest",
    "quay.io/team/sub/svc",
    "registry.local:5000/ci/build",
    "Registry.Example:8443/ci/tool",
    f"docker.io/library/{'0a' * 32}",
    f"ghcr.io/o/app/{'0b' * 32}",
)
MADE_HERE = (
    "docker.io/builds/x1",
    "10.102.0.1:8083/builds/x2",
    "ghcr.io/o/internal/builder",
    "localhost/dev",
    "localhost:8080/pushed",
)
"""Repositories whose images were built or pushed on this host."""
HEX_TAG = "0c" * 32
TAGS = ("latest", "1", "2.0", "web", "v1", HEX_TAG)

ODD_STATUS = ("unpacking", 7, None, "")

CONTENTS = {
    "absent": 12,
    "ready": 70,
    "pending": 2,
    "pulling": 2,
    "pulling, nearly done": 2,
    "converting": 2,
    "converting, linked": 2,
    "failed": 3,
    "failed, with a disk": 1,
    "begun": 2,
    "begun, with a file": 1,
    "left without metadata": 2,
    "left with a disk only": 2,
    "ghost": 3,
    "another digest": 2,
    "torn": 2,
    "torn, without a disk": 1,
    "odd status": 1,
    "persona": 2,
    "both disks": 2,
    "metadata is a link": 1,
    "metadata is a folder": 1,
    "a link": 1,
}
"""Conditions of content, and how often each comes."""

LEGACIES = {
    "whole": 30,
    "without a disk": 1,
    "with a link for a disk": 1,
    "pulling": 1,
    "pulling, with a disk": 1,
    "converting": 1,
    "failed": 1,
    "failed, with a disk": 1,
    "another digest": 1,
    "another repository": 1,
    "torn": 1,
    "without metadata": 1,
    "odd status": 1,
    "both disks": 1,
    "metadata is a link": 1,
    "metadata is a folder": 1,
}
"""Conditions of folders of the older layout."""

EXTRAS = {
    "": 40,
    "old install": 2,
    "young install": 1,
    "temporary disk": 2,
    "plain file": 2,
    "link": 1,
    "folder": 1,
    "tags of another repository": 1,
    "a name that is no text": 1,
}
"""What else lies in the folder of a ready image."""

HIDDEN = {
    "unreadable guest": 4,
    "content is a link": 2,
    "content is a file": 1,
    "content is nowhere": 1,
    "repositories is a link": 2,
    "repositories is a file": 1,
    "repositories is nowhere": 1,
    "locked level": 3,
    "locked hosts": 2,
    "locked content": 1,
    "locked repositories": 1,
    "locked images": 1,
    "locked digest": 2,
    "locked metadata": 3,
    "locked disk": 1,
    "locked guest": 1,
    "locked guest's folder": 1,
    "locked guests": 1,
    "locked snapshots": 1,
    "locked snapshot": 1,
    "locked build": 1,
    "locked builds": 1,
    "locked state": 2,
}
"""What cannot be read, or hides behind a link."""

LINKS = {
    "": 26,
    "long": 20,
    "short": 4,
    "roundabout": 2,
    "absolute": 1,
    "wrong depth": 1,
    "dotted": 1,
    "no digest": 1,
    "another tag": 1,
    "dangling": 2,
    "folder": 1,
}
"""Forms of links below `repositories/`; in the older layout `short` and `long` are as often the other way round."""

STATES = {
    "due": 30,
    "within": 14,
    "boundary": 1,
    "boundary, one nanosecond short": 1,
    "unset": 1,
    "null": 1,
    "torn": 1,
    "another digest": 1,
    "far in the future": 1,
    "": 4,
}
