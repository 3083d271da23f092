"""Looking up an image as hypeman does: from a repository and a digest to the folder that it would boot."""

from hmret.disk.filesystem import Filesystem
from hmret.disk.hypeman.repositories import scan_tag_folder
from hmret.disk.hypeman.scan import look_at_image
from hmret.disk.layout import REPOSITORIES
from hmret.model.images import Image


def find_image(filesystem: Filesystem, images_fd: int, repository: str, digest: str) -> Image | None:
    """Return the image that a digest in a repository leads to now; None: there is none.

    Content that is ready is found under every repository. While content is not ready, a complete folder of
    the repository's own is found instead; content that is ready but broken hides that folder. The returned
    image need not be ready or complete: if it is not, there is none that is.
    """
    content = look_at_image(filesystem, images_fd, None, digest)
    if content is not None and content.status == "ready":
        return content
    own = look_at_image(filesystem, images_fd, repository, digest)
    if content is None or (own is not None and own.status == "ready" and own.broken is None):
        return own
    return content


def has_tag_to(filesystem: Filesystem, images_fd: int, repository: str, digest: str) -> bool:
    """Return whether a repository's tag in `repositories/` leads to a digest now; False also where unknown."""
    folder = scan_tag_folder(filesystem, images_fd, f"{REPOSITORIES}/{repository}").repository
    return folder is not None and digest in folder.tags.values()
