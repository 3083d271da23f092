/* The images of a list, and the folders of the repositories that own them. */
#define _GNU_SOURCE
#include "yardsticks.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void *must(void *memory)
{
    if (!memory)
        fail("malloc");
    return memory;
}

static char *read_list(const char *path)
{
    struct stat found;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &found))
        fail(path);
    char *text = must(malloc((size_t)found.st_size + 1));
    ssize_t got = 0, more;
    while ((more = read(fd, text + got, (size_t)(found.st_size - got))) > 0)
        got += more;
    text[got] = 0;
    close(fd);
    return text;
}

static int count_of(const char *text, char what)
{
    int count = 0;
    for (; *text; text++)
        count += *text == what;
    return count;
}

/* An owner as it stands in a line: its repository, after a + where it has a copy, and its tags. */
static void parse_owner(char *text, struct owner *owner)
{
    char *rest;
    owner->has_copy = *text == '+';
    text += owner->has_copy;
    owner->tags = must(calloc((size_t)count_of(text, ' ') + 1, sizeof *owner->tags));
    owner->tag_count = 0;
    owner->repository = strtok_r(text, " ", &rest);
    for (char *tag; (tag = strtok_r(NULL, " ", &rest));)
        owner->tags[owner->tag_count++] = tag;
}

static void parse_unit(char *line, struct unit *unit)
{
    char *rest, *layout;
    unit->owners = must(calloc((size_t)count_of(line, '\t') + 1, sizeof *unit->owners));
    unit->owner_count = 0;
    layout = strtok_r(line, "\t", &rest);
    unit->in_content = layout && !strcmp(layout, "content");
    unit->hex = strtok_r(NULL, "\t", &rest);
    for (char *text; (text = strtok_r(NULL, "\t", &rest));)
        parse_owner(text, &unit->owners[unit->owner_count++]);
    if (!unit->owner_count || unit->owner_count > MOST_OWNERS || !is_hex(unit->hex)) {
        fprintf(stderr, "not a line of a list\n");
        exit(2);
    }
    if (!unit->in_content)
        unit->owners[0].has_copy = 1;
}

struct unit *read_units(const char *path, int *count)
{
    char *rest, *text = read_list(path);
    struct unit *units = must(calloc((size_t)count_of(text, '\n') + 1, sizeof *units));
    *count = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        parse_unit(line, &units[(*count)++]);
    return units;
}

/* Opens the folders of a repository, unless they are the ones that are open. */
void enter(struct place *place, const struct owner *owner, int in_content)
{
    char path[512];
    if (!place->repository || strcmp(place->repository, owner->repository)) {
        leave(place);
        place->repository = owner->repository;
        place->copies = -1;
        snprintf(path, sizeof path, "system/image-retention/%s", owner->repository);
        place->states = open_folder(AT_FDCWD, path);
        snprintf(path, sizeof path, "images/%s%s", in_content ? "repositories/" : "", owner->repository);
        place->links = open_folder(AT_FDCWD, path);
        if (place->states < 0 || place->links < 0)
            fail(path);
    }
    if (owner->has_copy && place->copies < 0) {
        snprintf(path, sizeof path, "images/%s", owner->repository);
        place->copies = in_content ? open_folder(AT_FDCWD, path) : place->links;
        if (place->copies < 0)
            fail(path);
    }
}

static void close_place(struct place *place)
{
    if (!place->repository)
        return;
    close(place->states);
    close(place->links);
    if (place->copies >= 0 && place->copies != place->links)
        close(place->copies);
}

/* Closes the folders of a repository, and removes those that are empty by now, but for those of today's tags. */
void leave(struct place *place)
{
    char path[512];
    if (!place->repository)
        return;
    if (place->copies >= 0) {
        snprintf(path, sizeof path, "images/%s", place->repository);
        rmdir(path);
    }
    snprintf(path, sizeof path, "system/image-retention/%s", place->repository);
    rmdir(path);
    close_place(place);
    place->repository = NULL;
}

/* Opens the folders of all owners; those of the first stay open from one image to the next. */
void enter_all(const struct unit *unit, struct place *places)
{
    enter(&places[0], &unit->owners[0], unit->in_content);
    for (int i = 1; i < unit->owner_count; i++) {
        places[i].repository = NULL;
        enter(&places[i], &unit->owners[i], unit->in_content);
    }
}

/* Closes those of all owners but the first. */
void leave_others(const struct unit *unit, struct place *places)
{
    for (int i = 1; i < unit->owner_count; i++)
        leave(&places[i]);
}
