/* What the parts of the C program share. */
#ifndef YARDSTICKS_H
#define YARDSTICKS_H

extern unsigned long files, bytes;

void fail(const char *what);
void stop(const char *what);
int open_folder(int parent, const char *name);
int read_file(int parent, const char *name);
int is_hex(const char *name);
int is_dots(const char *name);

/* units.c: the images of a list, as they are to be deleted. */

struct owner {
    const char *repository;
    char **tags;
    int tag_count;
    int has_copy; /* whether its legacy folder of the digest lies there, with legacy tags */
};

struct unit {
    const char *hex;
    int in_content;
    struct owner *owners;
    int owner_count;
};

/* The open folders of one repository. */
struct place {
    const char *repository;
    int links;  /* below images/repositories */
    int copies; /* its legacy folder; -1: not open */
    int states;
};

enum { MOST_OWNERS = 16 };

struct unit *read_units(const char *path, int *count);
void enter(struct place *place, const struct owner *owner, int in_content);
void leave(struct place *place);
void enter_all(const struct unit *unit, struct place *places);
void leave_others(const struct unit *unit, struct place *places);

/* looks.c: what a deletion looks at once for a batch. */

enum { LONGEST_TARGET = 256 };

void prepare_looks(void);
void look_at_references(void);
void look_at_tags(const char **hexes, int count); /* sorted */
int compare_hexes(const void *left, const void *right);

/* safe_deletion.c; what it prepares does not count. */

void prepare_deletion(void);
void delete_units(const struct unit *units, int count);

#endif
