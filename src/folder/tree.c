/* See tree.h. Both tables are arrays with a list of what is free; nodes are found by a hash of
 * their device and inode number, too. */
#include "folder/tree.h"
#include "base/bits.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define ROOM_FIRST 64u
#define LIMIT_MAX  (1u << 20)
#define SPARE	   32u /* descriptors for what is neither a node nor a handle */

/* ---- nodes ---- */

static u32 *bucket(const struct tree *t, dev_t dev, ino_t ino)
{
	u64 mixed = ((u64)ino ^ (u64)dev << 40) * 0x9e3779b97f4a7c15;

	return &t->buckets[(mixed >> 32) & (t->node_room - 1)];
}

static void put_into_bucket(struct tree *t, u32 i)
{
	u32 *b = bucket(t, t->nodes[i].dev, t->nodes[i].ino);

	t->nodes[i].next = *b;
	*b = i;
}

static int grow_nodes(struct tree *t)
{
	u32 room = t->node_room ? t->node_room * 2 : ROOM_FIRST;

	if (room > LIMIT_MAX * 2)
		return -ENFILE;
	struct tree_node *nodes = realloc(t->nodes, room * sizeof(*nodes));

	if (!nodes)
		return -ENOMEM;
	t->nodes = nodes;
	u32 *buckets = calloc(room, sizeof(*buckets));

	if (!buckets)
		return -ENOMEM;
	free(t->buckets);
	t->buckets = buckets;
	u32 before = t->node_room ? t->node_room : 1;

	t->node_room = room;
	for (u32 i = 1; i < before; i++)
		if (nodes[i].fd >= 0)
			put_into_bucket(t, i);
	/* Growing is for want of a free one, so the list is empty. */
	for (u32 i = room - 1; i >= before; i--) {
		nodes[i] = (struct tree_node){ .fd = -1, .next = t->node_free };
		t->node_free = i;
	}
	return 0;
}

const struct tree_node *tree_node(const struct tree *t, u64 id)
{
	return id && id < t->node_room && t->nodes[id].fd >= 0 ? &t->nodes[id] : NULL;
}

static u32 find(const struct tree *t, const struct stat *st)
{
	u32 i = t->node_room ? *bucket(t, st->st_dev, st->st_ino) : 0;

	while (i && (t->nodes[i].ino != st->st_ino || t->nodes[i].dev != st->st_dev))
		i = t->nodes[i].next;
	return i;
}

static int add(struct tree *t, int take_fd, const struct stat *st, u64 *id)
{
	u32 i = find(t, st);
	int rc;

	if (i) {
		close(take_fd);
	} else {
		if (!t->node_free && (rc = grow_nodes(t))) {
			close(take_fd);
			return rc;
		}
		i = t->node_free;
		t->node_free = t->nodes[i].next;
		t->nodes[i] = (struct tree_node){ .fd = take_fd,
			.type = st->st_mode & S_IFMT,
			.dev = st->st_dev,
			.ino = st->st_ino };
		put_into_bucket(t, i);
	}
	t->nodes[i].lookups++;
	*id = i;
	return 0;
}

static void drop_node(struct tree *t, u32 i)
{
	u32 *at = bucket(t, t->nodes[i].dev, t->nodes[i].ino);

	while (*at != i)
		at = &t->nodes[*at].next;
	*at = t->nodes[i].next;
	close(t->nodes[i].fd);
	t->nodes[i] = (struct tree_node){ .fd = -1, .next = t->node_free };
	t->node_free = i;
}

bool tree_is_name(const char *name)
{
	return *name && strcmp(name, ".") && strcmp(name, "..") && !strchr(name, '/');
}

int tree_look_up(struct tree *t, int fd, const char *name, u64 *id, struct stat *st)
{
	if (!tree_is_name(name))
		return -EINVAL;
	int found = openat(fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (found < 0)
		return -errno;
	/* The last ones are for files that are opened. */
	if ((u32)found >= t->limit) {
		close(found);
		return -ENFILE;
	}
	if (fstat(found, st)) {
		int rc = -errno;

		close(found);
		return rc;
	}
	return add(t, found, st, id);
}

void tree_forget(struct tree *t, u64 id, u64 times)
{
	if (id == TREE_ROOT || !tree_node(t, id))
		return;
	struct tree_node *n = &t->nodes[id];

	n->lookups -= min_u64(n->lookups, times);
	if (!n->lookups)
		drop_node(t, (u32)id);
}

/* Not what is no file: to open a pipe waits for others, and to open a device does what it likes. */
int tree_reopen(const struct tree *t, const struct tree_node *n, int flags)
{
	char name[16];

	int fd;

	if (n->type != S_IFREG && n->type != S_IFDIR)
		return n->type == S_IFLNK ? -ELOOP : -EACCES;
	snprintf(name, sizeof(name), "%d", n->fd);
	fd = n->type == S_IFDIR ? openat(n->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
				: openat(t->proc, name, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* ---- handles ---- */

static int grow_handles(struct tree *t)
{
	u32 room = t->handle_room ? t->handle_room * 2 : ROOM_FIRST;
	struct tree_handle *handles =
		room > LIMIT_MAX * 2 ? NULL : realloc(t->handles, room * sizeof(*handles));

	if (!handles)
		return -ENFILE;
	t->handles = handles;
	u32 before = t->handle_room ? t->handle_room : 1;

	for (u32 i = room - 1; i >= before; i--) {
		handles[i] = (struct tree_handle){ .fd = -1, .next = t->handle_free };
		t->handle_free = i;
	}
	t->handle_room = room;
	return 0;
}

int tree_handle_new(struct tree *t, int take_fd, enum tree_kind kind, u64 *handle)
{
	if (!t->handle_free && grow_handles(t)) {
		close(take_fd);
		return -ENFILE;
	}
	u32 i = t->handle_free;

	t->handle_free = t->handles[i].next;
	t->handles[i] = (struct tree_handle){ .fd = take_fd, .kind = kind };
	*handle = i;
	return 0;
}

int tree_handle(const struct tree *t, u64 handle, enum tree_kind kind)
{
	return handle && handle < t->handle_room && t->handles[handle].kind == kind
		       ? t->handles[handle].fd
		       : -EBADF;
}

void tree_handle_close(struct tree *t, u64 handle, enum tree_kind kind)
{
	if (tree_handle(t, handle, kind) < 0)
		return;
	close(t->handles[handle].fd);
	t->handles[handle] = (struct tree_handle){ .fd = -1, .next = t->handle_free };
	t->handle_free = (u32)handle;
}

/* ---- life ---- */

void tree_forget_all(struct tree *t)
{
	for (u32 i = TREE_ROOT + 1; i < t->node_room; i++)
		if (t->nodes[i].fd >= 0)
			drop_node(t, i);
	for (u32 i = 1; i < t->handle_room; i++)
		if (t->handles[i].kind != TREE_NONE)
			tree_handle_close(t, i, t->handles[i].kind);
}

int tree_open(struct tree *t, int take_folder, bool readonly, struct err *err)
{
	struct rlimit files = { 0 };
	struct stat st;
	u64 root;

	*t = (struct tree){ .readonly = readonly, .proc = -1 };
	getrlimit(RLIMIT_NOFILE, &files);
	t->limit = (u32)min_u64(files.rlim_cur > SPARE ? files.rlim_cur - SPARE : 0, LIMIT_MAX);
	if (fstat(take_folder, &st)) {
		close(take_folder);
		return err_set(err, -errno, "%s", strerror(errno));
	}
	/* The first free one is the root's number. */
	int rc = add(t, take_folder, &st, &root);

	if (rc)
		return err_set(err, rc, "%s", strerror(-rc));
	t->proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (t->proc < 0) {
		err_set(err, -errno, "/proc/self/fd: %s", strerror(errno));
		tree_close(t);
		return err->code;
	}
	return 0;
}

void tree_close(struct tree *t)
{
	tree_forget_all(t);
	if (tree_node(t, TREE_ROOT))
		drop_node(t, TREE_ROOT);
	if (t->proc >= 0)
		close(t->proc);
	free(t->nodes);
	free(t->buckets);
	free(t->handles);
}
