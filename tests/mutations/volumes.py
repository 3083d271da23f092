"""Checks that the folders themselves rest on, each taken away."""

from mutations.mutation import ALWAYS, DROP, NEVER, Become, Mutation, Swap, edit

__all__ = ["VOLUME_MUTATIONS"]

LOST = ("tests/model/records/test_lost_folders.py", "tests/engine/test_lost_volumes.py")
MOVED = ("tests/disk/test_data_dir.py", "tests/engine/test_moved_data_dir.py")
LINKS = ("tests/engine/test_suspension.py",)

VOLUME_MUTATIONS: tuple[Mutation, ...] = (
    edit(
        "take an empty folder in the place of a volume for what was there",
        "empty-mount-point-is-lost",
        ALWAYS,
        LOST,
    ),
    edit(
        "compare device numbers beyond one boot in telling a volume",
        "device-within-one-boot",
        Swap(
            "(known.boot_id == reading.boot_id and mark.device != known.mark.device)",
            "mark.device != known.mark.device",
        ),
        LOST,
    ),
    edit(
        "tell no volume by its device",
        "device-within-one-boot",
        Swap(
            "\n        or (known.boot_id == reading.boot_id and mark.device != known.mark.device)\n    ",
            "\n    ",
        ),
        LOST,
    ),
    edit(
        "put what is lost of a volume on record",
        "lost-names-stay-on-record",
        Swap(" or _is_within(name, lost)", ""),
        LOST,
    ),
    edit(
        "look for a volume that has gone at the scan only",
        "lost-volume-at-last-look",
        Become("return self.reference_suspensions(again.unreadable)"),
        LOST,
    ),
    edit("clear and prune while a volume is away", "lost-volume-keeps-timers", NEVER, LOST),
    edit(
        "mark images while a volume is away",
        "no-marks-in-doubt",
        Swap(" Cause.LOST_REFERENCES, Cause.LOST_IMAGES", ""),
        LOST,
    ),
    edit(
        "forget what tags have pointed to while a volume is away",
        "lost-guests-keep-history",
        Swap(".union(one.name for one in found.lost)", ""),
        LOST,
    ),
    edit(
        "confirm a volume that is not named",
        "confirm-only-the-named",
        Swap("not asked or name in asked", "True"),
        LOST,
    ),
    edit("sweep in a data directory that was moved aside", "sweep-in-the-same-folder", DROP, MOVED),
    edit("delete on in a data directory that was moved aside", "batch-in-the-same-folder", DROP, MOVED),
    edit("lock no images that data directories share", "one-engine-per-cache", DROP, MOVED),
    edit(
        "let a forked child go on as if it had the data directory", "forked-child-has-no-claim", DROP, MOVED
    ),
    edit(
        "leave the data directory's lock with whoever has inherited it", "lock-ends-with-engine", DROP, MOVED
    ),
    edit(
        "take what a link hides for gone",
        "hiding-link-suspends",
        Swap("DIGEST_HEX", "target or DIGEST_HEX"),
        LINKS,
    ),
    edit(
        "take a repository that is named like a digest for a digest's folder",
        "repository-named-like-a-digest",
        Swap('not prefix.startswith(f"{REPOSITORIES}/")', "True"),
        ("tests/content/test_neighbours_of_units.py",),
    ),
)
