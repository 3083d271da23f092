"""The look at all that goes with an image, right before its deletion: what has changed since the plan keeps it."""

import json

import pytest

from hmret.disk.deletion.examination import Examined, Examiner
from hmret.disk.deletion.open_folders import KnownPaths, OpenFolders
from hmret.disk.deletion.tags.repository_tags import RepositoryTags
from hmret.disk.deletion.tags.tag_view import TagFolders, TagSnapshot
from hmret.disk.deletion.trash.intents import NO_CONTENT
from hmret.disk.folders import let_go
from hmret.disk.layout import CONTENT, IMAGES, REPOSITORIES
from hmret.model.deletion import Deletion, DueRow, Failed, Kept
from hmret.model.verdicts import Reason
from support.builders import DATA, START_NS, data_fd_of, digest
from support.deletions import deletion
from support.memory_filesystem import MemoryFilesystem
from support.shared_unit import ALPINE, BATCH, HEX, IMAGES_TOP, LINKS, OTHER, UNIT, make_shared

THIRD = "quay.io/third/thing"
TARGET = f"../../../../{CONTENT}/{HEX}"
OWN = deletion(ALPINE, digest("e"), START_NS)
"""A folder that one repository has for itself."""
OWN_FOLDER = f"{IMAGES_TOP}/{ALPINE}/{'e' * 64}"
ITS_CONTENT = f"{IMAGES_TOP}/{CONTENT}/{'e' * 64}"


def examine(filesystem: MemoryFilesystem, candidate: Deletion = UNIT) -> Examined:
    """Look at one image, as the first of a batch."""
    fd = data_fd_of(filesystem)
    folders = OpenFolders(filesystem, fd)
    try:
        tag_snapshot = TagFolders(filesystem, {}).refresh(folders.get(IMAGES))
        return examiner(folders, tag_snapshot, candidate).examine(candidate, f"{BATCH}.0")
    finally:
        folders.close()
        let_go(filesystem, fd)


def examiner(folders: OpenFolders, tag_snapshot: TagSnapshot, candidate: Deletion) -> Examiner:
    known_paths = KnownPaths(folders)
    return Examiner(
        folders, known_paths, RepositoryTags(folders, tag_snapshot, {candidate.digest}, known_paths)
    )


def put_metadata(
    filesystem: MemoryFilesystem, folder: str, name: str, letters: str, **fields: object
) -> None:
    """Write a digest folder's metadata, over what is there."""
    metadata = {"name": name, "digest": digest(letters), "status": "ready", "size_bytes": 4096} | fields
    filesystem.write_file(f"{folder}/metadata.json", json.dumps(metadata).encode())


def put_own(filesystem: MemoryFilesystem, tag: str = "") -> None:
    """Make a folder that one repository has for itself, with a tag of the older layout."""
    put_metadata(filesystem, OWN_FOLDER, f"{ALPINE}:old", "e")
    filesystem.write_file(f"{OWN_FOLDER}/rootfs.ext4", bytes(4096))
    if tag:
        filesystem.make_link(f"{IMAGES_TOP}/{ALPINE}/{tag}", "e" * 64)


def kept(filesystem: MemoryFilesystem, candidate: Deletion = UNIT) -> tuple[Reason | None, str]:
    """Look at one image, which is to stay."""
    found = examine(filesystem, candidate)
    assert isinstance(found.stays, Kept)
    assert found.stays.reason is not None
    assert found.intent.is_bare
    return found.stays.reason, found.stays.detail


def test_all_that_goes_with_content_is_written_down() -> None:
    filesystem = make_shared()
    found = examine(filesystem)
    assert (found.stays, found.is_by_name) == (None, False)
    assert [copy.repository for copy in found.intent.copies] == [ALPINE, ""]
    inodes = [
        filesystem.stat(path).st_ino
        for path in (f"{IMAGES_TOP}/{ALPINE}/{HEX}", f"{IMAGES_TOP}/{CONTENT}/{HEX}")
    ]
    assert [copy.inode for copy in found.intent.copies] == inodes
    assert {f"{DATA}/{link.parent}/{link.tag}" for link in found.intent.links} == set(LINKS)


def test_a_repository_that_has_it_by_now_keeps_it() -> None:
    filesystem = make_shared()
    filesystem.make_link(f"{IMAGES_TOP}/{REPOSITORIES}/{THIRD}/1", TARGET)
    assert kept(filesystem) == (Reason.SHARED, f"{THIRD} has it by now")


def test_an_older_tag_that_lookups_see_makes_an_owner() -> None:
    filesystem = make_shared()
    other_only = deletion(OTHER, digest("a"), START_NS, is_content=True)
    # The older tag `latest` of alpine leads to a folder of its own; without that, and with its tag gone, to content.
    filesystem.remove(LINKS[2])
    for name in ("metadata.json", "rootfs.ext4"):
        filesystem.remove(f"{IMAGES_TOP}/{ALPINE}/{HEX}/{name}")
    filesystem.remove(f"{IMAGES_TOP}/{ALPINE}/{HEX}")
    both = examine(filesystem)
    assert both.stays is None
    filesystem.make_link(f"{IMAGES_TOP}/{REPOSITORIES}/{ALPINE}/latest", f"../../../../{CONTENT}/{'b' * 64}")
    assert kept(filesystem) == (Reason.SHARED, f"{ALPINE} does not have it any more")
    assert examine(filesystem, other_only).stays is None


def test_a_repository_that_has_let_it_go_keeps_it_for_the_next_plan() -> None:
    filesystem = make_shared()
    filesystem.remove(LINKS[3])
    assert kept(filesystem) == (Reason.SHARED, f"{OTHER} does not have it any more")


@pytest.mark.parametrize("layout", ["today", "older"])
def test_a_tag_that_is_being_made_keeps_content(layout: str) -> None:
    filesystem = make_shared()
    folder, target = (REPOSITORIES, TARGET) if layout == "today" else ("", HEX)
    top = f"{IMAGES_TOP}/{folder}/{ALPINE}" if folder else f"{IMAGES_TOP}/{ALPINE}"
    filesystem.make_link(f"{top}/.tag-stage-1/new", target)
    assert kept(filesystem) == (Reason.SHARED, f"{ALPINE}:new is being made")


@pytest.mark.parametrize("status", ["pending", "pulling", "converting", "some-new-step"])
def test_an_owners_folder_in_which_hypeman_is_at_work_keeps_content(status: str) -> None:
    filesystem = make_shared()
    put_metadata(filesystem, f"{IMAGES_TOP}/{ALPINE}/{HEX}", f"{ALPINE}:3.20", "a", status=status)
    assert kept(filesystem)[0] is Reason.NOT_READY


def test_an_owners_broken_folder_stays_where_it_is() -> None:
    filesystem = make_shared()
    put_metadata(filesystem, f"{IMAGES_TOP}/{ALPINE}/{HEX}", f"{ALPINE}:3.20", "a", status="failed")
    found = examine(filesystem)
    assert found.stays is None
    assert [copy.repository for copy in found.intent.copies] == [""]
    assert [copy.repository for copy in found.intent.staying] == [ALPINE]


def test_other_tags_than_it_was_judged_by_keep_content() -> None:
    filesystem = make_shared()
    judged = Deletion(
        UNIT.digest, (DueRow(ALPINE, START_NS, tags=("3.20", "latest")), UNIT.rows[1]), is_content=True
    )
    assert examine(filesystem, judged).stays is None
    filesystem.make_link(f"{IMAGES_TOP}/{REPOSITORIES}/{ALPINE}/3.20.1", TARGET)
    found = examine(filesystem, judged)
    assert found.stays == Kept(found.intent, Reason.RETENTION_WINDOW, "its tags are others")


def test_content_without_a_link_has_the_owner_that_its_name_says() -> None:
    filesystem = make_shared()
    alone = deletion(OTHER, digest("c"), START_NS, is_content=True)
    filesystem.remove(f"{IMAGES_TOP}/{REPOSITORIES}/{OTHER}/kept")
    found = examine(filesystem, alone)
    assert (found.stays, found.is_by_name) == (None, True)
    both = deletion(ALPINE, digest("c"), START_NS, UNIT.rows[1], is_content=True)
    assert kept(filesystem, both)[0] is Reason.SHARED


def test_content_that_has_gone_is_gone() -> None:
    filesystem = make_shared()
    filesystem.remove(f"{IMAGES_TOP}/{CONTENT}/{HEX}/metadata.json")
    filesystem.remove(f"{IMAGES_TOP}/{CONTENT}/{HEX}/rootfs.ext4")
    filesystem.remove(f"{IMAGES_TOP}/{CONTENT}/{HEX}")
    found = examine(filesystem)
    assert found.stays == Kept(found.intent, None)


def test_all_that_goes_with_a_repositorys_own_folder_is_written_down() -> None:
    filesystem = make_shared()
    put_own(filesystem, "old")
    found = examine(filesystem, OWN)
    assert found.stays is None
    assert [copy.repository for copy in found.intent.copies] == [ALPINE]
    assert [link.tag for link in found.intent.links] == ["old"]
    assert found.intent.content_status == NO_CONTENT


@pytest.mark.parametrize("status", ["pending", "pulling", "converting", "some-new-step"])
def test_content_that_is_being_made_keeps_the_folder_it_is_made_from(status: str) -> None:
    filesystem = make_shared()
    put_own(filesystem)
    put_metadata(filesystem, ITS_CONTENT, f"{ALPINE}:old", "e", status=status)
    assert kept(filesystem, OWN) == (Reason.NOT_READY, f"its content is {status}")


def test_content_that_has_lost_its_disk_keeps_the_folder_that_it_hides() -> None:
    filesystem = make_shared()
    put_own(filesystem)
    put_metadata(filesystem, ITS_CONTENT, f"{ALPINE}:old", "e")
    assert kept(filesystem, OWN)[0] is Reason.BROKEN


def test_content_whose_metadata_is_none_hides_no_folder() -> None:
    filesystem = make_shared()
    put_own(filesystem)
    filesystem.write_file(f"{ITS_CONTENT}/metadata.json", b'{"na')
    filesystem.write_file(f"{ITS_CONTENT}/rootfs.ext4", bytes(4096))
    found = examine(filesystem, OWN)
    assert (found.stays, found.intent.content_status) == (None, "unknown")


def test_a_folder_that_is_content_by_now_is_kept() -> None:
    filesystem = make_shared()
    put_own(filesystem)
    put_metadata(filesystem, ITS_CONTENT, f"{ALPINE}:old", "e")
    filesystem.write_file(f"{ITS_CONTENT}/rootfs.ext4", bytes(4096))
    assert examine(filesystem, OWN).stays is None
    filesystem.make_link(f"{IMAGES_TOP}/{REPOSITORIES}/{ALPINE}/old", f"../../../../{CONTENT}/{'e' * 64}")
    assert kept(filesystem, OWN) == (Reason.SHARED, "it is content by now")


@pytest.mark.parametrize("layout", ["today", "older"])
def test_a_tag_that_is_being_made_keeps_a_folder(layout: str) -> None:
    filesystem = make_shared()
    put_own(filesystem)
    if layout == "today":
        filesystem.make_link(
            f"{IMAGES_TOP}/{REPOSITORIES}/{ALPINE}/.tag-stage-1/new", f"../../../../{CONTENT}/{'e' * 64}"
        )
    else:
        filesystem.make_link(f"{IMAGES_TOP}/{ALPINE}/.tag-stage-1/new", "e" * 64)
    assert kept(filesystem, OWN) == (Reason.RETENTION_WINDOW, "a tag to it is being made")


def test_what_cannot_be_read_keeps_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    filesystem = make_shared()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "denied")

    put_own(filesystem, "old")
    fd = data_fd_of(filesystem)
    folders = OpenFolders(filesystem, fd)
    tag_snapshot = TagFolders(filesystem, {}).refresh(folders.get(IMAGES))
    monkeypatch.setattr(filesystem, "scandir", refuse)
    stays = examiner(folders, tag_snapshot, OWN).examine(OWN, f"{BATCH}.0").stays
    assert isinstance(stays, Failed)
    assert isinstance(stays.error, PermissionError)
    folders.close()
    let_go(filesystem, fd)
