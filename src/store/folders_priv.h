/*
 * What machines and images have in common: each is a folder in a root folder of the user's, comes
 * and goes as a whole by being renamed (.new-*, .gone-*), and has a file `lock` in it.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <stddef.h>

#define FOLDERS_LOCK "lock"
#define FOLDERS_NEW  ".new-"
#define FOLDERS_GONE ".gone-"

enum folders_kind { FOLDERS_MACHINES, FOLDERS_IMAGES, FOLDERS_STATE };

/* The root's path; 0, or -ENOENT with err: the environment does not say where. */
NODISCARD int folders_path(enum folders_kind kind, char *path, size_t size, struct err *err);
/* The path of what has that name in it, likewise. */
NODISCARD int folders_path_of(
	enum folders_kind kind, const char *name, char *path, size_t size, struct err *err);
/* Up to `most` letters, digits and `marks`, the first of them a letter or digit. */
bool folders_good_name(const char *name, size_t most, const char *marks);
/* The root, made if need be: a descriptor, or -errno with err. */
NODISCARD int folders_root(enum folders_kind kind, struct err *err);

/* Locks of open file descriptions: 0, -EAGAIN or another -errno. */
NODISCARD int folders_lock(int fd, bool shared);
NODISCARD int folders_wait_lock(int fd);
void folders_unlock(int fd);
bool folders_is_locked(int fd);
/* A mark of whoever has the lock, which others see until that is free: not an instant longer. */
NODISCARD int folders_mark(int fd);
bool folders_is_marked(int fd);

/* Whether the folder still has that name. */
bool folders_is_there(int root, const char *name, int folder);
/* Makes a folder .new-*, in which a lock is held by *lock. `partial` gets its name. -errno with
 * err. */
NODISCARD int folders_begin(int root, char partial[64], int *folder, int *lock, struct err *err);
/* Gives it its name: 0, -EEXIST or another -errno. */
NODISCARD int folders_finish(int root, const char *partial, const char *name);
/* Removes it, whatever its name of the moment; its lock is taken. */
NODISCARD int folders_remove(int root, const char *name, int folder, struct err *err);
bool folders_is_left_over(const char *name);
/* Removes those that are left of somebody who was killed, and those that `ended` is true of (NULL:
 * none), unless somebody has their lock. `going`, unless NULL, is called with the lock before one
 * of the latter goes. */
void folders_sweep(enum folders_kind kind, bool (*ended)(int folder), void (*going)(int folder));
/* The names that `valid` accepts, sorted; the list and each name are the caller's to free. */
NODISCARD int folders_list(enum folders_kind kind, int (*valid)(const char *name, struct err *err),
	char ***names, unsigned *count, struct err *err);

/* The file's text, at most max bytes, with a zero at its end; free() it. NULL with err. */
char *folders_read(int folder, const char *file, size_t max, size_t *len, struct err *err);
