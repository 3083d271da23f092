"""Deleting images: the last look at each, the renames out of the cache, and the steps that follow them.

Every deletion of an image begins here; what earlier ones have left, ghosts and empty folders of tags, is removed
by `ghosts` and `tags/tag_folders`. It is done step by step from hmret's own descriptors, follows no symbolic link,
and removes only a folder that is a digest folder by its name, its metadata and its contents.
The caller has a claim to the images of a batch, and has read the references after it got the claim.

An image is content together with the folders that its owners have of their own, or one such folder alone.
These are the steps, in order, with the reason for each and what a crash after it leaves. hypeman may pull,
tag or boot the same image at any moment, and there is no lock that it shares with hmret.

1. **Owners, tags and folders are examined again** (`examination`). The plan rests on a scan that is older, so
   whatever has changed since keeps the image. A crash leaves the cache untouched.
2. **The intents of the batch are written and synced**: all folders, tags and timers that go. After a crash
   nothing else would show that a deletion was in progress. A crash before the first rename leaves the image
   as it was, and recovery drops the intent.
3. **Each image is begun under its claim**: references, timers, metadata and files are examined for the last
   time. Write leases are taken on every file, one for each inode, and held until after the renames. Where the
   file system offers them, they prove that no process has the image open, even one that no reference names. A
   crash releases them.
4. **The folders are renamed out**: first the repositories' own folders, content last. While content exists,
   every lookup finds what it found before, so this last rename is the one moment at which the image is gone,
   for all repositories at once. A crash before it leaves content in place, and recovery renames the other
   folders back. A crash after it leaves the image in the trash; from here on recovery goes forward, by the
   same steps as below.
5. **What came too late for step 3 is looked for**: a process that opened a file during the rename, and what may
   have replaced the image, a pull or a ghost. The image is put back for them, or the new one is left alone. A
   crash leaves the image in the trash, its tags and timers still there; recovery looks again.
6. **Tags are removed, then timers.** hypeman may move a tag at any moment, so each is renamed aside first,
   examined there, and put back if it is not the recorded one. A timer is removed only if it still has the
   recorded time: a fresh pull would otherwise inherit it. A crash leaves some of them, and perhaps a tag set
   aside; recovery resolves what is aside first, and then removes the rest.

The bytes are freed later, after one more look for new users (`hmret.disk.deletion.check_before_erase`). A crash between
leaves the image in the trash, with its intent or, in quarantine, its record; neither is dropped before its
bytes are freed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing

from hmret.disk.deletion.batch import Batch
from hmret.disk.deletion.cleaning import Cleaning
from hmret.disk.deletion.examination import Examined
from hmret.disk.deletion.open_folders import OpenFolders
from hmret.disk.deletion.outcomes import BatchRetired, Outcome
from hmret.disk.deletion.prefetch import AT_ONCE, Prefetch
from hmret.disk.deletion.tags.tag_view import TagFolders
from hmret.disk.deletion.trash.intent_files import write_intents
from hmret.disk.filesystem import Filesystem
from hmret.disk.image_claim import UNCONTESTED, Claim
from hmret.disk.layout import IMAGES, TRASH
from hmret.model.deletion import Deletion, RetireCriteria


def retire(
    filesystem: Filesystem,
    data_fd: int,
    deletions: Sequence[Deletion],
    criteria: RetireCriteria,
    *,
    batch_name: str,
    claim: Claim = UNCONTESTED,
    view: TagFolders | None = None,
    stopping: Callable[[], bool] = lambda: False,
    pause: Callable[[], None] = lambda: None,
) -> BatchRetired:
    """Rename those images of a batch out of the cache that may still go.

    An image is begun only if the claim grants it, and before `stopping` returns True.

    Args:
        filesystem: the system calls.
        data_fd: the data directory.
        deletions: the batch; images of one repository follow one another.
        criteria: what they are judged by.
        batch_name: the name of the intents; no earlier batch had it.
        claim: the caller's claim on the images.
        view: which repositories link to what below `repositories/`, as the scan saw it; None: unknown.
        stopping: called before each image.
        pause: called after each image, so that other threads have their turn.
    """
    with closing(OpenFolders(filesystem, data_fd)) as folders, closing(Prefetch(folders)) as prefetch:
        cleaning = Cleaning(folders)
        batch = Batch(folders, prefetch, cleaning, criteria)
        try:
            examined = batch.examine(batch_name, deletions, view or TagFolders(filesystem, {}), pause)
        except OSError as error:
            return batch.none_begun(batch_name, deletions, IMAGES, error)
        try:
            # guard(intent-before-rename): After a crash the intents say what to finish or undo; without them
            # a deletion would stay half done.
            write_intents(filesystem, data_fd, batch_name, [target.intent for target in examined])
        except OSError as error:
            return batch.none_begun(batch_name, deletions, TRASH, error)
        outcomes: dict[int, Outcome] = {}
        groups = list(_by_digest(examined))
        for place, (digest, group) in enumerate(groups):
            if place % AT_ONCE == 0:
                prefetch.fetch(_that_go_alone(groups[place : place + AT_ONCE]))
            if stopping():
                break
            # guard(delete-only-with-leave): An image that came into use while its batch waited is not
            # deleted.
            if not claim.begin(digest):
                continue
            try:
                for number, target in group:
                    outcomes[number] = batch.retire(target)
            finally:
                claim.end(digest)
            pause()
        cleaning.remove_empty_folders()
        return BatchRetired(
            batch_name, tuple(outcomes[number] for number in sorted(outcomes)), batch.lease_error
        )


def _by_digest(examined: Sequence[Examined]) -> Iterator[tuple[str, list[tuple[int, Examined]]]]:
    """Group a batch's images by digest, content first: links of the folders after it then lead nowhere."""
    groups: dict[str, list[tuple[int, Examined]]] = {}
    for number, target in enumerate(examined):
        groups.setdefault(target.intent.digest, []).append((number, target))
    for digest, group in groups.items():
        yield digest, sorted(group, key=lambda item: not item[1].intent.is_content)


def _that_go_alone(groups: Iterable[tuple[str, Sequence[tuple[int, Examined]]]]) -> Iterator[Examined]:
    """List the images that are the only ones of their digest."""
    for _, group in groups:
        if len(group) == 1:
            yield group[0][1]
