/*
 * Memory balloon (virtio 1.2 5.5): the guest gives memory back to the host.
 *
 * Two ways lead back. Inflating: the device has a target, the driver takes so many pages from its
 * kernel and names them; those it takes out again are simply used, since the host puts memory there
 * on first use. Reporting: the driver names large free ranges, uses none of them until the device
 * has answered, and goes on as if nothing had happened. Either way memory_discard() does it, as if
 * the device had written zeroes; what a driver names wrongly is its own loss, as with any DMA.
 *
 * A driver that fills its free pages with a pattern says so (PAGE_POISON); then a range that was
 * reported may come back as it was or with the pattern (5.5.6.7), so unless that is zero, nothing
 * is discarded.
 *
 * Statistics: the driver leaves one buffer in a queue, and brings it up to date whenever it gets it
 * back. Here the buffer is read but stays in the queue until somebody wants to know more, so the
 * ring itself is the state.
 *
 * Queues. The document numbers them as if there were one for free page hints (which this device
 * does not offer), but Linux up to 6.10 numbers only those of accepted features. A queue behind the
 * first two is the statistics' if it is the third and the driver has accepted them; any other can
 * only be the one for reports.
 */
#include "device/virtio/balloon.h"
#include "base/bits.h"
#include "base/log.h"
#include "device/virtio/virtio.h"

enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_STATS, QUEUES = 5 };

/* 5.5.3 */
#define F_STATS_VQ	 BIT64(1)
#define F_DEFLATE_ON_OOM BIT64(2)
#define F_PAGE_POISON	 BIT64(4)
#define F_REPORTING	 BIT64(5)

/* 5.5.4 */
#define NUM_PAGES  0u
#define ACTUAL	   4u
#define POISON_VAL 12u
#define CONFIG_LEN 16u

/* 5.5.6: a page's number, and a statistic's tag and value. */
#define PAGE_LEN   4u
#define STAT_LEN   10u
#define STATS_MAX  32u	/* entries that are looked at */
#define PAGES_MAX  256u /* of a chain, as Linux fills them: what is beyond stays where it is */
#define PAGES_READ 64u

struct balloon {
	struct virtio v;
	u64 target; /* property: bytes */
	u32 actual, poison;
	u64 given;
	u32 known;
	u64 stats[VIRTIO_BALLOON_STATS];
};

static struct balloon *balloon_of(struct virtio *v) { return container_of(v, struct balloon, v); }

/* ---- helpers ---- */

static void give(struct balloon *b, u64 at, u64 len)
{
	if (len >= PAGE_SIZE && memory_discard(b->v.dev.env.memory, gpa(at), len))
		b->given += align_down(at + len, PAGE_SIZE) - align_up(at, PAGE_SIZE);
}

/* Pages named one after the other are mostly neighbours, upwards or downwards. */
static void inflate(struct balloon *b, const struct virtq_chain *c)
{
	u64 first = 0, len = 0, count = min_u64(c->out_len / PAGE_LEN, PAGES_MAX);
	u8 numbers[PAGES_READ * PAGE_LEN];

	for (u64 i = 0; i < count; i++) {
		if (!(i % PAGES_READ))
			virtq_read(c, i * PAGE_LEN, numbers, sizeof(numbers));
		u64 at = (u64)get_le32(numbers + i % PAGES_READ * PAGE_LEN) << PAGE_SHIFT;

		if (len && at + PAGE_SIZE == first) {
			first = at;
		} else if (!len || at != first + len) {
			give(b, first, len);
			first = at;
			len = 0;
		}
		len += PAGE_SIZE;
	}
	give(b, first, len);
}

static void report(struct balloon *b, const struct virtq_chain *c)
{
	if (virtio_has(&b->v, F_PAGE_POISON) && b->poison)
		return;
	for (unsigned i = c->out; i < c->out + c->in; i++)
		give(b, c->at[i], c->iov[i].iov_len);
}

static void read_stats(struct balloon *b, const struct virtq_chain *c)
{
	u8 stat[STAT_LEN];

	for (unsigned i = 0; i < STATS_MAX; i++) {
		if (virtq_read(c, i * STAT_LEN, stat, STAT_LEN) != STAT_LEN)
			return;
		u16 tag = get_le16(stat);

		if (tag >= VIRTIO_BALLOON_STATS)
			continue;
		b->stats[tag] = get_le64(stat + 2);
		b->known |= BIT(tag);
	}
}

/* ---- queues ---- */

static void look_at_stats(struct balloon *b)
{
	struct virtq *q = &b->v.queues[QUEUE_STATS];
	struct virtq_mark mark = virtq_mark(q);
	struct virtq_chain c;

	if (!virtio_pop(&b->v, QUEUE_STATS, &c))
		return;
	read_stats(b, &c);
	virtq_rewind(q, mark);
}

static void refresh_stats(struct balloon *b)
{
	struct virtq_chain c;

	if (!virtio_has(&b->v, F_STATS_VQ) || !virtio_pop(&b->v, QUEUE_STATS, &c))
		return;
	virtio_push(&b->v, QUEUE_STATS, c.id, c.slots, 0);
	virtio_interrupt(&b->v, QUEUE_STATS);
	if (virtio_await(&b->v, QUEUE_STATS))
		look_at_stats(b);
}

static void balloon_notify(struct virtio *v, unsigned queue)
{
	struct balloon *b = balloon_of(v);
	struct virtq_chain c;

	if (queue == QUEUE_STATS && virtio_has(v, F_STATS_VQ)) {
		look_at_stats(b);
		return;
	}
	while (virtio_pop(v, queue, &c)) {
		if (queue == QUEUE_INFLATE)
			inflate(b, &c);
		else if (queue != QUEUE_DEFLATE && virtio_has(v, F_REPORTING))
			report(b, &c);
		virtio_push(v, queue, c.id, c.slots, 0);
	}
	virtio_interrupt(v, queue);
}

/* ---- configuration ---- */

static void show_config(struct balloon *b)
{
	memset(b->v.config, 0, CONFIG_LEN);
	put_le32(b->v.config + NUM_PAGES, (u32)min_u64(b->target >> PAGE_SHIFT, UINT32_MAX));
	put_le32(b->v.config + ACTUAL, b->actual);
	put_le32(b->v.config + POISON_VAL, b->poison);
}

/* 5.5.4: two of the fields are the driver's. */
static void balloon_config_wrote(struct virtio *v, unsigned at, unsigned size)
{
	struct balloon *b = balloon_of(v);

	b->actual = get_le32(v->config + ACTUAL);
	b->poison = get_le32(v->config + POISON_VAL);
	show_config(b);
}

static void agreed(struct virtio *v)
{
	v->waiting = virtio_has(v, F_STATS_VQ) ? BIT(QUEUE_STATS) : 0;
}

/* ---- what the machine calls ---- */

void virtio_balloon_set(struct device *d, u64 bytes)
{
	struct virtio *v = virtio_of(d);

	balloon_of(v)->target = bytes;
	show_config(balloon_of(v));
	virtio_config_changed(v);
}

struct virtio_balloon_report virtio_balloon_report(struct device *d)
{
	struct balloon *b = balloon_of(virtio_of(d));
	struct virtio_balloon_report r = {
		.target = b->target,
		.actual = (u64)b->actual << PAGE_SHIFT,
		.given = b->given,
		.known = b->known,
	};

	memcpy(r.stats, b->stats, sizeof(r.stats));
	refresh_stats(b);
	return r;
}

/* ---- reset, init, tables ---- */

/* By the driver, too: it has all of its pages again. */
static void forget(struct virtio *v)
{
	struct balloon *b = balloon_of(v);

	b->actual = b->poison = b->known = 0;
	memset(b->stats, 0, sizeof(b->stats));
	show_config(b);
}

static void balloon_reset(struct device *d)
{
	balloon_of(virtio_of(d))->given = 0;
	virtio_power_on(d);
}

static void balloon_loaded(struct device *d)
{
	struct balloon *b = balloon_of(virtio_of(d));

	b->known = 0;
	show_config(b);
	virtio_loaded(d);
}

static int balloon_init(struct device *d, struct err *err)
{
	static const struct virtio_type type = {
		.id = 5,
		.class = 0xff0000,
		.features = F_STATS_VQ | F_DEFLATE_ON_OOM | F_PAGE_POISON | F_REPORTING,
		.queues = QUEUES,
		.config_len = CONFIG_LEN,
		.agreed = agreed,
		.notify = balloon_notify,
		.config_wrote = balloon_config_wrote,
		.reset = forget,
	};

	return virtio_init(virtio_of(d), &type, err);
}

static const struct prop balloon_props[] = {
	VIRTIO_PROPS(struct balloon),
	{ "target", "bytes that the guest is asked for", PROP_U64, offsetof(struct balloon, target),
		0, 0, UINT64_MAX },
	PROP_END,
};

static const struct field balloon_state[] = {
	FIELD_SUB(struct balloon, v, struct virtio, virtio_fields),
	FIELD(struct balloon, target),
	FIELD(struct balloon, actual),
	FIELD(struct balloon, poison),
	FIELD(struct balloon, given),
	FIELD_END,
};

const struct device_class virtio_balloon_class = {
	.name = "virtio-balloon",
	.doc = "virtio memory balloon",
	.size = sizeof(struct balloon),
	.init = balloon_init,
	.reset = balloon_reset,
	.fini = virtio_fini,
	.loaded = balloon_loaded,
	.props = balloon_props,
	.state = balloon_state,
};
