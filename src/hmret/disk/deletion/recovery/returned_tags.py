"""Tags that a power loss has brought back, or that a ghost has kept.

A deletion does not force the removal of each tag to the disk: that would cost a sync for every repository.
Where a sync of anything commits all earlier changes, as on ext4 and XFS, this makes no difference. On btrfs a
sync commits the files and folders concerned. There a power loss can undo the removal of a tag whose image is
gone, after its intent has been completed. Such a tag would lead nowhere for ever, so its intent is reopened:
recovery then removes the tag as it removes any that a crash has left.

A deletion also leaves its tags where they lead to something again by the time it would remove them. Where
that turns out to be a ghost, the tags lead nowhere once the ghost is gone.
"""

from collections.abc import Mapping
from contextlib import closing, suppress

from hmret.disk.deletion.cleaning import is_here
from hmret.disk.deletion.ghosts import clear_ghosts
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.recovery.finishing import finish_gone
from hmret.disk.deletion.tags.links import read_link
from hmret.disk.deletion.trash.intents import Intent
from hmret.disk.deletion.trash.past_deletions import completed_intents, reopen_intents
from hmret.disk.filesystem import Filesystem


def reopen_undone(filesystem: Filesystem, data_fd: int) -> None:
    """Put the intents of recent batches of which a tag has come back into the trash again, for a recovery.

    A tag has come back if it is the very one that was recorded and its image is not here. What cannot be
    examined is left as it is.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders:
        undone = [
            batch_name
            for batch_name, intents in completed_intents(filesystem, data_fd)
            if any(_has_returned(folders, intent) for intent in intents)
        ]
    for batch_name in undone:
        with suppress(OSError):
            reopen_intents(filesystem, data_fd, batch_name)


def clear_ghosts_with_tags(
    filesystem: Filesystem, data_fd: int, deleted_at_ns: Mapping[str, int]
) -> tuple[str, ...]:
    """Remove ghosts as `clear_ghosts` does, and the tags that their deletions left for the sake of them.

    The caller makes sure that nothing else works on these digests. A tag that hypeman has set since is not on
    record, and stays.
    """
    gone = clear_ghosts(filesystem, data_fd, deleted_at_ns)
    if gone:
        for _, intents in completed_intents(filesystem, data_fd):
            for intent in intents:
                # guard(tags-go-with-ghost): What the deleted image's tags led to again was a ghost; without
                # it they would lead nowhere for ever.
                if intent.digest in gone:
                    finish_gone(filesystem, data_fd, intent)
    return gone


def _has_returned(folders: OpenFolders, intent: Intent) -> bool:
    is_image_here = is_here(folders, intent)
    for link in intent.links:
        with suppress(OSError):
            folder_fd = folders.find(link.parent)
            if folder_fd is None or not link.inode:
                continue
            # hypeman may have set the tag again since: then it has another inode.
            if read_link(folders.filesystem, folder_fd, link.layout, link.repository, link.tag) != link:
                continue
            if not is_image_here(link.repository):
                return True
    return False
