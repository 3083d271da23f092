/* Deleting images as safely as hmret does, in batches of the same size.
 *
 * The looks of a batch and an intent, synced, with every link and state as it was read; then for each image all files
 * opened, looked at and leased, the folders renamed into the trash, legacy copies first, the leases asked, the links
 * set aside, looked at there and removed, the states compared and removed; a second look at the tags, and the trash
 * erased. What is not as it should be ends the program: nobody else is at work here.
 */
#define _GNU_SOURCE
#include "yardsticks.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRASH "system/hmret/trash"

enum { BATCH = 512, MOST_FILES = 64, MOST_FOLDERS = MOST_OWNERS + 1, LONGEST_SINCE = 48 };

/* What an intent holds of one link, and of one image. */
struct link {
    int owner;
    int in_copies; /* whether it lies in the legacy layout */
    const char *tag;
    char target[LONGEST_TARGET];
    ino_t inode;
};

struct intent {
    struct link *links;
    int link_count;
    char since[MOST_OWNERS][LONGEST_SINCE];
};

/* A digest folder that is to go. */
struct folder {
    int parent;
    int fd;
    ino_t inode;
    char name[96]; /* in the trash */
};

static int content = -1, trash = -1;
static int lease = F_WRLCK; /* what every file that is held has */

static int is_there(int parent, const char *name)
{
    struct stat found;
    return !fstatat(parent, name, &found, AT_SYMLINK_NOFOLLOW);
}

void prepare_deletion(void)
{
    mkdir("system/hmret", 0700);
    mkdir(TRASH, 0700);
    trash = open_folder(AT_FDCWD, TRASH);
    if (trash < 0)
        fail(TRASH);
    content = open_folder(AT_FDCWD, "images/content");
    prepare_looks();
}

static void read_since(int states, const char *hex, char *since)
{
    char path[128], text[1024];
    snprintf(path, sizeof path, "%s.json", hex);
    int fd = openat(states, path, O_RDONLY | O_NOFOLLOW);
    ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (length < 0)
        fail(path);
    close(fd);
    text[length] = 0;
    char *at = strstr(text, "\"unused_since\"");
    if (!at || sscanf(at + 14, ": \"%47[^\"]", since) != 1)
        stop("a state without its time");
}

static void read_link(int parent, const char *tag, struct link *link)
{
    struct stat found;
    ssize_t length = readlinkat(parent, tag, link->target, sizeof link->target - 1);
    if (length < 0 || fstatat(parent, tag, &found, AT_SYMLINK_NOFOLLOW))
        fail(tag);
    link->target[length] = 0;
    link->inode = found.st_ino;
}

/* Records one link, the legacy one that it shadows before it. */
static void add_links(const struct unit *unit, int owner, const struct place *place, struct intent *intent)
{
    const struct owner *its = &unit->owners[owner];
    for (int i = 0; i < its->tag_count; i++) {
        for (int in_copies = its->has_copy; in_copies >= 0; in_copies--) {
            if (!in_copies && !unit->in_content)
                break;
            struct link *link = &intent->links[intent->link_count++];
            *link = (struct link){.owner = owner, .in_copies = in_copies, .tag = its->tags[i]};
            read_link(in_copies ? place->copies : place->links, link->tag, link);
        }
    }
}

static void record(const struct unit *unit, struct place *places, struct intent *intent, FILE *file)
{
    int most = 0;
    for (int i = 0; i < unit->owner_count; i++)
        most += 2 * unit->owners[i].tag_count;
    intent->links = malloc(((size_t)most + 1) * sizeof *intent->links);
    intent->link_count = 0;
    if (!intent->links)
        fail("malloc");
    fprintf(file, "{\"digest\": \"sha256:%s\", \"content\": %d, \"owners\": [", unit->hex, unit->in_content);
    for (int i = 0; i < unit->owner_count; i++) {
        const struct owner *owner = &unit->owners[i];
        read_since(places[i].states, unit->hex, intent->since[i]);
        add_links(unit, i, &places[i], intent);
        fprintf(file, "{\"repository\": \"%s\", \"unused_since\": \"%s\", \"copy\": %d}", owner->repository,
                intent->since[i], owner->has_copy);
    }
    fprintf(file, "], \"links\": [");
    for (int i = 0; i < intent->link_count; i++) {
        struct link *link = &intent->links[i];
        fprintf(file, "[%d, %d, \"%s\", \"%s\", %lu]", link->owner, link->in_copies, link->tag, link->target,
                (unsigned long)link->inode);
    }
    fprintf(file, "]}\n");
}

static void write_intents(const struct unit *units, int count, struct intent *intents, struct place *places,
                          const char *name)
{
    int fd = openat(trash, name, O_WRONLY | O_CREAT | O_EXCL, 0600);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w");
    if (!file)
        fail(name);
    for (int i = 0; i < count; i++) {
        enter_all(&units[i], places);
        record(&units[i], places, &intents[i], file);
        leave_others(&units[i], places);
    }
    if (fflush(file) || fsync(fd) || fsync(trash))
        fail(name);
    fclose(file);
}

static int is_held(ino_t inode, const ino_t *inodes, int count)
{
    for (int i = 0; i < count; i++)
        if (inodes[i] == inode)
            return 1;
    return 0;
}

/* Opens each file of a folder, looks at its metadata, and takes the leases. A file that is leased by another name is
 * not opened: that would break the lease. */
static int hold(struct folder *folder, const char *hex, int *held, ino_t *inodes, int count)
{
    static char text[65536];
    struct stat found;
    struct dirent *entry;
    folder->fd = open_folder(folder->parent, hex);
    if (folder->fd < 0 || fstat(folder->fd, &found))
        fail(hex);
    folder->inode = found.st_ino;
    DIR *listed = fdopendir(dup(folder->fd));
    while ((entry = readdir(listed))) {
        if (is_dots(entry->d_name) || is_held(entry->d_ino, inodes, count))
            continue;
        int fd = openat(folder->fd, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &found))
            fail(entry->d_name);
        if (!S_ISREG(found.st_mode) || count == MOST_FILES)
            stop("more than files");
        if (!strcmp(entry->d_name, "metadata.json")) {
            ssize_t length = read(fd, text, sizeof text - 1);
            text[length < 0 ? 0 : length] = 0;
            if (!strstr(text, hex) || !strstr(text, "\"ready\""))
                stop("metadata of something else");
        }
        if (fcntl(fd, F_SETSIG, SIGURG) || fcntl(fd, F_SETLEASE, F_WRLCK)) {
            if (errno == EAGAIN)
                stop("somebody has it open");
            lease = F_UNLCK; /* not offered here */
        }
        inodes[count] = found.st_ino;
        held[count++] = fd;
    }
    closedir(listed);
    return count;
}

static void rename_out(const struct folder *folder, const char *hex)
{
    struct stat found;
    if (fstatat(folder->parent, hex, &found, AT_SYMLINK_NOFOLLOW) || found.st_ino != folder->inode)
        stop("another folder before the rename");
    if (renameat(folder->parent, hex, trash, folder->name))
        fail(hex);
    if (fstatat(trash, folder->name, &found, AT_SYMLINK_NOFOLLOW) || found.st_ino != folder->inode)
        stop("another folder after the rename");
    if (fsync(folder->parent))
        fail("fsync");
}

static void stop_if_back(const struct unit *unit, const struct place *place)
{
    if ((unit->in_content && is_there(content, unit->hex)) || (place->copies >= 0 && is_there(place->copies, unit->hex)))
        stop("the image has come back");
}

/* Sets a link aside, looks at it there, and removes it. */
static void remove_link(const struct unit *unit, const struct place *place, const struct link *link, const char *aside)
{
    struct link moved;
    int parent = link->in_copies ? place->copies : place->links;
    stop_if_back(unit, place);
    if (renameat(parent, link->tag, trash, aside))
        fail(link->tag);
    read_link(trash, aside, &moved);
    if (moved.inode != link->inode || strcmp(moved.target, link->target))
        stop("another link");
    stop_if_back(unit, place);
    if (unlinkat(trash, aside, 0))
        fail(aside);
    files++;
}

static void remove_state(const struct unit *unit, int states, const char *since)
{
    char path[128], now[LONGEST_SINCE];
    read_since(states, unit->hex, now);
    snprintf(path, sizeof path, "%s.json", unit->hex);
    if (strcmp(now, since))
        stop("another state");
    if (unlinkat(states, path, 0))
        fail(path);
    files++;
}

/* Renames one image out of the cache, and removes its links and states; returns how many folders are in the trash. */
static int delete_unit(const struct unit *unit, struct place *places, const struct intent *intent, const char *name)
{
    struct folder folders[MOST_FOLDERS];
    int held[MOST_FILES], file_count = 0, folder_count = 0;
    ino_t inodes[MOST_FILES];
    char aside[96];
    for (int i = 0; i < unit->owner_count; i++)
        if (unit->owners[i].has_copy)
            folders[folder_count++].parent = places[i].copies;
    if (unit->in_content)
        folders[folder_count++].parent = content;
    for (int i = 0; i < folder_count; i++) {
        snprintf(folders[i].name, sizeof folders[i].name, "%s.%d", name, i);
        file_count = hold(&folders[i], unit->hex, held, inodes, file_count);
    }
    for (int i = 0; i < folder_count; i++)
        rename_out(&folders[i], unit->hex);
    if (fsync(trash))
        fail(TRASH);
    for (int i = 0; i < file_count; i++)
        if (fcntl(held[i], F_GETLEASE) != lease)
            stop("somebody has opened it");
    for (int i = 0; i < folder_count; i++)
        if (is_there(folders[i].parent, unit->hex))
            stop("the image has come back");
    for (int i = 0; i < file_count; i++)
        close(held[i]);
    for (int i = 0; i < folder_count; i++)
        close(folders[i].fd);
    for (int i = 0; i < intent->link_count; i++) {
        snprintf(aside, sizeof aside, "%s.link", name);
        remove_link(unit, &places[intent->links[i].owner], &intent->links[i], aside);
    }
    for (int i = 0; i < unit->owner_count; i++)
        remove_state(unit, places[i].states, intent->since[i]);
    return folder_count;
}

/* Erases a folder of the trash. */
static void erase(const char *name)
{
    struct dirent *entry;
    int fd = open_folder(trash, name);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (!folder)
        fail(name);
    while ((entry = readdir(folder))) {
        struct stat found;
        if (is_dots(entry->d_name))
            continue;
        if (fstatat(fd, entry->d_name, &found, AT_SYMLINK_NOFOLLOW) || unlinkat(fd, entry->d_name, 0))
            fail(entry->d_name);
        if (found.st_nlink == 1)
            bytes += (unsigned long)found.st_blocks * 512;
        files++;
    }
    closedir(folder);
    if (unlinkat(trash, name, AT_REMOVEDIR))
        fail(name);
    files++;
}

static void delete_batch(const struct unit *units, int count, struct place *places, int number)
{
    static struct intent intents[BATCH];
    static const char *hexes[BATCH];
    int folders[BATCH];
    char name[64], token[32];
    snprintf(token, sizeof token, "batch-%d", number);
    look_at_references();
    look_at_tags(NULL, 0);
    write_intents(units, count, intents, places, token);
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s.%d", token, i);
        enter_all(&units[i], places);
        folders[i] = delete_unit(&units[i], places, &intents[i], name);
        leave_others(&units[i], places);
        free(intents[i].links);
        hexes[i] = units[i].hex;
    }
    for (int i = 0; i < count; i++)
        if (units[i].in_content && is_there(content, units[i].hex))
            stop("the image has come back");
    qsort(hexes, (size_t)count, sizeof *hexes, compare_hexes);
    look_at_tags(hexes, count);
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < folders[i]; k++) {
            snprintf(name, sizeof name, "%s.%d.%d", token, i, k);
            erase(name);
        }
    }
    if (unlinkat(trash, token, 0))
        fail(token);
}

void delete_units(const struct unit *units, int count)
{
    struct place places[MOST_OWNERS] = {{NULL, -1, -1, -1}};
    for (int done = 0; done < count; done += BATCH)
        delete_batch(units + done, count - done < BATCH ? count - done : BATCH, places, done / BATCH);
    leave(&places[0]);
}
