/* The deletion of one image in one call; a part of _native.c, which defines what this uses.

   The order is that of hmret/disk/deletion/retirement.py, for a folder that goes alone while nothing is
   out of the ordinary; that file has the reason for each step. Leases, rename, checks after it, a look for
   replacements, all tags set aside, the look again, tags removed, timers removed.

   This decides nothing: it compares with what Python has found. At the first difference, and at the first
   error, it stops and returns the step that it had reached. Nothing is undone here: Python continues from
   that step, one call at a time, and puts back or finishes. So a crash in the midst of this leaves what a
   crash between the same single calls would leave, and recovery by the intent, which was on the disk
   before, treats both alike. */

/* The step that was reached; hmret/disk/kernel/system_calls.py has the same numbers. */
enum step {
    NOT_BEGUN, /* nothing was changed */
    LEASED,    /* every file is leased, and a rename has failed */
    RENAMED,   /* it is out of the cache, but the checks after the rename found something unexpected */
    CLOSED,    /* no process has opened it during the rename, it is closed; something is in its place, or
                  may be */
    LOOKED,    /* nothing is in its place; tags and timers that are still there are to be removed */
    DONE
};

/* Names of one kind, each with the folder that holds it. */
struct placed {
    int *folders;
    struct names names;
};

/* One folder that is to go, and everything that goes with it. */
struct going {
    int data, parent, trash, folder, metadata, syncs, leases;
    const char *name, *aside;
    unsigned long long inode;
    long long changed_ns, metadata_changed_ns;
    int *files;
    Py_ssize_t file_count;
    struct names absent;     /* below the data directory: nothing may be at these once it has gone */
    struct placed tags;      /* its links */
    struct names targets;    /* the target of each */
    struct names tag_asides; /* the name of each in the trash */
    unsigned long long *tag_inodes;
    struct placed timers;
    long long *marks; /* for each timer mode, device, inode, size, mtime and ctime */
    Py_ssize_t gone;  /* how many links, counted from the last, are removed for good */
};

enum { MARKS = 6 };

static int lease_all(const struct going *going)
{
    for (Py_ssize_t number = 0; going->leases && number < going->file_count; number++) {
        int fd = going->files[number];
        /* guard(native-lease-before-rename): A disk that any process has open stays. SIGURG, ignored by default,
           announces an opener; the default, SIGIO, would kill this process. */
        if (fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
            return errno;
    }
    return 0;
}

static int all_leased(const struct going *going)
{
    for (Py_ssize_t number = 0; going->leases && number < going->file_count; number++)
        if (fcntl(going->files[number], F_GETLEASE) != F_WRLCK)
            return 0;
    return 1;
}

static void close_going(struct going *going)
{
    for (Py_ssize_t number = 0; number < going->file_count; number++)
        close(going->files[number]);
    close(going->folder);
}

/* Return why the folder may not be renamed now; 0: nothing has changed since it was examined. */
static int changed_before(const struct going *going)
{
    struct stat found;
    if (fstat(going->metadata, &found) < 0)
        return errno;
    /* guard(native-metadata-unchanged): Metadata rewritten since the image was judged may say something else of
       it, so the image stays this time. */
    if (nanoseconds(found.st_ctim) != going->metadata_changed_ns)
        return ESTALE;
    if (!going->syncs)
        return 0;
    if (fstatat(going->parent, going->name, &found, AT_SYMLINK_NOFOLLOW) < 0)
        return errno;
    /* guard(native-same-folder): A fresh pull may have replaced the folder since it was judged; only the one
       that was judged is renamed. */
    return found.st_ino == going->inode ? 0 : ESTALE;
}

/* Return what is wrong right after the rename; 0: nothing, and the rename is on the disk if it must be. */
static int changed_after(const struct going *going)
{
    struct stat found;
    if (fstatat(going->trash, going->aside, &found, AT_SYMLINK_NOFOLLOW) < 0)
        return errno;
    /* guard(native-nothing-came-in): A folder that was replaced or gained a file before the rename may be a new
       pull's, so it is put back. */
    if (found.st_ino != going->inode || nanoseconds(found.st_mtim) != going->changed_ns)
        return ESTALE;
    /* guard(native-sync-before-tags): The rename is on the disk before tags go; after a power loss content would
       otherwise be back without its tags. */
    if (going->syncs && (fsync(going->parent) < 0 || fsync(going->trash) < 0))
        return errno;
    /* guard(native-lease-after-rename): A process that opened the disk between the lease and the rename gets the
       image back whole. */
    return all_leased(going) ? 0 : EBUSY;
}

/* Return why something may be in the place of the folder that has gone; 0: nothing is. */
static int has_come(const struct going *going)
{
    struct stat found;
    for (Py_ssize_t number = 0; number < going->absent.count; number++) {
        if (fstatat(going->data, name_at(&going->absent, number), &found, AT_SYMLINK_NOFOLLOW) == 0)
            return EEXIST;
        /* guard(native-unseen-not-absent): A place that cannot be looked at may hold a fresh pull, so no tag is
           removed. */
        if (errno != ENOENT && errno != ENOTDIR)
            return errno;
    }
    return 0;
}

/* Set all links aside, each if it is the recorded one; returns why one could not be, or 0. */
static int set_all_aside(const struct going *going, struct heap *heap)
{
    for (Py_ssize_t number = 0; number < going->tags.names.count; number++) {
        struct aside aside;
        const char *target = name_at(&going->targets, number);
        heap->used = 0;
        set_one_aside(going->tags.folders[number], name_at(&going->tags.names, number), going->tag_inodes[number],
                      going->trash, name_at(&going->tag_asides, number), &aside, heap);
        if (aside.error || aside.look_error)
            return aside.error ? aside.error : aside.look_error;
        /* guard(native-tag-leads-here): A tag that leads elsewhere is another image's and is not removed, even
           if it reuses the same inode. */
        if (aside.inode != going->tag_inodes[number] || aside.length != (ssize_t)strlen(target) ||
            memcmp(heap->bytes + aside.start, target, strlen(target)) != 0)
            return ESTALE;
    }
    return 0;
}

static int remove_tags(struct going *going)
{
    /* guard(native-hiding-tag-goes-first): A tag that hides an older one goes first, so that no lookup ever
       finds the old image. */
    for (Py_ssize_t number = going->tags.names.count - 1; number >= 0; number--) {
        if (unlinkat(going->trash, name_at(&going->tag_asides, number), 0) < 0)
            return errno;
        going->gone++;
    }
    return 0;
}

static int remove_timers(const struct going *going)
{
    struct stat found;
    for (Py_ssize_t number = 0; number < going->timers.names.count; number++) {
        const long long *mark = going->marks + MARKS * number;
        int folder = going->timers.folders[number];
        const char *name = name_at(&going->timers.names, number);
        if (fstatat(folder, name, &found, AT_SYMLINK_NOFOLLOW) < 0)
            return errno;
        /* guard(native-timer-unchanged): A timer rewritten since the image was judged may be that of a fresh
           pull and is not removed. */
        if (mark[0] != (long long)found.st_mode || mark[1] != (long long)found.st_dev ||
            mark[2] != (long long)found.st_ino || mark[3] != (long long)found.st_size ||
            mark[4] != nanoseconds(found.st_mtim) || mark[5] != nanoseconds(found.st_ctim))
            return ESTALE;
        if (unlinkat(folder, name, 0) < 0)
            return errno;
    }
    return 0;
}

static enum step carry_out(struct going *going, struct heap *heap, int *error)
{
    if ((*error = lease_all(going)) || (*error = changed_before(going)))
        return NOT_BEGUN;
    if (renameat(going->parent, going->name, going->trash, going->aside) < 0) {
        *error = errno;
        return LEASED;
    }
    if ((*error = changed_after(going)))
        return RENAMED;
    /* guard(native-release-openers): A process that opens one of these files waits for its lease to end, so it
       is not kept waiting for the cleanup. */
    close_going(going);
    /* guard(native-no-replacement-before-tags): Where the image has been pulled again since the rename, its tags
       lead to the fresh one and stay. */
    if ((*error = has_come(going)))
        return CLOSED;
    /* guard(native-no-replacement-after-tags): A pull may arrive while the tags are set aside; they are then put
       back for the fresh image. */
    if ((*error = set_all_aside(going, heap)) || (*error = has_come(going)) || (*error = remove_tags(going)) ||
        (*error = remove_timers(going)))
        return LOOKED;
    return DONE;
}

/* Take pairs of a folder and a name from two lists. */
static int take_placed(struct placed *placed, PyObject *folders, PyObject *names)
{
    Py_ssize_t count;
    placed->folders = take_numbers(folders, &count);
    if (placed->folders == NULL || names_take(&placed->names, names) < 0)
        return -1;
    if (placed->names.count != count) {
        PyErr_SetString(PyExc_TypeError, "each name must have a folder");
        return -1;
    }
    return 0;
}

static void free_placed(struct placed *placed)
{
    free(placed->folders);
    names_free(&placed->names);
}

/* Take signed numbers from a list of a certain length. */
static long long *take_marks(PyObject *list, Py_ssize_t count)
{
    if (!PyList_Check(list) || PyList_Size(list) != count) {
        PyErr_SetString(PyExc_TypeError, "each timer must have six numbers");
        return NULL;
    }
    long long *numbers = malloc((size_t)(count + 1) * sizeof *numbers);
    if (numbers == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t number = 0; number < count; number++) {
        /* They are compared like the kernel's own unsigned numbers. */
        numbers[number] = (long long)PyLong_AsUnsignedLongLongMask(PyList_GetItem(list, number));
        if (PyErr_Occurred()) {
            free(numbers);
            return NULL;
        }
    }
    return numbers;
}

PyDoc_STRVAR(retire_folder_doc,
             "retire_folder(fds, names, numbers, files, absent, tags, timers)\n--\n\n"
             "Rename a folder out of the cache, remove its tags and its timers; stop at anything unexpected.\n\n"
             "`fds`: the data directory, its parent, the trash, the folder itself, its metadata; `names`: its\n"
             "own, and that in the trash; `numbers`: its inode and mtime in nanoseconds, ctime of its metadata in\n"
             "nanoseconds, whether renames are synced, and whether leases are taken; `files`: its open\n"
             "files; `absent`: paths below the data directory; `tags`: five lists, of folders, names, inodes, targets,\n"
             "and names in the trash; `timers`: three lists, of folders, names, and six numbers for each.\n\n"
             "Returns the step reached, why it stopped (errno), and how many tags, counted from the last, are removed.");

static PyObject *retire_folder(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    PyObject *files, *absent, *tag_folders, *tags, *inodes, *targets, *asides, *timer_folders, *timers, *marks;
    PyObject *name = NULL, *aside = NULL, *answer = NULL;
    struct going going = {.data = -1};
    struct heap heap = {0};
    enum step step;
    int error = 0;
    if (!PyArg_ParseTuple(arguments, "(iiiii)(O&O&)(KLLpp)OO(OOOOO)(OOO):retire_folder", &going.data, &going.parent,
                          &going.trash, &going.folder, &going.metadata, PyUnicode_FSConverter, &name,
                          PyUnicode_FSConverter, &aside, &going.inode, &going.changed_ns,
                          &going.metadata_changed_ns, &going.syncs, &going.leases, &files, &absent, &tag_folders,
                          &tags, &inodes, &targets, &asides, &timer_folders, &timers, &marks))
        goto done;
    going.name = PyBytes_AsString(name);
    going.aside = PyBytes_AsString(aside);
    if ((going.files = take_numbers(files, &going.file_count)) == NULL || names_take(&going.absent, absent) < 0 ||
        take_placed(&going.tags, tag_folders, tags) < 0 || names_take(&going.targets, targets) < 0 ||
        names_take(&going.tag_asides, asides) < 0 ||
        (going.tag_inodes = take_inodes(inodes, going.tags.names.count)) == NULL ||
        take_placed(&going.timers, timer_folders, timers) < 0 ||
        (going.marks = take_marks(marks, MARKS * going.timers.names.count)) == NULL)
        goto done;
    if (going.targets.count != going.tags.names.count || going.tag_asides.count != going.tags.names.count) {
        PyErr_SetString(PyExc_TypeError, "each tag must have a target and a name");
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    step = carry_out(&going, &heap, &error);
    Py_END_ALLOW_THREADS
    answer = Py_BuildValue("(iin)", (int)step, error, going.gone);
done:
    free(heap.bytes);
    free(going.files);
    names_free(&going.absent);
    free_placed(&going.tags);
    names_free(&going.targets);
    names_free(&going.tag_asides);
    free(going.tag_inodes);
    free_placed(&going.timers);
    free(going.marks);
    Py_XDECREF(name);
    Py_XDECREF(aside);
    return answer;
}
