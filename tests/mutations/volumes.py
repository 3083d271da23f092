"""Checks that the folders themselves rest on, each taken away."""

from mutations.mutation import Mutation, edit

__all__ = ["VOLUME_MUTATIONS"]

LOST = ("tests/model/test_lost_folders.py", "tests/engine/test_lost_volumes.py")
MOVED = ("tests/disk/test_data_dir.py", "tests/engine/test_moved_data_dir.py")
LINKS = ("tests/engine/test_suspension.py",)

VOLUME_MUTATIONS: tuple[Mutation, ...] = (
    edit(
        "take an empty folder in the place of a volume for what was there",
        "model/folder_record.py",
        "if now is None or not _is_another(known, now, reading):",
        "if True:",
        LOST,
    ),
    edit(
        "compare device numbers beyond one boot in telling a volume",
        "model/folder_record.py",
        "(known.boot_id == reading.boot_id and mark.device != known.mark.device)",
        "mark.device != known.mark.device",
        LOST,
    ),
    edit(
        "tell no volume by its device",
        "model/folder_record.py",
        "        or (known.boot_id == reading.boot_id and mark.device != known.mark.device)\n",
        "",
        LOST,
    ),
    edit(
        "put what is lost of a volume on record",
        "model/folder_record.py",
        "if name not in seen or _is_within(name, lost)",
        "if name not in seen",
        LOST,
    ),
    edit(
        "look for a volume that has gone at the scan only",
        "engine/overlook.py",
        "return [*self.reference_suspensions(again.unreadable), *lost]",
        "return self.reference_suspensions(again.unreadable)",
        LOST,
    ),
    edit(
        "clear and prune while a volume is away",
        "engine/sweeping.py",
        "        if survey.folders.lost:\n            return True\n",
        "",
        LOST,
    ),
    edit(
        "mark images while a volume is away",
        "model/judging.py",
        "frozenset((Cause.CLOCK_JUMP, Cause.LOST_REFERENCES, Cause.LOST_IMAGES))",
        "frozenset((Cause.CLOCK_JUMP,))",
        LOST,
    ),
    edit(
        "forget what tags have pointed to while a volume is away",
        "engine/overlook.py",
        "collected.unread_sources.union(one.name for one in found.lost)",
        "collected.unread_sources",
        LOST,
    ),
    edit(
        "confirm a volume that is not named",
        "engine/confirming.py",
        "if not asked or name in asked",
        "if True",
        LOST,
    ),
    edit(
        "sweep in a data directory that was moved aside",
        "engine/sweeping.py",
        "        await self.deleting.check_folder()\n        leases",
        "        leases",
        MOVED,
    ),
    edit(
        "delete on in a data directory that was moved aside",
        "engine/deleting.py",
        "            await self.check_folder()\n",
        "",
        MOVED,
    ),
    edit(
        "lock no images that data directories share",
        "disk/data_dir.py",
        "            claimed._hold_images()\n",
        "",
        MOVED,
    ),
    edit(
        "let a forked child go on as if it had the data directory",
        "disk/data_dir.py",
        "os.register_at_fork(after_in_child=_let_go_in_child)",
        "pass",
        MOVED,
    ),
    edit(
        "leave the data directory's lock with whoever has inherited it",
        "disk/data_dir.py",
        "                    self.filesystem.unlock(fd)\n",
        "                    pass\n",
        MOVED,
    ),
    edit(
        "take what a link hides for gone",
        "disk/hypeman/hidden.py",
        "        if DIGEST_HEX.fullmatch(target",
        "        if target or DIGEST_HEX.fullmatch(target",
        LINKS,
    ),
)
