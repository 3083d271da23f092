/* Reading whole folders: part of _native.c.

   One call opens some folders, one after the other, lists each, and reads the links and some of the files
   in it, by the same calls in the same order as `FolderCalls.read_folders` does. */

/* guard(native-whole-folder-no-links): A link in the place of a folder of tags or timers is not followed: what
   lies behind it belongs to something else. */
#define WHOLE_FOLDER_FLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

/* What was found in one folder: its entries in the heap, and behind them a piece for each link, and for each
   file that was to be read. */
struct whole_folder {
    int error; /* 0: all of it was read */
    int is_over; /* whether there are too many links or files to read */
    struct stat found;
    size_t start, pieces, end;
};

/* The target of a link, or a file with its content; the bytes follow. */
struct piece {
    int error;
    size_t length;
    struct stat found;
};

/* What is read of folders. */
struct wanted {
    const char *suffix; /* of the names of the files that are read; empty: none is */
    size_t suffix_length;
    Py_ssize_t most;      /* how many bytes are read of each */
    Py_ssize_t most_read; /* how many links, and how many files, are read in one folder */
};

/* Return whether an entry is a file that is to be read. */
static int is_wanted(const struct wanted *wanted, const struct entry *entry, const char *name)
{
    const size_t length = wanted->suffix_length;
    return entry->kind == 'f' && length > 0 && entry->length >= length &&
           memcmp(name + entry->length - length, wanted->suffix, length) == 0;
}

/* Read one link, or one file, into a piece; returns 0 if memory has run out. */
static int read_piece(int fd, const struct wanted *wanted, const char *name, char kind, struct heap *heap)
{
    struct piece piece = {0};
    const size_t at = heap->used;
    char *room = heap_room(heap, sizeof piece + LONGEST_LINK);
    if (room == NULL)
        return 0;
    heap->used += sizeof piece;
    if (kind == 'l') {
        const ssize_t length = readlinkat(fd, name, room + sizeof piece, LONGEST_LINK);
        piece.error = length < 0 ? errno : 0;
        piece.length = length < 0 ? 0 : (size_t)length;
        heap->used += piece.length;
    } else {
        size_t start;
        ssize_t length;
        piece.error = read_one(fd, name, (size_t)wanted->most, &piece.found, heap, &start, &length);
        if (piece.error == ENOMEM)
            return 0;
        piece.length = piece.error ? 0 : (size_t)length;
    }
    memcpy(heap->bytes + at, &piece, sizeof piece);
    return 1;
}

/* Read all links, or all files that are wanted, of a folder that has been listed. */
static int read_pieces(int fd, const struct wanted *wanted, const struct whole_folder *folder, char kind,
                       struct heap *heap)
{
    char name[NAME_MAX + 1];
    for (size_t at = folder->start; at < folder->pieces;) {
        struct entry entry;
        memcpy(&entry, heap->bytes + at, sizeof entry);
        at += sizeof entry;
        if (entry.kind == 'l' ? kind == 'l' : kind == 'f' && is_wanted(wanted, &entry, heap->bytes + at)) {
            /* The heap may move while something is read into it. */
            memcpy(name, heap->bytes + at, entry.length);
            name[entry.length] = 0;
            if (!read_piece(fd, wanted, name, kind, heap))
                return ENOMEM;
        }
        at += entry.length;
    }
    return 0;
}

/* Return whether a folder that has been listed holds too much for one call. */
static int holds_too_much(const struct wanted *wanted, const struct whole_folder *folder, const struct heap *heap)
{
    Py_ssize_t links = 0, files = 0;
    for (size_t at = folder->start; at < folder->pieces;) {
        struct entry entry;
        memcpy(&entry, heap->bytes + at, sizeof entry);
        at += sizeof entry;
        /* A name that is longer than the kernel allows comes from no kernel. */
        if (entry.length > NAME_MAX)
            return 1;
        links += entry.kind == 'l';
        files += is_wanted(wanted, &entry, heap->bytes + at);
        at += entry.length;
    }
    return links > wanted->most_read || files > wanted->most_read;
}

static void read_whole_folder(int parent, const char *path, const struct wanted *wanted,
                              struct whole_folder *folder, struct heap *heap)
{
    int fd;
    memset(folder, 0, sizeof *folder);
    folder->start = folder->pieces = folder->end = heap->used;
    do
        fd = openat(parent, path, WHOLE_FOLDER_FLAGS);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) {
        folder->error = errno;
        return;
    }
    /* The time stamps are asked before the listing: asked afterwards, they would vouch for one that misses what
       has changed since. */
    folder->error = fstat(fd, &folder->found) < 0 ? errno : 0;
    if (folder->error == 0)
        folder->error = entries_into(fd, heap);
    folder->pieces = folder->end = heap->used;
    if (folder->error == 0)
        folder->is_over = holds_too_much(wanted, folder, heap);
    if (folder->error == 0 && !folder->is_over)
        folder->error = read_pieces(fd, wanted, folder, 'l', heap);
    if (folder->error == 0 && !folder->is_over)
        folder->error = read_pieces(fd, wanted, folder, 'f', heap);
    folder->end = heap->used;
    close(fd);
    if (folder->error || folder->is_over)
        heap->used = folder->pieces = folder->end = folder->start;
}

/* Turn a piece into a target, or a status with content; or into an errno. */
static PyObject *make_piece(const struct piece *piece, const char *bytes, char kind)
{
    PyObject *content;
    if (piece->error)
        return PyLong_FromLong(piece->error);
    if (kind == 'l')
        return PyUnicode_DecodeFSDefaultAndSize(bytes, (Py_ssize_t)piece->length);
    content = PyBytes_FromStringAndSize(bytes, (Py_ssize_t)piece->length);
    return content == NULL ? NULL : make_stat(&piece->found, content);
}

/* What a folder holds, as lists: the names of links, their targets; the names of folders, of everything else;
   the files that were read. */
enum part_of_folder { LINKS, TARGETS, FOLDERS, OTHERS, FILES, PARTS };

/* Add the names of a folder and what was read in it to its lists; -1 with an exception set on failure. */
static int fill_lists(const struct wanted *wanted, const struct whole_folder *folder, const struct heap *heap,
                      PyObject *lists[PARTS])
{
    size_t at_piece = folder->pieces;
    Py_ssize_t links = 0, files = 0;
    for (size_t at = folder->start; at < folder->pieces;) {
        struct entry entry;
        memcpy(&entry, heap->bytes + at, sizeof entry);
        at += sizeof entry;
        const char *name = heap->bytes + at;
        at += entry.length;
        const int place = entry.kind == 'l' ? LINKS : entry.kind == 'd' ? FOLDERS : OTHERS;
        if (append(lists[place], PyUnicode_DecodeFSDefaultAndSize(name, (Py_ssize_t)entry.length)) < 0)
            return -1;
        links += entry.kind == 'l';
        files += is_wanted(wanted, &entry, name);
    }
    for (Py_ssize_t number = 0; number < links + files; number++) {
        const char kind = number < links ? 'l' : 'f';
        struct piece piece;
        memcpy(&piece, heap->bytes + at_piece, sizeof piece);
        at_piece += sizeof piece;
        if (append(lists[kind == 'l' ? TARGETS : FILES], make_piece(&piece, heap->bytes + at_piece, kind)) < 0)
            return -1;
        at_piece += piece.length;
    }
    return 0;
}

static PyObject *make_whole_folder(const struct wanted *wanted, const struct whole_folder *folder,
                                   const struct heap *heap)
{
    PyObject *lists[PARTS] = {0}, *result = NULL;
    int is_full = 1;
    if (folder->error)
        return PyLong_FromLong(folder->error);
    if (folder->is_over) {
        Py_IncRef(Py_None);
        return Py_None;
    }
    for (int part = 0; part < PARTS; part++)
        is_full = (lists[part] = PyList_New(0)) != NULL && is_full;
    if (is_full && fill_lists(wanted, folder, heap, lists) == 0) {
        PyObject *status = make_stat(&folder->found, NULL);
        if (status != NULL)
            result = PyTuple_Pack(PARTS + 1, status, lists[LINKS], lists[TARGETS], lists[FOLDERS],
                                  lists[OTHERS], lists[FILES]);
        Py_XDECREF(status);
    }
    for (int part = 0; part < PARTS; part++)
        Py_XDECREF(lists[part]);
    return result;
}

static PyObject *look_at_folders(int parent, PyObject *list, const struct wanted *wanted)
{
    struct names names;
    struct heap heap = {0};
    PyObject *answer = NULL;
    if (names_take(&names, list) < 0)
        return NULL;
    struct whole_folder *folders = malloc((size_t)(names.count + 1) * sizeof *folders);
    if (folders == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t number = 0; number < names.count; number++)
        read_whole_folder(parent, name_at(&names, number), wanted, &folders[number], &heap);
    Py_END_ALLOW_THREADS
    answer = PyList_New(names.count);
    for (Py_ssize_t number = 0; answer != NULL && number < names.count; number++) {
        PyObject *result = make_whole_folder(wanted, &folders[number], &heap);
        if (result == NULL || PyList_SetItem(answer, number, result) < 0) {
            Py_DecRef(answer);
            answer = NULL;
        }
    }
done:
    free(folders);
    free(heap.bytes);
    names_free(&names);
    return answer;
}

PyDoc_STRVAR(read_folders_doc,
             "read_folders(folder, paths, suffix, most, most_read)\n--\n\n"
             "Read folders below an open one, following no link in their last component.\n\n"
             "Returns for each its status; the names of its links, and the target of each, or an errno; the names of\n"
             "its folders; the names of everything else; and of each of those that ends with the suffix what\n"
             "`read_files` returns for it. For a folder that fails, an errno; None for one with more than `most_read`\n"
             "links, or more than that many files to read. An empty suffix: no file is read.");

static PyObject *read_folders(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int folder;
    PyObject *list;
    struct wanted wanted = {0};
    if (!PyArg_ParseTuple(arguments, "iOsnn:read_folders", &folder, &list, &wanted.suffix, &wanted.most,
                          &wanted.most_read))
        return NULL;
    if (wanted.most < 0 || wanted.most > MOST_BYTES) {
        PyErr_SetString(PyExc_ValueError, "out of range");
        return NULL;
    }
    wanted.suffix_length = strlen(wanted.suffix);
    return look_at_folders(folder, list, &wanted);
}
