/*
 * A folder of the host as a FUSE server knows it: which of its files the other side has names for
 * (nodes), and which it has opened (handles).
 *
 * A node is an O_PATH descriptor, so it goes on meaning the same file whatever is renamed or
 * removed meanwhile, and it can be opened only by going through it. Names are looked up one at a
 * time, below a node, without following symbolic links, and are neither "." nor "..": so no way
 * leads out of the folder. The same is asked of names that are made or removed. A file that is
 * reached by two names is one node: the device and inode number find it.
 *
 * Numbers that the other side gives are looked up in tables, and mean nothing else. Tables grow as
 * far as the process may have descriptors; then there is -ENFILE.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include <sys/stat.h>

#define TREE_ROOT 1u

enum tree_kind { TREE_NONE, TREE_FILE, TREE_FOLDER };

struct tree_node {
	int fd; /* O_PATH; -1: free */
	u32 next;
	mode_t type; /* S_IFMT's bits */
	dev_t dev;
	ino_t ino;
	u64 lookups; /* how often the other side has been told of it */
};

struct tree_handle {
	int fd;
	u32 next;
	enum tree_kind kind; /* TREE_NONE: free */
};

struct tree {
	bool readonly;
	int proc; /* /proc/self/fd: the way to open what a node is */
	u32 limit;
	struct tree_node *nodes; /* 0 is none */
	u32 *buckets;		 /* of as many */
	u32 node_room, node_free;
	struct tree_handle *handles;
	u32 handle_room, handle_free;
};

/* Takes the folder's descriptor (O_PATH), also when it fails. */
NODISCARD int tree_open(struct tree *t, int take_folder, bool readonly, struct err *err);
void tree_close(struct tree *t);
/* Everything but the root. */
void tree_forget_all(struct tree *t);

/* Of something within a folder: no way, and neither the folder nor what is above. */
bool tree_is_name(const char *name);
/* NULL: it has none of that number. Valid until the next lookup. */
const struct tree_node *tree_node(const struct tree *t, u64 id);
/* What `name` below the folder `fd` is: 0, a node's number, told once more, and its attributes. */
NODISCARD int tree_look_up(struct tree *t, int fd, const char *name, u64 *id, struct stat *st);
void tree_forget(struct tree *t, u64 id, u64 times);
/* A regular file or a folder, opened. A descriptor, or -errno. */
NODISCARD int tree_reopen(const struct tree *t, const struct tree_node *n, int flags);

/* Takes the descriptor, also when it fails. */
NODISCARD int tree_handle_new(struct tree *t, int take_fd, enum tree_kind kind, u64 *handle);
/* The descriptor; -EBADF: there is no such handle of that kind. */
NODISCARD int tree_handle(const struct tree *t, u64 handle, enum tree_kind kind);
void tree_handle_close(struct tree *t, u64 handle, enum tree_kind kind);
