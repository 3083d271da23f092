"""Images, tags and folders of both layouts for tests of what reads them one folder at a time."""

import json

from disk.hosts import Host
from hmret.disk.folders import opened
from hmret.disk.hypeman.links import link_target, tag_folder
from hmret.disk.hypeman.scan import FolderScan, scan_folder
from hmret.disk.layout import CONTENT, IMAGES, REPOSITORIES, Layout, hex_of
from support.builders import START, digest

__all__ = ["content_of", "put_content", "put_legacy", "put_link", "scan_all"]


def content_of(letters: str) -> str:
    """Return the folder of content for the digest that these letters stand for."""
    return f"{IMAGES}/{CONTENT}/{hex_of(digest(letters))}"


def put_content(
    host: Host,
    letters: str,
    *,
    name: str = "docker.io/library/alpine:latest",
    status: str = "ready",
    has_disk: bool = True,
    **fields: object,
) -> str:
    """Make a folder of content; what is there already is written again. Returns its digest."""
    return _put(host, content_of(letters), letters, name, status, has_disk=has_disk, fields=fields)


def put_legacy(
    host: Host,
    repository: str,
    letters: str,
    *,
    status: str = "ready",
    has_disk: bool = True,
    **fields: object,
) -> str:
    """Make a folder that one repository has for itself. Returns its digest."""
    where = f"{IMAGES}/{repository}/{hex_of(digest(letters))}"
    name = f"{repository}@{digest(letters)}"
    return _put(host, where, letters, name, status, has_disk=has_disk, fields=fields)


def _put(
    host: Host, where: str, letters: str, name: str, status: str, *, has_disk: bool, fields: dict[str, object]
) -> str:
    metadata = {
        "name": name,
        "digest": digest(letters),
        "status": status,
        "size_bytes": 4096,
        "created_at": START.isoformat(),
        **fields,
    }
    if has_disk:
        host.write(f"{where}/rootfs.erofs", bytes(4096))
    host.write(f"{where}/metadata.json", json.dumps(metadata).encode())
    return digest(letters)


def put_link(
    host: Host, repository: str, tag: str, letters: str, layout: Layout = Layout.CONTENT, target: str = ""
) -> str:
    """Set a tag, in place of one that is there. Returns its path."""
    path = f"{tag_folder(layout, repository)}/{tag}"
    if host.exists(path):
        host.remove(path)
    host.link(path, target or link_target(layout, repository, hex_of(digest(letters))))
    return path


def scan_all(host: Host) -> dict[str, FolderScan]:
    """Read all folders below `images/` afresh."""
    found: dict[str, FolderScan] = {}
    with opened(host.filesystem, host.open(IMAGES)) as fd:
        waiting = [""]
        while waiting:
            folder = scan_folder(host.filesystem, fd, waiting.pop())
            found[folder.path] = folder
            waiting.extend(folder.subfolders)
    assert REPOSITORIES not in found or found[REPOSITORIES].repository is None
    return found
