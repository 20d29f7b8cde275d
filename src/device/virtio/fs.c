/*
 * File system device (virtio 1.2 5.11): carries FUSE requests between the driver and whoever has
 * the files (struct shared_ops).
 *
 * A chain is a request, in its out-segments, and room for the answer, in its in-segments. The
 * request is copied into a slot's buffer, once, and the answer out of it; what they mean, the
 * device need not know, apart from the head of an answer that says that there is none. Where all
 * slots are taken, chains wait in their queue.
 *
 * Requests of the queue for urgent ones (5.11.6.2) take the same way: the other side serves each
 * request in a moment, and forgetting is not so urgent that one could not wait for that.
 *
 * A reset forgets chains, not slots: what was asked is answered into the slot, and that is all.
 * What the driver has named or opened is no part of a saved machine: a driver that was loaded finds
 * the root where it was, and hears of the rest that it is stale.
 */
#include "device/virtio/fs.h"
#include "base/bits.h"
#include "base/log.h"
#include "device/virtio/virtio_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { QUEUE_URGENT, QUEUE_REQUESTS, QUEUES };

/* 5.11.4 */
#define CONFIG_QUEUES VIRTIO_FS_TAG_MAX
#define CONFIG_LEN    40u

/* FUSE: where a request has its number, and what an answer begins with. */
#define REQUEST_UNIQUE 8u
#define REQUEST_HEAD   40u
#define ANSWER_HEAD    16u

struct slot {
	bool busy; /* the buffer is the other side's */
	bool held; /* and the chain is the driver's, who waits */
	unsigned queue;
	u8 unique[8];
	struct virtq_chain c;
};

struct fs {
	struct virtio v;
	char *tag;  /* property */
	bool gone;  /* nobody is there: it stays so */
	u32 hungry; /* queues that may have something, for which there was no slot */
	struct slot slots[SHARED_SLOTS];
};

static struct fs *fs_of(struct virtio *v) { return container_of(v, struct fs, v); }

static u8 *buffer(struct fs *f, unsigned slot)
{
	return f->v.dev.env.shared->buffer(f->v.dev.env.shared_ctx, slot);
}

/* ---- answers ---- */

static void push(struct fs *f, struct slot *s, u32 written)
{
	virtio_push(&f->v, s->queue, s->c.id, s->c.slots, written);
	virtio_interrupt(&f->v, s->queue);
}

static void refuse(struct fs *f, struct slot *s, int rc)
{
	u8 head[ANSWER_HEAD];

	put_le32(head, ANSWER_HEAD);
	put_le32(head + 4, (u32)rc);
	memcpy(head + 8, s->unique, sizeof(s->unique));
	push(f, s,
		s->c.in_len < ANSWER_HEAD
			? 0
			: (u32)virtq_write(&s->c, f->v.dev.env.memory, 0, head, sizeof(head)));
}

/* ---- requests ---- */

static struct slot *free_slot(struct fs *f)
{
	for (unsigned i = 0; i < SHARED_SLOTS; i++)
		if (!f->slots[i].busy)
			return &f->slots[i];
	return NULL;
}

/* The chain in the slot. */
static void ask(struct fs *f, struct slot *s)
{
	const struct device_env *env = &f->v.dev.env;
	unsigned i = (unsigned)(s - f->slots);
	u8 *buf = buffer(f, i);

	memset(s->unique, 0, sizeof(s->unique));
	if (s->c.out_len < REQUEST_HEAD || s->c.out_len > SHARED_BUFFER) {
		guest_err(
			f->v.dev.name, "a request of %llu bytes", (unsigned long long)s->c.out_len);
		refuse(f, s, -EIO);
		return;
	}
	virtq_read(&s->c, REQUEST_UNIQUE, s->unique, sizeof(s->unique));
	if (!f->gone)
		virtq_read(&s->c, 0, buf, s->c.out_len);
	s->busy = s->held = !f->gone && env->shared->ask(env->shared_ctx, i, (u32)s->c.out_len,
						(u32)min_u64(s->c.in_len, SHARED_BUFFER));
	f->gone = !s->busy;
	if (f->gone)
		refuse(f, s, -EIO);
}

/* As long as there are chains and slots. A queue in which nothing is found twice has nothing, or
 * the device has had its turn or its reset is due. */
static void take(struct fs *f, unsigned queue)
{
	struct slot *s;

	for (unsigned vain = 0; vain < 2; vain++) {
		while ((s = free_slot(f)) && virtio_pop(&f->v, queue, &s->c)) {
			s->queue = queue;
			ask(f, s);
			vain = 0;
		}
		if (!s)
			f->hungry |= BIT(queue);
		if (!s || !virtio_await(&f->v, queue))
			return;
	}
}

static void fs_notify(struct virtio *v, unsigned queue) { take(fs_of(v), queue); }

void virtio_fs_answered(struct device *d, unsigned slot, u32 len)
{
	struct fs *f = fs_of(virtio_of(d));
	struct slot *s = &f->slots[slot];

	if (s->held && len == VIRTIO_FS_GONE)
		refuse(f, s, -EIO);
	else if (s->held)
		push(f, s, (u32)virtq_write(&s->c, d->env.memory, 0, buffer(f, slot), len));
	s->busy = s->held = false;
	u32 hungry = f->hungry;

	f->hungry = 0;
	for (unsigned q = 0; q < QUEUES; q++)
		if (hungry & BIT(q))
			virtio_notified(&f->v, q);
}

/* ---- reset, init, tables ---- */

/* By the driver, too. */
static void forget(struct virtio *v)
{
	struct fs *f = fs_of(v);

	for (unsigned i = 0; i < SHARED_SLOTS; i++)
		f->slots[i].held = false;
	f->hungry = 0;
	v->dev.env.shared->reset(v->dev.env.shared_ctx);
}

static void fs_reset(struct device *d)
{
	struct virtio *v = virtio_of(d);
	const char *tag = fs_of(v)->tag ? fs_of(v)->tag : "";

	memset(v->config, 0, CONFIG_LEN);
	memcpy(v->config, tag, min_u64(strlen(tag), VIRTIO_FS_TAG_MAX));
	put_le32(v->config + CONFIG_QUEUES, QUEUES - QUEUE_REQUESTS);
	virtio_power_on(d);
}

/* Chains that are under way have no place in a saved machine: see fs.h, and machine_save(). */
static void fs_loaded(struct device *d)
{
	forget(virtio_of(d));
	virtio_loaded(d);
}

static int fs_init(struct device *d, struct err *err)
{
	static const struct virtio_type type = {
		.id = 26,
		.class = 0x018000,
		.queues = QUEUES,
		.config_len = CONFIG_LEN,
		.waiting = BIT(QUEUE_URGENT) | BIT(QUEUE_REQUESTS),
		.notify = fs_notify,
		.reset = forget,
	};

	if (!d->env.shared)
		return err_set(err, -EINVAL, "no folder");
	return virtio_init(virtio_of(d), &type, err);
}

static const struct prop fs_props[] = {
	VIRTIO_PROPS(struct fs),
	{ "tag", "what the guest knows it by", PROP_STRING, offsetof(struct fs, tag), 0, 0, 0 },
	PROP_END,
};

static const struct field fs_state[] = {
	FIELD_SUB(struct fs, v, struct virtio, virtio_fields),
	FIELD_END,
};

const struct device_class virtio_fs_class = {
	.name = "virtio-fs",
	.doc = "virtio file system device",
	.size = sizeof(struct fs),
	.init = fs_init,
	.reset = fs_reset,
	.fini = virtio_fini,
	.loaded = fs_loaded,
	.props = fs_props,
	.state = fs_state,
};
