"""Reading from a manifest which layers hold an image's data.

In released servers a disk is complete by itself. With merged layers (`rootfs_type` is `fsmerge`) it is a
small index, and the data lies in the layers that the manifest names.
"""

from contextlib import suppress

import msgspec

from hmret.disk.filesystem import Filesystem
from hmret.disk.folders import read_file
from hmret.disk.hypeman.documents import UnreadableError, read_document
from hmret.disk.layout import DIGEST_HEX, hex_of

_MANIFEST = "manifest.json"
_MERGED = "fsmerge"


class _Layer(msgspec.Struct, gc=False):
    digest: str = ""


class _Manifest(msgspec.Struct, gc=False):
    rootfs_type: str = ""
    layers: list[_Layer] = []


def layers_needed(filesystem: Filesystem, folder_fd: int) -> tuple[str, ...]:
    """List the layers, by their hex digits, that the image in an open folder needs to be complete; usually none.

    Raises:
        OSError: the manifest exists but cannot be read.
    """
    try:
        content = read_file(filesystem, _MANIFEST, folder_fd)
    except FileNotFoundError:
        return ()
    manifest = _Manifest()
    with suppress(UnreadableError):
        manifest = read_document(content, _Manifest)
    if _MERGED not in manifest.rootfs_type.lower():
        return ()
    return tuple(filter(DIGEST_HEX.fullmatch, (hex_of(layer.digest) for layer in manifest.layers)))
