"""Checks of the native core."""

from mutations.mutation import edit

__all__ = ["NATIVE_MUTATIONS"]

_CORE = "disk/_native.c"
_DELETION = "disk/_deletion.c"
_RETIRING = "disk/_retiring.c"
_ALIKE = ("tests/disk/test_native_core.py",)
_AS_FAR = ("tests/disk/test_native_retiring.py",)

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
    edit(
        "follow a link in the place of a digest folder, natively",
        _DELETION,
        "#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)",
        "#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)",
        _ALIKE,
    ),
    edit(
        "open what a link in a digest folder leads to, natively",
        _DELETION,
        "held->fd = open_in(folder->fd, name, READ_FLAGS);",
        "held->fd = open_in(folder->fd, name, READ_FLAGS & ~O_NOFOLLOW);",
        _ALIKE,
    ),
    edit(
        "take no lease, natively",
        _DELETION,
        "|| fcntl(fd, F_SETLEASE, F_WRLCK) < 0;",
        "|| 0;",
        _ALIKE,
    ),
    edit(
        "go on where a lease is refused for an opener, natively",
        _DELETION,
        "if (numbers[done - 1] == EAGAIN)",
        "if (0)",
        _ALIKE,
    ),
    edit(
        "ask only the last lease, natively",
        _DELETION,
        "for (Py_ssize_t number = 0; held == F_WRLCK && number < count; number++)",
        "for (Py_ssize_t number = 0; held >= 0 && number < count; number++)",
        _ALIKE,
    ),
    edit(
        "end the process by whoever opens a disk that is leased, natively",
        _DELETION,
        "fcntl(fd, F_SETSIG, SIGURG) < 0 ||",
        "",
        _ALIKE,
    ),
    edit(
        "take a link for a disk, natively",
        _CORE,
        "S_ISREG(found.st_mode) ? (long long)found.st_blocks : -1",
        "(long long)found.st_blocks",
        _ALIKE,
    ),
    edit(
        "take a folder with a pipe in it for one of files only, natively",
        _CORE,
        "is_plain = entry->type == DT_REG;",
        "is_plain = entry->type != DT_LNK && entry->type != DT_DIR;",
        _ALIKE,
    ),
    edit(
        "follow a link to the folder of an image, natively",
        _CORE,
        "openat(parent, name, READ_FLAGS | O_DIRECTORY)",
        "openat(parent, name, O_RDONLY | O_DIRECTORY)",
        _ALIKE,
    ),
    *(
        edit(
            f"take a path with another {what} for the same, natively",
            _CORE,
            f"mark[{number}] == {value}",
            "1",
            _ALIKE,
        )
        for number, what, value in (
            (0, "device", "found->st_dev"),
            (1, "inode", "found->st_ino"),
            (2, "mtime", "(uint64_t)nanoseconds(found->st_mtim)"),
            (3, "ctime", "(uint64_t)nanoseconds(found->st_ctim)"),
            (0, "inode by its short mark", "(int64_t)(found->st_ino & INT64_MAX)"),
            (1, "ctime by its short mark", "nanoseconds(found->st_ctim)"),
        )
    ),
    edit(
        "take whatever tag has come in the place of another, natively",
        _DELETION,
        "if (found.st_ino != inode) {",
        "if (0) {",
        _ALIKE,
    ),
    edit(
        "count what is freed of a disk that has other names, natively",
        _DELETION,
        "if (S_ISREG(found.st_mode) && found.st_nlink == 1)",
        "if (S_ISREG(found.st_mode))",
        _ALIKE,
    ),
    *(
        edit(f"{what}, in the one call that carries a deletion out", _RETIRING, old, new, _AS_FAR)
        for what, old, new in (
            ("take no lease", "|| fcntl(fd, F_SETLEASE, F_WRLCK) < 0)", "|| 0)"),
            ("ask no lease again", "return all_leased(going) ? 0 : EBUSY;", "return 0;"),
            (
                "rename an image whose metadata was written over",
                "if (nanoseconds(found.st_ctim) != going->metadata_changed_ns)",
                "if (0)",
            ),
            (
                "rename another folder of content",
                "return found.st_ino == going->inode ? 0 : ESTALE;",
                "return 0;",
            ),
            (
                "look at nothing that has come into the folder",
                "|| nanoseconds(found.st_mtim) != going->changed_ns)",
                "|| 0)",
            ),
            (
                "leave content unsynced",
                "if (going->syncs && (fsync(going->parent) < 0 || fsync(going->trash) < 0))",
                "if (0)",
            ),
            (
                "take tags though something has come in the image's place",
                "if ((*error = has_come(going)))\n        return SETTLED;",
                "",
            ),
            (
                "look for no pull once the tags are aside",
                "|| (*error = has_come(going)) || (*error = remove_tags(going))",
                "|| (*error = remove_tags(going))",
            ),
            (
                "take what cannot be looked at for absent",
                "if (errno != ENOENT && errno != ENOTDIR)\n            return errno;",
                "",
            ),
            (
                "remove a tag that leads elsewhere",
                "memcmp(heap->bytes + aside.start, target, strlen(target)) != 0)",
                "0)",
            ),
            (
                "let the tag that shadows another go last",
                "for (Py_ssize_t number = going->tags.names.count - 1; number >= 0; number--) {",
                "for (Py_ssize_t number = 0; number < going->tags.names.count; number++) {",
            ),
            ("remove a timer that was written over", "mark[5] != nanoseconds(found.st_ctim))", "0)"),
            ("keep openers waiting until all is done", "    close_going(going);\n", ""),
        )
    ),
)
