/* What a deletion looks at once for a batch: references and today's tags, those that changed. */
#define _GNU_SOURCE
#include "yardsticks.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A folder of today's tags, as it was when it was last read. */
struct tag_folder {
    char *path;
    struct timespec changed;
};

static struct tag_folder *tag_folders;
static int tag_folder_count;
static struct timespec began;

/* Remembers every folder below images/repositories, as a scan has seen it. */
static void find_tag_folders(int fd, const char *path)
{
    DIR *folder = fdopendir(fd);
    struct dirent *entry;
    struct stat found;
    if (!folder || fstat(fd, &found))
        fail(path);
    tag_folders = realloc(tag_folders, (size_t)(tag_folder_count + 1) * sizeof *tag_folders);
    if (!tag_folders)
        fail("realloc");
    tag_folders[tag_folder_count++] = (struct tag_folder){strdup(path), found.st_ctim};
    while ((entry = readdir(folder))) {
        char below[512];
        if (entry->d_type != DT_DIR || is_dots(entry->d_name))
            continue;
        snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
        find_tag_folders(open_folder(AT_FDCWD, below), below);
    }
    closedir(folder);
}

void prepare_looks(void)
{
    int fd = open_folder(AT_FDCWD, "images/repositories");
    if (fd >= 0)
        find_tag_folders(fd, "images/repositories");
    clock_gettime(CLOCK_REALTIME, &began);
}

static void look_below(const char *name, const char *file)
{
    char path[512];
    struct stat found;
    struct dirent *entry;
    int fd = open_folder(AT_FDCWD, name);
    if (fd < 0)
        return;
    DIR *folder = fdopendir(fd);
    while ((entry = readdir(folder))) {
        if (is_dots(entry->d_name))
            continue;
        snprintf(path, sizeof path, "%s/%s", entry->d_name, file);
        if (!fstatat(fd, path, &found, 0) && found.st_ctim.tv_sec > began.tv_sec)
            read_file(fd, path);
    }
    closedir(folder);
}

void look_at_references(void)
{
    look_below("guests", "metadata.json");
    look_below("snapshots", "snapshot.json");
}

int compare_hexes(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Reads the tags of the folders that changed, and stops at one to an image of the batch that is gone. */
void look_at_tags(const char **hexes, int count)
{
    for (int i = 0; i < tag_folder_count; i++) {
        struct tag_folder *known = &tag_folders[i];
        struct stat found;
        struct dirent *entry;
        if (stat(known->path, &found))
            fail(known->path);
        if (found.st_ctim.tv_sec == known->changed.tv_sec && found.st_ctim.tv_nsec == known->changed.tv_nsec)
            continue;
        known->changed = found.st_ctim;
        int fd = open_folder(AT_FDCWD, known->path);
        DIR *folder = fdopendir(fd);
        while ((entry = readdir(folder))) {
            char target[LONGEST_TARGET];
            ssize_t length = entry->d_type == DT_LNK ? readlinkat(fd, entry->d_name, target, sizeof target - 1) : -1;
            if (length < 64)
                continue;
            target[length] = 0;
            const char *hex = target + length - 64;
            if (count && bsearch(&hex, hexes, (size_t)count, sizeof *hexes, compare_hexes))
                stop("a tag to an image that is gone");
        }
        closedir(folder);
    }
}
