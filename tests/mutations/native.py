"""Checks of the native core."""

from mutations.mutation import edit

__all__ = ["NATIVE_MUTATIONS"]

_CORE = "disk/_native.c"
_ALIKE = ("tests/disk/test_native_core.py",)

NATIVE_MUTATIONS = (
    edit(
        "follow a link to read metadata, natively",
        _CORE,
        " | O_NOFOLLOW | O_CLOEXEC)",
        " | O_CLOEXEC)",
        _ALIKE,
    ),
    edit(
        "follow a link in the place of a disk, natively",
        _CORE,
        "if (fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW) == 0) {",
        "if (fstatat(folder, path, &found, 0) == 0) {",
        _ALIKE,
    ),
    edit(
        "follow a link to tell whether a file has changed, natively",
        _CORE,
        "fstatat(folder, name_at(&names, number), &file->found, AT_SYMLINK_NOFOLLOW)",
        "fstatat(folder, name_at(&names, number), &file->found, 0)",
        _ALIKE,
    ),
    edit(
        "take a disk that cannot be looked at for none, natively",
        _CORE,
        "if (errno != ENOENT && errno != ENOTDIR) {",
        "if (0) {",
        _ALIKE,
    ),
    edit(
        "take a link for a file, natively",
        _CORE,
        "case DT_LNK:\n        return 'l';",
        "case DT_LNK:\n        return 'f';",
        _ALIKE,
    ),
)
