"""Checks of what is read ahead, some folders in one call."""

from mutations.mutation import NEVER, Become, Swap, edit

__all__ = ["READING_MUTATIONS"]

_AHEAD = ("tests/disk/hypeman/test_folders_ahead.py",)

READING_MUTATIONS = (
    edit(
        "ask the time stamps of a folder after its names",
        "folder-stamp-first",
        Become("listing, status = filesystem.list_folder(fd), status_of(filesystem.fstat(fd))"),
        ("tests/disk/test_native_core.py",),
    ),
    edit(
        "ask the clock after folders were read",
        "clock-before-reading-ahead",
        Become(
            "filesystem.read_folders(folder_fd, paths, suffix, CHUNK, _MOST_READ)\nlooked_ns = filesystem.now_ns()"
        ),
        _AHEAD,
    ),
    edit(
        "pass over files among tags that were read ahead",
        "usual-folder-and-no-more",
        Swap(" or others", ""),
        _AHEAD,
    ),
    edit(
        "pass over stages and odd folders among tags that were read ahead",
        "usual-folder-and-no-more",
        Swap(" or not all(map(FOLDER_NAME.fullmatch, folders))", ""),
        _AHEAD,
    ),
    edit(
        "take links for tags in a folder that is no repository",
        "usual-tags-in-repository",
        Swap(" or not is_repository(name)", ""),
        _AHEAD,
    ),
    edit(
        "pass over a tag that could not be read with the others",
        "usual-target-only",
        Swap("len(digits) != len(targets)", "False"),
        _AHEAD,
    ),
    edit(
        "take a link that leads elsewhere for a tag",
        "usual-target-only",
        Swap("not are_digests(digits)", "False"),
        _AHEAD,
    ),
    edit("take a link with any name for a tag", "usual-tag-name-only", NEVER, _AHEAD),
    edit("pass over links among states", "usual-states-and-no-more", Swap("links\n        or ", ""), _AHEAD),
    edit(
        "take files with other names for states",
        "usual-states-and-no-more",
        Swap("not are_digests(", "not isinstance("),
        _AHEAD,
    ),
    edit(
        "pass over a state that could not be read with the others",
        "unreadable-ahead-is-reread",
        NEVER,
        _AHEAD,
    ),
)
