/* What the same work on the same files costs in C, one thread, nothing kept.
 *
 *   yardsticks read-all DIR          open and read every metadata file, state, guest and snapshot, stat every
 *                                    disk, read every tag
 *   yardsticks read-images DIR       the part of it below images/
 *   yardsticks stat-all DIR          stat every digest folder, guest and snapshot
 *   yardsticks unlink DIR LIST       remove the images in LIST, with their tags, states and emptied folders
 *   yardsticks delete DIR LIST       the same, safely: safe_deletion.c
 *
 * Both layouts. A line of LIST is one image: "content" or "legacy", its hex digits, and each repository that owns it
 * with the tags there, separated by spaces, after a + where it has a legacy copy too; TAB between all these.
 *
 * Prints {"seconds", "files", "bytes"}: the time of the work alone, by the monotonic clock.
 */
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

unsigned long files, bytes;

static int content = -1;

void fail(const char *what)
{
    perror(what);
    exit(1);
}

void stop(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int open_folder(int parent, const char *name)
{
    return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

int read_file(int parent, const char *name)
{
    static char buffer[65536];
    int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW);
    if (fd < 0)
        return -1;
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0)
        bytes += (unsigned long)got;
    close(fd);
    files++;
    return 0;
}

int is_hex(const char *name)
{
    return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

int is_dots(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

/* The name that the last disk had: most have the same. */
static const char *disk = "rootfs.ext4";

static void look_at_image(int parent, const char *name, int reading)
{
    char path[128];
    struct stat found;
    if (!reading) {
        if (!fstatat(parent, name, &found, AT_SYMLINK_NOFOLLOW))
            files++;
        return;
    }
    snprintf(path, sizeof path, "%s/metadata.json", name);
    read_file(parent, path);
    snprintf(path, sizeof path, "%s/%s", name, disk);
    if (fstatat(parent, path, &found, AT_SYMLINK_NOFOLLOW)) {
        const char *other = strcmp(disk, "rootfs.ext4") ? "rootfs.ext4" : "rootfs.erofs";
        snprintf(path, sizeof path, "%s/%s", name, other);
        if (fstatat(parent, path, &found, AT_SYMLINK_NOFOLLOW))
            return;
        disk = other;
    }
    bytes += (unsigned long)found.st_blocks;
}

static void walk_images(int fd, int reading)
{
    DIR *folder = fdopendir(fd);
    struct dirent *entry;
    char target[128];
    if (!folder)
        fail("images");
    while ((entry = readdir(folder))) {
        if (is_dots(entry->d_name))
            continue;
        if (entry->d_type == DT_LNK) {
            if (reading && readlinkat(fd, entry->d_name, target, sizeof target) > 0)
                files++;
        } else if (entry->d_type == DT_DIR && is_hex(entry->d_name)) {
            look_at_image(fd, entry->d_name, reading);
        } else if (entry->d_type == DT_DIR) {
            int below = open_folder(fd, entry->d_name);
            if (below >= 0)
                walk_images(below, reading);
        }
    }
    closedir(folder);
}

static void walk_states(int fd)
{
    DIR *folder = fdopendir(fd);
    struct dirent *entry;
    if (!folder)
        fail("states");
    while ((entry = readdir(folder))) {
        if (entry->d_type == DT_REG) {
            read_file(fd, entry->d_name);
        } else if (entry->d_type == DT_DIR && !is_dots(entry->d_name)) {
            int below = open_folder(fd, entry->d_name);
            if (below >= 0)
                walk_states(below);
        }
    }
    closedir(folder);
}

static void walk_references(const char *name, const char *file, int reading)
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
        if (reading)
            read_file(fd, path);
        else if (!fstatat(fd, path, &found, 0))
            files++;
    }
    closedir(folder);
}

static void look(int reading, int images_only)
{
    int fd = open_folder(AT_FDCWD, "images");
    if (fd < 0)
        fail("images");
    walk_images(fd, reading);
    if (images_only)
        return;
    walk_references("guests", "metadata.json", reading);
    walk_references("snapshots", "snapshot.json", reading);
    fd = reading ? open_folder(AT_FDCWD, "system/image-retention") : -1;
    if (fd >= 0)
        walk_states(fd);
}

static void unlink_folder(int parent, const char *hex)
{
    char path[128];
    snprintf(path, sizeof path, "%s/metadata.json", hex);
    if (unlinkat(parent, path, 0))
        fail(path);
    snprintf(path, sizeof path, "%s/%s", hex, disk);
    if (unlinkat(parent, path, 0)) {
        disk = strcmp(disk, "rootfs.ext4") ? "rootfs.ext4" : "rootfs.erofs";
        snprintf(path, sizeof path, "%s/%s", hex, disk);
        if (unlinkat(parent, path, 0))
            fail(path);
    }
    if (parent == content) {
        snprintf(path, sizeof path, "%s/manifest.json", hex);
        if (!unlinkat(parent, path, 0))
            files++;
    }
    if (unlinkat(parent, hex, AT_REMOVEDIR))
        fail(hex);
    files += 3;
}

static void unlink_owner(const struct unit *unit, const struct owner *owner, const struct place *place)
{
    char path[128];
    if (owner->has_copy)
        unlink_folder(place->copies, unit->hex);
    for (int i = 0; i < owner->tag_count; i++) {
        if (unlinkat(place->links, owner->tags[i], 0))
            fail(owner->tags[i]);
        if (owner->has_copy && unit->in_content && unlinkat(place->copies, owner->tags[i], 0))
            fail(owner->tags[i]);
    }
    snprintf(path, sizeof path, "%s.json", unit->hex);
    if (unlinkat(place->states, path, 0))
        fail(path);
    files++;
}

static void unlink_units(const struct unit *units, int count)
{
    struct place places[MOST_OWNERS] = {{NULL, -1, -1, -1}};
    content = open_folder(AT_FDCWD, "images/content");
    for (int i = 0; i < count; i++) {
        const struct unit *unit = &units[i];
        enter_all(unit, places);
        for (int k = 0; k < unit->owner_count; k++)
            unlink_owner(unit, &unit->owners[k], &places[k]);
        if (unit->in_content)
            unlink_folder(content, unit->hex);
        leave_others(unit, places);
    }
    leave(&places[0]);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    int deleting = !strcmp(mode, "delete"), count = 0;
    int removing = argc > 3 && (deleting || !strcmp(mode, "unlink"));
    if (!removing && strcmp(mode, "read-all") && strcmp(mode, "read-images") && strcmp(mode, "stat-all")) {
        fprintf(stderr, "usage: yardsticks read-all|read-images|stat-all DIR; yardsticks unlink|delete DIR LIST\n");
        return 2;
    }
    struct unit *units = removing ? read_units(argv[3], &count) : NULL;
    if (chdir(argv[2]))
        fail(argv[2]);
    if (deleting)
        prepare_deletion();
    double begin = now();
    if (deleting)
        delete_units(units, count);
    else if (removing)
        unlink_units(units, count);
    else
        look(strcmp(mode, "stat-all") != 0, !strcmp(mode, "read-images"));
    printf("{\"seconds\": %.6f, \"files\": %lu, \"bytes\": %lu}\n", now() - begin, files, bytes);
    return 0;
}
