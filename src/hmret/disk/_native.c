/* Whole-folder work in one call, with the interpreter's lock released during the system calls.

   These functions hold no policy. They make the same calls as hmret/disk/kernel/folder_calls.py does one
   by one, and return what the kernel returned: Python decodes it and decides. Every path is relative to an
   open folder, no symbolic link is followed in a last component, and nothing is changed on the disk here.

   Each takes a list of names and returns a result for each, in order. Those that read whole folders are in
   _folders.c; the calls of a deletion, which do change the disk, are in _deletion.c and _retirement.c.
   hmret/disk/filesystem.py has the contract that all of them keep. */

/* One module serves all versions from 3.11 on, whichever it was compiled for. So no argument format has a
   length (#): compiled for 3.13, where PY_SSIZE_T_CLEAN does nothing, 3.12 would refuse it. Bytes are
   taken as objects. */
#define Py_LIMITED_API 0x030B0000
#define _GNU_SOURCE
#include <Python.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* guard(native-read-no-links): No link is followed to a file: it could pass off a file from elsewhere as part of
   an image. */
#define READ_FLAGS (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC)
#define LONGEST_LINK 4096
#define MOST_BYTES (1 << 24)
#define MARK_BYTES ((Py_ssize_t)(4 * sizeof(uint64_t)))
#define SHORT_MARK_BYTES ((Py_ssize_t)(2 * sizeof(int64_t)))

/* A growing buffer. */
struct heap {
    char *bytes;
    size_t used, size;
};

/* Make room for `more` bytes; NULL if memory has run out. */
static char *heap_room(struct heap *heap, size_t more)
{
    if (heap->bytes == NULL || heap->size - heap->used < more) {
        size_t size = heap->size ? heap->size : 1 << 16;
        while (size - heap->used < more)
            size *= 2;
        char *bytes = realloc(heap->bytes, size);
        if (bytes == NULL)
            return NULL;
        heap->bytes = bytes;
        heap->size = size;
    }
    return heap->bytes + heap->used;
}

/* Names as the kernel wants them: `count` texts that end with a zero byte, and the start of each. */
struct names {
    struct heap heap;
    size_t *starts;
    Py_ssize_t count;
};

static void names_free(struct names *names)
{
    free(names->heap.bytes);
    free(names->starts);
    memset(names, 0, sizeof *names);
}

static const char *name_at(const struct names *names, Py_ssize_t number)
{
    return names->heap.bytes + names->starts[number];
}

/* Take names from a list of texts; -1 with an exception set on failure. */
static int names_take(struct names *names, PyObject *list)
{
    memset(names, 0, sizeof *names);
    if (!PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "names must be a list");
        return -1;
    }
    names->count = PyList_Size(list);
    names->starts = malloc((size_t)(names->count + 1) * sizeof *names->starts);
    if (names->starts == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t number = 0; number < names->count; number++) {
        PyObject *text = PyList_GetItem(list, number);
        PyObject *encoded = NULL;
        char *bytes, *room;
        Py_ssize_t length;
        /* This refuses values that are no text, and texts with a zero byte in them. */
        if (text == NULL || !PyUnicode_FSConverter(text, &encoded))
            goto failed;
        if (PyBytes_AsStringAndSize(encoded, &bytes, &length) < 0) {
            Py_DecRef(encoded);
            goto failed;
        }
        room = heap_room(&names->heap, (size_t)length + 1);
        if (room == NULL) {
            Py_DecRef(encoded);
            PyErr_NoMemory();
            goto failed;
        }
        memcpy(room, bytes, (size_t)length + 1);
        names->starts[number] = names->heap.used;
        names->heap.used += (size_t)length + 1;
        Py_DecRef(encoded);
    }
    return 0;
failed:
    names_free(names);
    return -1;
}

static long long nanoseconds(struct timespec moment)
{
    return (long long)moment.tv_sec * 1000000000LL + moment.tv_nsec;
}

/* Open, stat and read one file, at most `most` bytes of it in one read; returns errno, or 0. */
static int read_one(int folder, const char *path, size_t most, struct stat *found, struct heap *heap,
                    size_t *start, ssize_t *length)
{
    int fd, error = 0;
    do
        fd = openat(folder, path, READ_FLAGS);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return errno;
    *start = heap->used;
    *length = 0;
    if (fstat(fd, found) < 0) {
        error = errno;
    } else {
        char *room = heap_room(heap, most);
        if (room == NULL) {
            error = ENOMEM;
        } else {
            do
                *length = read(fd, room, most);
            while (*length < 0 && errno == EINTR);
            if (*length < 0)
                error = errno;
            else
                heap->used += (size_t)*length;
        }
    }
    close(fd);
    return error;
}

/* Put an item into a tuple, which then owns it; -1 where the item is NULL. */
static int put(PyObject *tuple, Py_ssize_t place, PyObject *item)
{
    return item == NULL ? -1 : PyTuple_SetItem(tuple, place, item);
}

/* The contents of one digest's folder. */
struct image {
    int error; /* of reading the metadata; 0: it was read */
    size_t start;
    ssize_t length;
    unsigned long long inode;
    long long changed_ns;
    int disk;         /* the number of the disk's name; -1: there is no disk */
    int disk_error;   /* why the disk cannot be examined; 0: it can, or there is none */
    long long blocks; /* of the disk; -1: it is no regular file */
    unsigned long long device, disk_inode, links;
    int is_plain; /* whether the folder holds only regular files */
};

/* An entry of a folder, as getdents64 returns it. */
struct raw_entry {
    uint64_t inode;
    int64_t offset;
    unsigned short length; /* of the whole entry */
    unsigned char type;
    char name[];
};

/* Return whether a folder, listed completely, holds only regular files; 0 where that is unknown. */
static int holds_files_only(int parent, const char *name)
{
    _Alignas(struct raw_entry) char buffer[4096];
    struct stat found;
    int is_plain = 1;
    /* guard(native-plain-folder-no-links): A link to a folder of plain files would make something that is no
       image's folder pass for one. */
    int fd = openat(parent, name, READ_FLAGS | O_DIRECTORY);
    if (fd < 0)
        return 0;
    while (is_plain) {
        long length = syscall(SYS_getdents64, fd, buffer, sizeof buffer);
        if (length <= 0) {
            is_plain = length == 0;
            break;
        }
        for (long at = 0; is_plain && at < length;) {
            const struct raw_entry *entry = (const struct raw_entry *)(buffer + at);
            at += entry->length;
            if (strcmp(entry->name, ".") == 0 || strcmp(entry->name, "..") == 0)
                continue;
            if (entry->type == DT_UNKNOWN)
                is_plain = fstatat(fd, entry->name, &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(found.st_mode);
            /* guard(native-files-and-no-more): A folder with anything but regular files in it is not plainly an
               image and is never deleted. */
            else
                is_plain = entry->type == DT_REG;
        }
    }
    close(fd);
    return is_plain;
}

static void look_at_image(int folder, const char *name, const char *metadata, const struct names *disks,
                          size_t most, struct image *image, struct heap *heap)
{
    char path[2 * NAME_MAX + 2];
    struct stat found;
    size_t length = strlen(name);
    memset(image, 0, sizeof *image);
    image->disk = -1;
    if (length > NAME_MAX) {
        image->error = ENAMETOOLONG;
        image->disk = disks->count > 0 ? 0 : -1;
        image->disk_error = disks->count > 0 ? ENAMETOOLONG : 0;
        return;
    }
    memcpy(path, name, length);
    path[length++] = '/';
    strcpy(path + length, metadata);
    image->error = read_one(folder, path, most, &found, heap, &image->start, &image->length);
    if (image->error == 0) {
        image->inode = found.st_ino;
        image->changed_ns = nanoseconds(found.st_ctim);
    }
    for (Py_ssize_t number = 0; number < disks->count; number++) {
        strcpy(path + length, name_at(disks, number));
        /* guard(native-disk-no-links): A link in the place of a disk is judged as a link: what it leads to does
           not make the image whole. */
        if (fstatat(folder, path, &found, AT_SYMLINK_NOFOLLOW) == 0) {
            image->disk = (int)number;
            /* guard(native-disk-is-a-file): Only a regular file is a disk; with anything else in its place the
               image is broken and stays. */
            image->blocks = S_ISREG(found.st_mode) ? (long long)found.st_blocks : -1;
            image->device = found.st_dev;
            image->disk_inode = found.st_ino;
            image->links = found.st_nlink;
            break;
        }
        /* guard(native-unseen-disk-not-absent): A disk that cannot be looked at is not absent: the image is
           reported as broken rather than judged without it. */
        if (errno != ENOENT && errno != ENOTDIR) {
            image->disk = (int)number;
            image->disk_error = errno;
            break;
        }
    }
    if (image->error == 0 && image->disk >= 0 && image->disk_error == 0 && image->blocks >= 0)
        image->is_plain = holds_files_only(folder, name);
}

/* Return the identity of a disk that has other hard links; None where it has none. */
static PyObject *make_shared(const struct image *image)
{
    if (image->disk < 0 || image->disk_error || image->blocks < 0 || image->links <= 1) {
        Py_IncRef(Py_None);
        return Py_None;
    }
    return Py_BuildValue("(KKK)", image->device, image->disk_inode, image->links);
}

static PyObject *make_image(const struct image *image, const struct heap *heap)
{
    PyObject *content, *result = PyTuple_New(9);
    if (result == NULL)
        return NULL;
    content = image->error ? PyBytes_FromStringAndSize(NULL, 0)
                           : PyBytes_FromStringAndSize(heap->bytes + image->start, image->length);
    if (put(result, 0, PyLong_FromLong(image->error)) < 0 || put(result, 1, content) < 0 ||
        put(result, 2, PyLong_FromUnsignedLongLong(image->inode)) < 0 ||
        put(result, 3, PyLong_FromLongLong(image->changed_ns)) < 0 ||
        put(result, 4, PyLong_FromLong(image->disk)) < 0 ||
        put(result, 5, PyLong_FromLong(image->disk_error)) < 0 ||
        put(result, 6, PyLong_FromLongLong(image->blocks)) < 0 || put(result, 7, make_shared(image)) < 0 ||
        put(result, 8, PyBool_FromLong(image->is_plain)) < 0) {
        Py_DecRef(result);
        return NULL;
    }
    return result;
}

PyDoc_STRVAR(look_at_images_doc,
             "look_at_images(folder, names, metadata, disks, most)\n--\n\n"
             "Read the metadata of each image in an open folder, and examine its disk.\n\n"
             "Returns for each: errno of the metadata, at most `most` bytes of it, its inode and ctime in\n"
             "nanoseconds; which of the names in `disks` its disk has (-1: none), errno of examining it, its blocks\n"
             "(-1: it is no regular file), and its device, inode and number of links where it has more than one;\n"
             "whether all of that exists, with only regular files beside it.");

static PyObject *look_at_images(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int folder;
    PyObject *list, *disk_list, *answer = NULL;
    const char *metadata;
    Py_ssize_t most;
    struct names names, disks;
    struct heap heap = {0};
    struct image *images = NULL;
    if (!PyArg_ParseTuple(arguments, "iOsOn:look_at_images", &folder, &list, &metadata, &disk_list, &most))
        return NULL;
    if (most < 0 || most > MOST_BYTES || strlen(metadata) > NAME_MAX) {
        PyErr_SetString(PyExc_ValueError, "out of range");
        return NULL;
    }
    if (names_take(&names, list) < 0)
        return NULL;
    if (names_take(&disks, disk_list) < 0) {
        names_free(&names);
        return NULL;
    }
    for (Py_ssize_t number = 0; number < disks.count; number++)
        if (strlen(name_at(&disks, number)) > NAME_MAX) {
            PyErr_SetString(PyExc_ValueError, "out of range");
            goto done;
        }
    images = malloc((size_t)(names.count + 1) * sizeof *images);
    if (images == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t number = 0; number < names.count; number++)
        look_at_image(folder, name_at(&names, number), metadata, &disks, (size_t)most, &images[number], &heap);
    Py_END_ALLOW_THREADS
    answer = PyList_New(names.count);
    for (Py_ssize_t number = 0; answer != NULL && number < names.count; number++) {
        PyObject *result = make_image(&images[number], &heap);
        if (result == NULL || PyList_SetItem(answer, number, result) < 0) {
            Py_DecRef(answer);
            answer = NULL;
        }
    }
done:
    free(images);
    free(heap.bytes);
    names_free(&disks);
    names_free(&names);
    return answer;
}

/* The status of one file. */
struct file {
    int error;
    size_t start;
    ssize_t length;
    struct stat found;
};

static PyObject *make_stat(const struct stat *found, PyObject *content)
{
    PyObject *result = PyTuple_New(content == NULL ? 6 : 7);
    if (result == NULL) {
        Py_XDECREF(content);
        return NULL;
    }
    if ((content != NULL && put(result, 6, content) < 0) ||
        put(result, 0, PyLong_FromUnsignedLong(found->st_mode)) < 0 ||
        put(result, 1, PyLong_FromUnsignedLongLong(found->st_dev)) < 0 ||
        put(result, 2, PyLong_FromUnsignedLongLong(found->st_ino)) < 0 ||
        put(result, 3, PyLong_FromLongLong(found->st_size)) < 0 ||
        put(result, 4, PyLong_FromLongLong(nanoseconds(found->st_mtim))) < 0 ||
        put(result, 5, PyLong_FromLongLong(nanoseconds(found->st_ctim))) < 0) {
        Py_DecRef(result);
        return NULL;
    }
    return result;
}

/* Examine files, and read them unless `most` is negative. */
static PyObject *look_at_files(int folder, PyObject *list, Py_ssize_t most)
{
    struct names names;
    struct heap heap = {0};
    PyObject *answer = NULL;
    if (names_take(&names, list) < 0)
        return NULL;
    struct file *files = malloc((size_t)(names.count + 1) * sizeof *files);
    if (files == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t number = 0; number < names.count; number++) {
        struct file *file = &files[number];
        if (most >= 0)
            file->error = read_one(folder, name_at(&names, number), (size_t)most, &file->found, &heap,
                                   &file->start, &file->length);
        /* guard(native-stat-no-links): A link is compared itself, not its target; otherwise one put in the place
           of a file could pass for that file. */
        else
            file->error =
                fstatat(folder, name_at(&names, number), &file->found, AT_SYMLINK_NOFOLLOW) < 0 ? errno : 0;
    }
    Py_END_ALLOW_THREADS
    answer = PyList_New(names.count);
    for (Py_ssize_t number = 0; answer != NULL && number < names.count; number++) {
        const struct file *file = &files[number];
        PyObject *result, *content = NULL;
        if (file->error) {
            result = PyLong_FromLong(file->error);
        } else if (most >= 0) {
            content = PyBytes_FromStringAndSize(heap.bytes + file->start, file->length);
            result = content == NULL ? NULL : make_stat(&file->found, content);
        } else {
            result = make_stat(&file->found, NULL);
        }
        if (result == NULL || PyList_SetItem(answer, number, result) < 0) {
            Py_DecRef(answer);
            answer = NULL;
        }
    }
done:
    free(files);
    free(heap.bytes);
    names_free(&names);
    return answer;
}

PyDoc_STRVAR(read_files_doc,
             "read_files(folder, paths, most)\n--\n\n"
             "Read files below an open folder, at most `most` bytes of each.\n\n"
             "Returns for each its mode, device, inode, size, mtime and ctime in nanoseconds, and its content; or\n"
             "an errno.");

static PyObject *read_files(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int folder;
    PyObject *list;
    Py_ssize_t most;
    if (!PyArg_ParseTuple(arguments, "iOn:read_files", &folder, &list, &most))
        return NULL;
    if (most < 0 || most > MOST_BYTES) {
        PyErr_SetString(PyExc_ValueError, "out of range");
        return NULL;
    }
    return look_at_files(folder, list, most);
}

PyDoc_STRVAR(stat_files_doc,
             "stat_files(folder, paths)\n--\n\n"
             "Stat paths below an open folder, following no link in their last component.\n\n"
             "Returns for each its mode, device, inode, size, mtime and ctime in nanoseconds; or an errno.");

static PyObject *stat_files(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int folder;
    PyObject *list;
    if (!PyArg_ParseTuple(arguments, "iO:stat_files", &folder, &list))
        return NULL;
    return look_at_files(folder, list, -1);
}

PyDoc_STRVAR(read_links_doc,
             "read_links(folder, names)\n--\n\n"
             "Read symbolic links in an open folder; returns the target of each, or an errno.");

static PyObject *read_links(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int folder;
    PyObject *list, *answer = NULL;
    struct names names;
    struct heap heap = {0};
    if (!PyArg_ParseTuple(arguments, "iO:read_links", &folder, &list))
        return NULL;
    if (names_take(&names, list) < 0)
        return NULL;
    struct file *links = malloc((size_t)(names.count + 1) * sizeof *links);
    if (links == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t number = 0; number < names.count; number++) {
        struct file *link = &links[number];
        char *room = heap_room(&heap, LONGEST_LINK);
        link->error = 0;
        link->start = heap.used;
        link->length = room == NULL ? -1 : readlinkat(folder, name_at(&names, number), room, LONGEST_LINK);
        if (link->length < 0)
            link->error = room == NULL ? ENOMEM : errno;
        else
            heap.used += (size_t)link->length;
    }
    Py_END_ALLOW_THREADS
    answer = PyList_New(names.count);
    for (Py_ssize_t number = 0; answer != NULL && number < names.count; number++) {
        const struct file *link = &links[number];
        PyObject *result = link->error
                             ? PyLong_FromLong(link->error)
                             : PyUnicode_DecodeFSDefaultAndSize(heap.bytes + link->start, link->length);
        if (result == NULL || PyList_SetItem(answer, number, result) < 0) {
            Py_DecRef(answer);
            answer = NULL;
        }
    }
done:
    free(links);
    free(heap.bytes);
    names_free(&names);
    return answer;
}

/* One entry of a folder; its name follows it. */
struct entry {
    unsigned long long inode;
    size_t length;
    char kind;
};

static char kind_of(int folder, unsigned char type, const char *name)
{
    struct stat found;
    switch (type) {
    case DT_DIR:
        return 'd';
    case DT_LNK:
        /* guard(native-links-listed-as-links): Tags are links, and a link may hide a folder of images; listed as
           a file, it would protect and suspend nothing. */
        return 'l';
    case DT_UNKNOWN:
        if (fstatat(folder, name, &found, AT_SYMLINK_NOFOLLOW) == 0)
            return S_ISDIR(found.st_mode) ? 'd' : S_ISLNK(found.st_mode) ? 'l' : 'f';
        return 'f';
    default:
        return 'f';
    }
}

/* List an open folder into entries, each followed by its name; returns errno, or 0. */
static int entries_into(int folder, struct heap *heap)
{
    _Alignas(struct raw_entry) char buffer[1 << 15];
    /* On btrfs a descriptor lists what was there when it was opened or last rewound. */
    if (lseek(folder, 0, SEEK_SET) < 0)
        return errno;
    for (;;) {
        long length = syscall(SYS_getdents64, folder, buffer, sizeof buffer);
        if (length < 0 && errno == EINTR)
            continue;
        /* A folder that was removed while it is open is an empty one, as readdir has it. */
        if (length <= 0)
            return length < 0 && errno != ENOENT ? errno : 0;
        for (long at = 0; at < length;) {
            const struct raw_entry *found = (const struct raw_entry *)(buffer + at);
            at += found->length;
            if (strcmp(found->name, ".") == 0 || strcmp(found->name, "..") == 0)
                continue;
            struct entry entry = {found->inode, strlen(found->name), kind_of(folder, found->type, found->name)};
            char *room = heap_room(heap, sizeof entry + entry.length);
            if (room == NULL)
                return ENOMEM;
            memcpy(room, &entry, sizeof entry);
            memcpy(room + sizeof entry, found->name, entry.length);
            heap->used += sizeof entry + entry.length;
        }
    }
}

/* List an open folder that the caller goes on to use: its position is at the start again afterwards. */
static int list_into(int folder, struct heap *heap)
{
    int error = entries_into(folder, heap);
    lseek(folder, 0, SEEK_SET);
    return error;
}

#define ENTRIES_AT_ONCE 2048

/* Give the interpreter's lock away for a moment after every so many entries: of 100,000 in one folder the objects take
   tens of milliseconds, for which the event loop would stand still. */
static void make_way(size_t number)
{
    if (number % ENTRIES_AT_ONCE == 0) {
        Py_BEGIN_ALLOW_THREADS
        Py_END_ALLOW_THREADS
    }
}

static int append(PyObject *list, PyObject *item)
{
    if (item == NULL)
        return -1;
    int status = PyList_Append(list, item);
    Py_DecRef(item);
    return status;
}

PyDoc_STRVAR(list_folder_doc,
             "list_folder(folder)\n--\n\n"
             "List an open folder; returns the names of links, of folders, and of everything else, and the inodes\n"
             "of the folders.");

static PyObject *list_folder(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int folder, error;
    struct heap heap = {0};
    PyObject *links, *folders, *others, *inodes, *answer = NULL;
    if (!PyArg_ParseTuple(arguments, "i:list_folder", &folder))
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    error = list_into(folder, &heap);
    Py_END_ALLOW_THREADS
    if (error) {
        free(heap.bytes);
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    links = PyList_New(0);
    folders = PyList_New(0);
    others = PyList_New(0);
    inodes = PyList_New(0);
    if (links == NULL || folders == NULL || others == NULL || inodes == NULL)
        goto done;
    for (size_t at = 0, number = 1; at < heap.used; number++) {
        struct entry entry;
        memcpy(&entry, heap.bytes + at, sizeof entry);
        make_way(number);
        PyObject *name =
            PyUnicode_DecodeFSDefaultAndSize(heap.bytes + at + sizeof entry, (Py_ssize_t)entry.length);
        at += sizeof entry + entry.length;
        if (append(entry.kind == 'l' ? links : entry.kind == 'd' ? folders : others, name) < 0)
            goto done;
        if (entry.kind == 'd' && append(inodes, PyLong_FromUnsignedLongLong(entry.inode)) < 0)
            goto done;
    }
    answer = PyTuple_Pack(4, links, folders, others, inodes);
done:
    free(heap.bytes);
    Py_XDECREF(links);
    Py_XDECREF(folders);
    Py_XDECREF(others);
    Py_XDECREF(inodes);
    return answer;
}

/* The number of digests that begin with the same digits, and the sum over their names and inodes. */
struct part {
    uint64_t count, total;
};

#define MOST_DIGITS 4
#define HEX_DIGITS 64
#define SUM_DIGITS 15

/* Return the value of a lower-case hexadecimal digit; -1: it is none. */
static int digit(char character)
{
    if (character >= '0' && character <= '9')
        return character - '0';
    return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

static uint64_t digits_of(const char *name, int count)
{
    uint64_t value = 0;
    for (int at = 0; at < count; at++)
        value = value << 4 | (uint64_t)digit(name[at]);
    return value;
}

static int is_digest(const struct entry *entry, const char *name)
{
    if (entry->kind != 'd' || entry->length != HEX_DIGITS)
        return 0;
    for (size_t at = 0; at < HEX_DIGITS; at++)
        if (digit(name[at]) < 0)
            return 0;
    return 1;
}

/* Add an entry to its part; the entry's kind records whether it is a digest. */
static void add_up(struct heap *heap, int digits, struct part *parts)
{
    for (size_t at = 0; at < heap->used;) {
        struct entry entry;
        const char *name = heap->bytes + at + sizeof entry;
        memcpy(&entry, heap->bytes + at, sizeof entry);
        if (is_digest(&entry, name)) {
            struct part *part = &parts[digits_of(name, digits)];
            part->count++;
            part->total += digits_of(name, SUM_DIGITS) * (2 * (entry.inode & INT64_MAX) + 1);
            entry.kind = 'x';
            memcpy(heap->bytes + at, &entry, sizeof entry);
        }
        at += sizeof entry + entry.length;
    }
}

static PyObject *make_parts(const struct part *parts, int digits)
{
    PyObject *result = PyList_New(0);
    for (size_t number = 0; result != NULL && number < (size_t)1 << 4 * digits; number++) {
        if (parts[number].count == 0)
            continue;
        PyObject *one = Py_BuildValue("(nKK)", (Py_ssize_t)number, parts[number].count, parts[number].total & INT64_MAX);
        if (append(result, one) < 0) {
            Py_DecRef(result);
            result = NULL;
        }
    }
    return result;
}

static int is_known(const struct part *parts, const struct part *known, uint64_t number)
{
    return known != NULL && known[number].count == parts[number].count &&
           known[number].total == (parts[number].total & INT64_MAX);
}

PyDoc_STRVAR(list_digests_doc,
             "list_digests(folder, digits, known)\n--\n\n"
             "List an open folder of digests, divided into parts by their first digits.\n\n"
             "Returns for each part that is not empty its number, how many folders it has, and 63 bits of the sum of\n"
             "their names (15 digits) times twice their inodes plus one; the names and inodes (63 bits) in those parts\n"
             "that are not as `known` says; and the names of everything that is no digest's folder. `known`: two 64-bit\n"
             "numbers for each possible part, or empty.");

static PyObject *list_digests(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int folder, digits, error;
    PyObject *given;
    struct heap heap = {0};
    struct part *parts = NULL, *known = NULL;
    PyObject *result = NULL, *fresh = NULL, *others = NULL, *answer = NULL;
    if (!PyArg_ParseTuple(arguments, "iiS:list_digests", &folder, &digits, &given))
        return NULL;
    const Py_ssize_t length = PyBytes_Size(given);
    if (digits < 1 || digits > MOST_DIGITS ||
        (length != 0 && (size_t)length != sizeof *known << 4 * digits)) {
        PyErr_SetString(PyExc_ValueError, "out of range");
        return NULL;
    }
    parts = calloc((size_t)1 << 4 * digits, sizeof *parts);
    if (length != 0 && (known = malloc((size_t)length)) != NULL)
        memcpy(known, PyBytes_AsString(given), (size_t)length);
    if (parts == NULL || (length != 0 && known == NULL)) {
        PyErr_NoMemory();
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS
    error = list_into(folder, &heap);
    if (error == 0)
        add_up(&heap, digits, parts);
    Py_END_ALLOW_THREADS
    if (error) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        goto done;
    }
    result = make_parts(parts, digits);
    fresh = PyList_New(0);
    others = PyList_New(0);
    if (result == NULL || fresh == NULL || others == NULL)
        goto done;
    for (size_t at = 0, number = 1; at < heap.used; number++) {
        struct entry entry;
        const char *name = heap.bytes + at + sizeof entry;
        memcpy(&entry, heap.bytes + at, sizeof entry);
        at += sizeof entry + entry.length;
        make_way(number);
        if (entry.kind == 'x' && is_known(parts, known, digits_of(name, digits)))
            continue;
        PyObject *text = PyUnicode_DecodeFSDefaultAndSize(name, (Py_ssize_t)entry.length);
        PyObject *one = text;
        if (text != NULL && entry.kind == 'x')
            one = Py_BuildValue("(NL)", text, (long long)(entry.inode & INT64_MAX));
        if (append(entry.kind == 'x' ? fresh : others, one) < 0)
            goto done;
    }
    answer = PyTuple_Pack(3, result, fresh, others);
done:
    free(parts);
    free(known);
    free(heap.bytes);
    Py_XDECREF(result);
    Py_XDECREF(fresh);
    Py_XDECREF(others);
    return answer;
}

PyDoc_STRVAR(changed_paths_doc,
             "changed_paths(folder, paths, marks, follow)\n--\n\n"
             "Find the paths below an open folder that have changed.\n\n"
             "`paths`: bytes, each path followed by a zero byte; `marks`: for each device, inode, mtime and ctime in\n"
             "nanoseconds, or 63 bits of the inode, and ctime; 64 bits each. Returns the numbers of the paths whose mark\n"
             "differs, or that cannot be examined.");

static int has_mark(const struct stat *found, const char *bytes)
{
    uint64_t mark[4];
    memcpy(mark, bytes, sizeof mark);
    /* guard(native-every-stamp-counts): A file or folder that differs in any of these is read again; trusted
       unread, what it names now would not be protected. */
    return mark[0] == found->st_dev && mark[1] == found->st_ino &&
           mark[2] == (uint64_t)nanoseconds(found->st_mtim) && mark[3] == (uint64_t)nanoseconds(found->st_ctim);
}

static int has_short_mark(const struct stat *found, const char *bytes)
{
    int64_t mark[2];
    memcpy(mark, bytes, sizeof mark);
    /* guard(native-short-stamp-counts): A timer or metadata that was replaced or changed is read again; trusted
       unread, it would speak for another image. */
    return mark[0] == (int64_t)(found->st_ino & INT64_MAX) && mark[1] == nanoseconds(found->st_ctim);
}

static PyObject *changed_paths(PyObject *Py_UNUSED(module), PyObject *arguments)
{
    int folder, follow;
    PyObject *given_paths, *given_marks, *answer = NULL;
    Py_ssize_t count = 0, changed = 0;
    if (!PyArg_ParseTuple(arguments, "iSSp:changed_paths", &folder, &given_paths, &given_marks, &follow))
        return NULL;
    const char *paths = PyBytes_AsString(given_paths);
    const char *marks = PyBytes_AsString(given_marks);
    const Py_ssize_t paths_length = PyBytes_Size(given_paths), marks_length = PyBytes_Size(given_marks);
    for (Py_ssize_t at = 0; at < paths_length; at++)
        count += paths[at] == 0;
    const int is_short = marks_length == count * SHORT_MARK_BYTES;
    if ((marks_length != count * MARK_BYTES && !is_short) || (paths_length > 0 && paths[paths_length - 1] != 0)) {
        PyErr_SetString(PyExc_ValueError, "each path needs a zero byte and a mark");
        return NULL;
    }
    Py_ssize_t *numbers = malloc((size_t)(count + 1) * sizeof *numbers);
    if (numbers == NULL)
        return PyErr_NoMemory();
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t number = 0; number < count; number++) {
        struct stat found;
        if (fstatat(folder, paths, &found, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0 ||
            !(is_short ? has_short_mark(&found, marks + number * SHORT_MARK_BYTES)
                       : has_mark(&found, marks + number * MARK_BYTES)))
            numbers[changed++] = number;
        paths += strlen(paths) + 1;
    }
    Py_END_ALLOW_THREADS
    answer = PyList_New(changed);
    for (Py_ssize_t at = 0; answer != NULL && at < changed; at++) {
        PyObject *number = PyLong_FromSsize_t(numbers[at]);
        if (number == NULL || PyList_SetItem(answer, at, number) < 0) {
            Py_DecRef(answer);
            answer = NULL;
        }
    }
    free(numbers);
    return answer;
}

#include "_folders.c"
#include "_deletion.c"
#include "_retirement.c"

static PyMethodDef methods[] = {
    {"changed_paths", changed_paths, METH_VARARGS, changed_paths_doc},
    {"list_digests", list_digests, METH_VARARGS, list_digests_doc},
    {"look_at_images", look_at_images, METH_VARARGS, look_at_images_doc},
    {"read_folders", read_folders, METH_VARARGS, read_folders_doc},
    {"read_files", read_files, METH_VARARGS, read_files_doc},
    {"stat_files", stat_files, METH_VARARGS, stat_files_doc},
    {"read_links", read_links, METH_VARARGS, read_links_doc},
    {"list_folder", list_folder, METH_VARARGS, list_folder_doc},
    {"hold_folder", hold_folder, METH_VARARGS, hold_folder_doc},
    {"hold_folders", hold_folders, METH_VARARGS, hold_folders_doc},
    {"hold_file", hold_file, METH_VARARGS, hold_file_doc},
    {"take_leases", take_leases, METH_O, take_leases_doc},
    {"are_leased", are_leased, METH_O, are_leased_doc},
    {"close_all", close_all, METH_O, close_all_doc},
    {"set_aside", set_aside, METH_VARARGS, set_aside_doc},
    {"erase_folder", erase_folder, METH_VARARGS, erase_folder_doc},
    {"retire_folder", retire_folder, METH_VARARGS, retire_folder_doc},
    {NULL, NULL, 0, NULL},
};

/* Incremented with every change to what a call takes, does or returns; `filesystem.py` has the same
   number. */
#define INTERFACE 3

static int add_interface(PyObject *module)
{
    return PyModule_AddIntConstant(module, "INTERFACE", INTERFACE);
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, (void *)(uintptr_t)add_interface}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "hmret.disk._native",
    .m_doc = "Whole-folder work in one call, with the interpreter's lock released.",
    .m_size = 0,
    .m_methods = methods,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&definition);
}
