/* Calls that belong together in a deletion; a part of _native.c, which defines what this uses.

   These calls open descriptors and take leases that their caller owns, and close them. Where one of them
   fails, it has closed whatever it opened. No path is followed further than one name below an open folder. */

#include <signal.h>
#include <stdio.h>

/* guard(native-folder-no-links): An image's folder is opened only if it is one; through a link, files outside
   the cache would be deleted. */
#define FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static int open_in(int folder, const char *name, int flags)
{
    int fd;
    do
        fd = openat(folder, name, flags);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* Read the beginning of a file, keeping its position if `in_place`; returns errno, or 0. */
static int read_beginning(int fd, int in_place, size_t most, struct heap *heap, size_t *start, ssize_t *length)
{
    char *room = heap_room(heap, most);
    *start = heap->used;
    *length = 0;
    if (room == NULL)
        return ENOMEM;
    do
        *length = in_place ? pread(fd, room, most, 0) : read(fd, room, most);
    while (*length < 0 && errno == EINTR);
    if (*length < 0)
        return errno;
    heap->used += (size_t)*length;
    return 0;
}

static char kind_of_raw(int folder, const struct raw_entry *raw)
{
    struct stat found;
    if (raw->type != DT_UNKNOWN)
        return raw->type == DT_DIR ? 'd' : 'f';
    return fstatat(folder, raw->name, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(found.st_mode) ? 'd' : 'f';
}

/* List a folder that has just been opened, as `list_into` does, except that links do not count as folders. */
static int list_fresh(int folder, struct heap *heap)
{
    _Alignas(struct raw_entry) char buffer[16384];
    for (;;) {
        long filled = syscall(SYS_getdents64, folder, buffer, sizeof buffer);
        if (filled < 0)
            return errno;
        if (filled == 0)
            /* The next listing of this descriptor starts at the beginning. */
            return lseek(folder, 0, SEEK_SET) < 0 ? errno : 0;
        for (long at = 0; at < filled;) {
            const struct raw_entry *raw = (const struct raw_entry *)(buffer + at);
            at += raw->length;
            if (strcmp(raw->name, ".") == 0 || strcmp(raw->name, "..") == 0)
                continue;
            struct entry entry = {raw->inode, strlen(raw->name), kind_of_raw(folder, raw)};
            char *room = heap_room(heap, sizeof entry + entry.length);
            if (room == NULL)
                return ENOMEM;
            memcpy(room, &entry, sizeof entry);
            memcpy(room + sizeof entry, raw->name, entry.length);
            heap->used += sizeof entry + entry.length;
        }
    }
}

/* One file that is held open. */
struct held {
    int fd, error;
    struct stat found;
};

/* A folder that is held open, with its files. */
struct held_folder {
    int fd, error;
    struct stat found;
    struct heap names; /* entries, each followed by its name */
    struct heap content;
    size_t start;
    ssize_t length;
    struct held *files;
    size_t count;
};

static void close_held(struct held_folder *folder)
{
    for (size_t number = 0; number < folder->count; number++)
        if (folder->files[number].fd >= 0)
            close(folder->files[number].fd);
    if (folder->fd >= 0)
        close(folder->fd);
    folder->count = 0;
    folder->fd = -1;
}

/* Open everything in a folder that is no folder; returns errno, or 0. */
static int hold_files(struct held_folder *folder, const char *metadata, size_t most)
{
    char name[NAME_MAX + 1];
    size_t size = 0;
    for (size_t at = 0; at < folder->names.used;) {
        struct entry entry;
        memcpy(&entry, folder->names.bytes + at, sizeof entry);
        if (entry.length > NAME_MAX)
            return ENAMETOOLONG;
        memcpy(name, folder->names.bytes + at + sizeof entry, entry.length);
        name[entry.length] = 0;
        at += sizeof entry + entry.length;
        if (entry.kind == 'd')
            continue;
        if (folder->count == size) {
            size = size ? 2 * size : 8;
            struct held *files = realloc(folder->files, size * sizeof *files);
            if (files == NULL)
                return ENOMEM;
            folder->files = files;
        }
        struct held *held = &folder->files[folder->count++];
        memset(held, 0, sizeof *held);
        /* guard(native-open-no-links): What a link in an image's folder leads to is not the image's: it is
           neither opened nor leased, and the image stays. */
        held->fd = open_in(folder->fd, name, READ_FLAGS);
        if (held->fd < 0) {
            held->error = errno;
            continue;
        }
        if (fstat(held->fd, &held->found) < 0)
            return errno;
        if (strcmp(name, metadata) == 0 && S_ISREG(held->found.st_mode)) {
            int error = read_beginning(held->fd, 1, most, &folder->content, &folder->start, &folder->length);
            if (error)
                return error;
        }
    }
    return 0;
}

static int hold(int parent, const char *name, const char *metadata, size_t most, struct held_folder *folder)
{
    int error = 0;
    folder->fd = open_in(parent, name, FOLDER_FLAGS);
    if (folder->fd < 0)
        return errno;
    if (fstat(folder->fd, &folder->found) < 0)
        error = errno;
    if (!error)
        error = list_fresh(folder->fd, &folder->names);
    if (!error)
        error = hold_files(folder, metadata, most);
    if (error)
        close_held(folder);
    return error;
}

static PyObject *make_held(const struct held *held, PyObject *name)
{
    PyObject *result = name == NULL ? NULL : PyTuple_New(10);
    if (result == NULL) {
        Py_XDECREF(name);
        return NULL;
    }
    if (put(result, 0, name) < 0 || put(result, 1, PyLong_FromLong(held->fd)) < 0 ||
        put(result, 2, PyLong_FromLong(held->error)) < 0 ||
        put(result, 3, PyLong_FromUnsignedLong(held->found.st_mode)) < 0 ||
        put(result, 4, PyLong_FromUnsignedLongLong(held->found.st_dev)) < 0 ||
        put(result, 5, PyLong_FromUnsignedLongLong(held->found.st_ino)) < 0 ||
        put(result, 6, PyLong_FromUnsignedLongLong(held->found.st_nlink)) < 0 ||
        put(result, 7, PyLong_FromLongLong(held->found.st_size)) < 0 ||
        put(result, 8, PyLong_FromLongLong(held->found.st_blocks)) < 0 ||
        put(result, 9, PyLong_FromLongLong(nanoseconds(held->found.st_ctim))) < 0) {
        Py_DecRef(result);
        return NULL;
    }
    return result;
}

static PyObject *make_held_folder(const struct held_folder *folder)
{
    size_t number = 0;
    PyObject *files = PyList_New(0), *folders = PyList_New(0), *result = PyTuple_New(6);
    if (files == NULL || folders == NULL || result == NULL)
        goto failed;
    for (size_t at = 0; at < folder->names.used;) {
        struct entry entry;
        memcpy(&entry, folder->names.bytes + at, sizeof entry);
        PyObject *name = PyUnicode_DecodeFSDefaultAndSize(folder->names.bytes + at + sizeof entry,
                                                          (Py_ssize_t)entry.length);
        at += sizeof entry + entry.length;
        if (entry.kind == 'd' ? append(folders, name) < 0
                              : append(files, make_held(&folder->files[number++], name)) < 0)
            goto failed;
    }
    if (put(result, 0, PyLong_FromLong(folder->fd)) < 0 ||
        put(result, 1, PyLong_FromUnsignedLongLong(folder->found.st_ino)) < 0 ||
        put(result, 2, PyLong_FromLongLong(nanoseconds(folder->found.st_mtim))) < 0)
        goto failed;
    Py_IncRef(files);
    Py_IncRef(folders);
    if (put(result, 3, files) < 0 || put(result, 4, folders) < 0 ||
        put(result, 5, PyBytes_FromStringAndSize(folder->content.bytes + folder->start, folder->length)) < 0)
        goto failed;
    Py_DecRef(files);
    Py_DecRef(folders);
    return result;
failed:
    Py_XDECREF(files);
    Py_XDECREF(folders);
    Py_XDECREF(result);
    return NULL;
}

PyDoc_STRVAR(hold_folder_doc,
             "hold_folder(folder, name, metadata, most)\n--\n\n"
             "Open a folder in an open one, and everything in it that is no folder.\n\n"
             "Returns its descriptor, its inode and its mtime in nanoseconds; for each file its name, its descriptor\n"
             "(-1: it could not be opened), errno of that, mode, device, inode, number of links, size, blocks, and ctime\n"
             "in nanoseconds; the names of its folders; and at most `most` bytes of its metadata.");

static void free_held(struct held_folder *folder)
{
    free(folder->names.bytes);
    free(folder->content.bytes);
    free(folder->files);
}

static PyObject *hold_folder(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int parent, error;
    PyObject *encoded = NULL, *result = NULL;
    const char *metadata;
    Py_ssize_t most;
    struct held_folder folder = {.fd = -1};
    if (!PyArg_ParseTuple(arguments, "iO&sn:hold_folder", &parent, PyUnicode_FSConverter, &encoded, &metadata, &most))
        return NULL;
    if (most < 0 || most > MOST_BYTES) {
        PyErr_SetString(PyExc_ValueError, "out of range");
        goto done;
    }
    const char *name = PyBytes_AsString(encoded);
    Py_BEGIN_ALLOW_THREADS
    error = hold(parent, name, metadata, (size_t)most, &folder);
    Py_END_ALLOW_THREADS
    if (error) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    result = make_held_folder(&folder);
    if (result == NULL)
        close_held(&folder);
done:
    free_held(&folder);
    Py_DecRef(encoded);
    return result;
}

PyDoc_STRVAR(hold_file_doc,
             "hold_file(folder, name, most)\n--\n\n"
             "Open a file that is no link, stat it, and read at most `most` bytes of it.\n\n"
             "Returns its descriptor; its mode, device, inode, size, mtime and ctime in nanoseconds; and its content.");

static PyObject *hold_file(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int folder, fd, error = 0;
    PyObject *encoded = NULL, *status, *content, *result = NULL;
    Py_ssize_t most;
    struct heap heap = {0};
    struct stat found;
    size_t start = 0;
    ssize_t length = 0;
    if (!PyArg_ParseTuple(arguments, "iO&n:hold_file", &folder, PyUnicode_FSConverter, &encoded, &most))
        return NULL;
    if (most < 0 || most > MOST_BYTES) {
        PyErr_SetString(PyExc_ValueError, "out of range");
        Py_DecRef(encoded);
        return NULL;
    }
    const char *name = PyBytes_AsString(encoded);
    Py_BEGIN_ALLOW_THREADS
    fd = open_in(folder, name, READ_FLAGS);
    if (fd < 0)
        error = errno;
    else if (fstat(fd, &found) < 0)
        error = errno;
    else
        error = read_beginning(fd, 0, (size_t)most, &heap, &start, &length);
    if (error && fd >= 0)
        close(fd);
    Py_END_ALLOW_THREADS
    if (error) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    status = make_stat(&found, NULL);
    content = PyBytes_FromStringAndSize(heap.bytes + start, length);
    result = PyTuple_New(3);
    if (result == NULL || put(result, 1, status) < 0 || put(result, 2, content) < 0 ||
        put(result, 0, PyLong_FromLong(fd)) < 0) {
        Py_XDECREF(result);
        result = NULL;
        close(fd);
    }
done:
    free(heap.bytes);
    Py_DecRef(encoded);
    return result;
}

/* Take numbers from a list; NULL with an exception set on failure. */
static int *take_numbers(PyObject *list, Py_ssize_t *count)
{
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "descriptors must be a list");
        return NULL;
    }
    *count = PyList_Size(list);
    int *numbers = malloc((size_t)(*count + 1) * sizeof *numbers);
    if (numbers == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t number = 0; number < *count; number++) {
        long value = PyLong_AsLong(PyList_GetItem(list, number));
        if (PyErr_Occurred()) {
            free(numbers);
            return NULL;
        }
        numbers[number] = value < 0 || value > INT_MAX ? -1 : (int)value;
    }
    return numbers;
}

PyDoc_STRVAR(hold_folders_doc,
             "hold_folders(folders, names, metadata, most)\n--\n\n"
             "Open folders, each in an open one, as `hold_folder` does; returns errno for one that cannot be opened.");

static PyObject *hold_folders(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *parent_list, *name_list, *answer = NULL;
    const char *metadata;
    Py_ssize_t most, count;
    int *parents;
    struct names names = {0};
    struct held_folder *folders = NULL;
    if (!PyArg_ParseTuple(arguments, "OOsn:hold_folders", &parent_list, &name_list, &metadata, &most))
        return NULL;
    if (most < 0 || most > MOST_BYTES) {
        PyErr_SetString(PyExc_ValueError, "out of range");
        return NULL;
    }
    if ((parents = take_numbers(parent_list, &count)) == NULL || names_take(&names, name_list) < 0)
        goto done;
    if (names.count != count) {
        PyErr_SetString(PyExc_TypeError, "each name must have a folder");
        goto done;
    }
    folders = calloc((size_t)(count + 1), sizeof *folders);
    if (folders == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t number = 0; number < count; number++)
        folders[number].error =
            hold(parents[number], name_at(&names, number), metadata, (size_t)most, &folders[number]);
    Py_END_ALLOW_THREADS
    answer = PyList_New(count);
    for (Py_ssize_t number = 0; answer != NULL && number < count; number++) {
        PyObject *result = folders[number].error ? PyLong_FromLong(folders[number].error)
                                               : make_held_folder(&folders[number]);
        if (result == NULL || PyList_SetItem(answer, number, result) < 0) {
            Py_DecRef(answer);
            answer = NULL;
        }
    }
    for (Py_ssize_t number = 0; number < count; number++) {
        if (answer == NULL && !folders[number].error)
            close_held(&folders[number]);
        free_held(&folders[number]);
    }
done:
    free(folders);
    free(parents);
    names_free(&names);
    return answer;
}

PyDoc_STRVAR(take_leases_doc,
             "take_leases(fds)\n--\n\n"
             "Take a write lease on each open file, up to the first that another process has open; returns errno\n"
             "for each, 0 where it was granted. A process that opens one of them later makes the kernel send SIGURG.");

static PyObject *take_leases(PyObject *Py_UNUSED(module), PyObject *list)
{
    Py_ssize_t count, done = 0;
    int *numbers = take_numbers(list, &count);
    if (numbers == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    while (done < count) {
        int fd = numbers[done];
        /* guard(native-lease-every-file): A disk that any process has open stays. SIGURG, ignored by default,
           announces an opener; the default, SIGIO, would kill this process. */
        int failed = fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0;
        numbers[done++] = failed ? errno : 0;
        /* guard(native-first-refusal-decides): One file in use keeps the whole image; leases on the rest would
           only delay processes that open them. */
        if (numbers[done - 1] == EAGAIN)
            break;
    }
    Py_END_ALLOW_THREADS
    PyObject *answer = PyList_New(done);
    for (Py_ssize_t number = 0; answer != NULL && number < done; number++)
        if (PyList_SetItem(answer, number, PyLong_FromLong(numbers[number])) < 0) {
            Py_DecRef(answer);
            answer = NULL;
        }
    free(numbers);
    return answer;
}

PyDoc_STRVAR(are_leased_doc,
             "are_leased(fds)\n--\n\n"
             "Return whether the write lease on each open file is still held.");

static PyObject *are_leased(PyObject *Py_UNUSED(module), PyObject *list)
{
    Py_ssize_t count;
    int held = F_WRLCK, error = 0, *numbers = take_numbers(list, &count);
    if (numbers == NULL)
        return NULL;
    /* guard(native-every-lease-counts): A process that opened any file of the image, not only the last, gets the
       image back whole. */
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t number = 0; held == F_WRLCK && number < count; number++)
        held = fcntl(numbers[number], F_GETLEASE);
    if (held < 0)
        error = errno;
    Py_END_ALLOW_THREADS
    free(numbers);
    if (error) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyBool_FromLong(held == F_WRLCK);
}

PyDoc_STRVAR(close_all_doc,
             "close_all(fds)\n--\n\n"
             "Close descriptors that nothing was written through; invalid ones are skipped.");

static PyObject *close_all(PyObject *Py_UNUSED(module), PyObject *list)
{
    Py_ssize_t count;
    int *numbers = take_numbers(list, &count);
    if (numbers == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t number = 0; number < count; number++)
        if (numbers[number] >= 0)
            close(numbers[number]);
    Py_END_ALLOW_THREADS
    free(numbers);
    return Py_NewRef(Py_None);
}

/* The result of setting one link aside. */
struct aside {
    int error;
    int look_error; /* why the link that was set aside could not be examined */
    unsigned long long inode;
    size_t start;
    ssize_t length;
};

/* Rename a link out of its folder if it still has its inode, and examine it in its new place. */
static void set_one_aside(int folder, const char *tag, unsigned long long inode, int beside, const char *name,
                          struct aside *aside, struct heap *heap)
{
    struct stat found;
    memset(aside, 0, sizeof *aside);
    if (fstatat(folder, tag, &found, AT_SYMLINK_NOFOLLOW) < 0) {
        aside->error = errno;
        return;
    }
    /* guard(native-tag-on-record-only): A tag that has been set again since the look is another one: it stays in
       place, even for a moment. */
    if (found.st_ino != inode) {
        aside->error = ENOENT;
        return;
    }
    if (renameat(folder, tag, beside, name) < 0) {
        aside->error = errno;
        return;
    }
    char *room = heap_room(heap, LONGEST_LINK);
    if (room == NULL) {
        aside->look_error = ENOMEM;
        return;
    }
    aside->start = heap->used;
    if (fstatat(beside, name, &found, AT_SYMLINK_NOFOLLOW) < 0 ||
        (aside->length = readlinkat(beside, name, room, LONGEST_LINK)) < 0) {
        aside->look_error = errno;
        aside->length = 0;
        return;
    }
    aside->inode = found.st_ino;
    heap->used += (size_t)aside->length;
}

static PyObject *make_aside(const struct aside *aside, const struct heap *heap)
{
    PyObject *result = PyTuple_New(4);
    const char *target = aside->length > 0 ? heap->bytes + aside->start : "";
    if (result == NULL)
        return NULL;
    if (put(result, 0, PyLong_FromLong(aside->error)) < 0 ||
        put(result, 1, PyLong_FromLong(aside->look_error)) < 0 ||
        put(result, 2, PyLong_FromUnsignedLongLong(aside->inode)) < 0 ||
        put(result, 3, PyUnicode_DecodeFSDefaultAndSize(target, aside->length)) < 0) {
        Py_DecRef(result);
        return NULL;
    }
    return result;
}

/* Take inodes from a list; NULL with an exception set on failure. */
static unsigned long long *take_inodes(PyObject *list, Py_ssize_t count)
{
    if (!PyList_Check(list) || PyList_Size(list) != count) {
        PyErr_SetString(PyExc_TypeError, "inodes must be a list as long as that of the names");
        return NULL;
    }
    unsigned long long *inodes = malloc((size_t)(count + 1) * sizeof *inodes);
    if (inodes == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t number = 0; number < count; number++) {
        inodes[number] = PyLong_AsUnsignedLongLong(PyList_GetItem(list, number));
        if (PyErr_Occurred()) {
            free(inodes);
            return NULL;
        }
    }
    return inodes;
}

PyDoc_STRVAR(set_aside_doc,
             "set_aside(folder, tags, inodes, beside, names)\n--\n\n"
             "Rename links out of an open folder, each if it still has its inode, to names in another.\n\n"
             "Returns for each errno (0: renamed; ENOENT also where another link was in its place), and for the renamed\n"
             "link errno of examining it, its inode, and its target.");

static PyObject *set_aside(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int folder, beside;
    PyObject *tag_list, *inode_list, *name_list, *answer = NULL;
    struct names tags, names;
    struct heap heap = {0};
    struct aside *asides = NULL;
    if (!PyArg_ParseTuple(arguments, "iOOiO:set_aside", &folder, &tag_list, &inode_list, &beside, &name_list))
        return NULL;
    if (names_take(&tags, tag_list) < 0)
        return NULL;
    if (names_take(&names, name_list) < 0) {
        names_free(&tags);
        return NULL;
    }
    unsigned long long *inodes = take_inodes(inode_list, tags.count);
    if (inodes == NULL)
        goto done;
    if (names.count != tags.count) {
        PyErr_SetString(PyExc_TypeError, "each tag must have a name");
        goto done;
    }
    asides = malloc((size_t)(tags.count + 1) * sizeof *asides);
    if (asides == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t number = 0; number < tags.count; number++)
        set_one_aside(folder, name_at(&tags, number), inodes[number], beside, name_at(&names, number),
                      &asides[number], &heap);
    Py_END_ALLOW_THREADS
    answer = PyList_New(tags.count);
    for (Py_ssize_t number = 0; answer != NULL && number < tags.count; number++) {
        PyObject *result = make_aside(&asides[number], &heap);
        if (result == NULL || PyList_SetItem(answer, number, result) < 0) {
            Py_DecRef(answer);
            answer = NULL;
        }
    }
done:
    free(asides);
    free(inodes);
    free(heap.bytes);
    names_free(&tags);
    names_free(&names);
    return answer;
}

static int is_among(const struct names *names, const char *name)
{
    for (Py_ssize_t number = 0; number < names->count; number++)
        if (strcmp(name_at(names, number), name) == 0)
            return 1;
    return 0;
}

/* Remove files of an open folder, up to the first that cannot be removed; returns errno, or 0. */
static int remove_files(int folder, const struct names *files, const struct names *disks, long long *blocks)
{
    for (Py_ssize_t number = 0; number < files->count; number++) {
        struct stat found;
        const char *name = name_at(files, number);
        long long freed = 0;
        if (is_among(disks, name)) {
            if (fstatat(folder, name, &found, AT_SYMLINK_NOFOLLOW) < 0)
                return errno;
            /* guard(native-last-name-frees): A disk with another hard link frees nothing; counted, it would
               report space that a full disk does not have. */
            if (S_ISREG(found.st_mode) && found.st_nlink == 1)
                freed = found.st_blocks;
        }
        if (unlinkat(folder, name, 0) < 0)
            return errno;
        *blocks += freed;
    }
    return 0;
}

PyDoc_STRVAR(erase_folder_doc,
             "erase_folder(folder, name, files, disks)\n--\n\n"
             "Remove a folder in an open one, by the names of all files in it, in their order.\n\n"
             "Returns errno (0: removed) and the blocks that were freed by those of its files that are disks.");

static PyObject *erase_folder(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int parent, fd, error = 0;
    long long blocks = 0;
    PyObject *encoded = NULL, *file_list, *disk_list, *answer = NULL;
    struct names files, disks;
    if (!PyArg_ParseTuple(arguments, "iO&OO:erase_folder", &parent, PyUnicode_FSConverter, &encoded, &file_list,
                          &disk_list))
        return NULL;
    const char *name = PyBytes_AsString(encoded);
    if (names_take(&files, file_list) < 0)
        goto named;
    if (names_take(&disks, disk_list) < 0)
        goto listed;
    Py_BEGIN_ALLOW_THREADS
    fd = open_in(parent, name, FOLDER_FLAGS);
    if (fd < 0) {
        error = errno;
    } else {
        error = remove_files(fd, &files, &disks, &blocks);
        close(fd);
        if (!error && unlinkat(parent, name, AT_REMOVEDIR) < 0)
            error = errno;
    }
    Py_END_ALLOW_THREADS
    answer = PyTuple_New(2);
    if (answer != NULL && (put(answer, 0, PyLong_FromLong(error)) < 0 || put(answer, 1, PyLong_FromLongLong(blocks)) < 0)) {
        Py_DecRef(answer);
        answer = NULL;
    }
    names_free(&disks);
listed:
    names_free(&files);
named:
    Py_DecRef(encoded);
    return answer;
}
