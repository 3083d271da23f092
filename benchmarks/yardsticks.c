/* What the same work on the same files costs in C, one thread, nothing kept.
 *
 *   yardsticks read-all DIR          open and read every metadata file, state, guest and snapshot, stat every
 *                                    disk, read every tag
 *   yardsticks read-images DIR       the part of it below images/
 *   yardsticks stat-all DIR          stat every digest folder, guest and snapshot
 *   yardsticks unlink DIR LIST       remove the images in LIST, with their tags, states and emptied folders;
 *                                    a line each: repository TAB hex TAB tags, separated by spaces
 *
 * Prints {"seconds", "files", "bytes"}: the time of the work alone, by the monotonic clock.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static unsigned long files, bytes;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int open_folder(int parent, const char *name)
{
    return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

static int read_file(int parent, const char *name)
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

static int is_hex(const char *name)
{
    return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

static int is_dots(const char *name)
{
    return !strcmp(name, ".") || !strcmp(name, "..");
}

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
    snprintf(path, sizeof path, "%s/rootfs.ext4", name);
    if (fstatat(parent, path, &found, AT_SYMLINK_NOFOLLOW)) {
        snprintf(path, sizeof path, "%s/rootfs.erofs", name);
        if (fstatat(parent, path, &found, AT_SYMLINK_NOFOLLOW))
            return;
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

static char *read_list(const char *path)
{
    struct stat found;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &found))
        fail(path);
    char *text = malloc((size_t)found.st_size + 1);
    if (!text)
        fail("malloc");
    ssize_t got = 0, more;
    while ((more = read(fd, text + got, (size_t)(found.st_size - got))) > 0)
        got += more;
    text[got] = 0;
    close(fd);
    return text;
}

static void remove_image(int images_fd, int states_fd, const char *name, char *tags)
{
    char path[128];
    snprintf(path, sizeof path, "%s/metadata.json", name);
    if (unlinkat(images_fd, path, 0))
        fail(path);
    snprintf(path, sizeof path, "%s/rootfs.ext4", name);
    if (unlinkat(images_fd, path, 0))
        fail(path);
    if (unlinkat(images_fd, name, AT_REMOVEDIR))
        fail(name);
    for (char *tag = strtok(tags, " "); tag; tag = strtok(NULL, " "))
        if (unlinkat(images_fd, tag, 0))
            fail(tag);
    snprintf(path, sizeof path, "%s.json", name);
    if (unlinkat(states_fd, path, 0))
        fail(path);
    files += 4;
}

static void leave(const char *repository, int images_fd, int states_fd)
{
    char path[512];
    if (!repository)
        return;
    close(images_fd);
    close(states_fd);
    snprintf(path, sizeof path, "images/%s", repository);
    rmdir(path);
    snprintf(path, sizeof path, "system/image-retention/%s", repository);
    rmdir(path);
}

static void remove_images(char *text)
{
    const char *current = NULL;
    int images_fd = -1, states_fd = -1;
    char path[512];
    while (*text) {
        char *end = strchr(text, '\n');
        char *name = strchr(text, '\t');
        char *tags = name ? strchr(name + 1, '\t') : NULL;
        if (!end || !tags)
            break;
        *end = *name = *tags = 0;
        if (!current || strcmp(current, text)) {
            leave(current, images_fd, states_fd);
            current = text;
            snprintf(path, sizeof path, "images/%s", text);
            images_fd = open_folder(AT_FDCWD, path);
            snprintf(path, sizeof path, "system/image-retention/%s", text);
            states_fd = open_folder(AT_FDCWD, path);
            if (images_fd < 0 || states_fd < 0)
                fail(text);
        }
        remove_image(images_fd, states_fd, name + 1, tags + 1);
        text = end + 1;
    }
    leave(current, images_fd, states_fd);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 2 ? argv[1] : "";
    int unlinking = argc > 3 && !strcmp(mode, "unlink");
    if (!unlinking && strcmp(mode, "read-all") && strcmp(mode, "read-images") && strcmp(mode, "stat-all")) {
        fprintf(stderr, "usage: yardsticks read-all|read-images|stat-all DIR; yardsticks unlink DIR LIST\n");
        return 2;
    }
    char *list = unlinking ? read_list(argv[3]) : NULL;
    if (chdir(argv[2]))
        fail(argv[2]);
    double begin = now();
    if (unlinking)
        remove_images(list);
    else
        look(strcmp(mode, "stat-all") != 0, !strcmp(mode, "read-images"));
    printf("{\"seconds\": %.6f, \"files\": %lu, \"bytes\": %lu}\n", now() - begin, files, bytes);
    return 0;
}
