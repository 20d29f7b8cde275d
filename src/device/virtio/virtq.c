/* See virtq.h. Section numbers are those of virtio 1.2. */
#include "device/virtio/virtq.h"
#include "base/bits.h"
#include <errno.h>
#include <stdatomic.h>

/* 2.7.5 and 2.8.13 */
#define DESC_NEXT     BIT(0)
#define DESC_WRITE    BIT(1)
#define DESC_INDIRECT BIT(2)
#define DESC_AVAIL    BIT(7)
#define DESC_USED     BIT(15)
#define DESC_SIZE     16u

/* Split: the available ring's and the used ring's heads */
#define RING_FLAGS    0
#define RING_IDX      2
#define RING_ENTRIES  4
#define AVAIL_NO_INTR BIT(0)
#define USED_ENTRY    8u
#define CHAIN_LEN_MAX BIT64(32) /* 2.7.5.2 */

/* Packed: event suppression, 2.8.10 */
#define EVENT_OFF     0
#define EVENT_FLAGS   2
#define EVENT_ENABLE  0u
#define EVENT_DISABLE 1u
#define EVENT_DESC    2u

struct desc {
	u64 at;
	u32 len;
	u16 flags;
	u16 other; /* split: the next one; packed: the buffer's id */
};

const struct field virtq_fields[] = {
	FIELD(struct virtq, desc),
	FIELD(struct virtq, driver),
	FIELD(struct virtq, device),
	FIELD_MAX(struct virtq, size, VIRTQ_SIZE_MAX),
	FIELD(struct virtq, vector),
	FIELD(struct virtq, enabled),
	FIELD(struct virtq, avail_wrap),
	FIELD(struct virtq, used_wrap),
	FIELD(struct virtq, told_valid),
	FIELD(struct virtq, next_avail),
	FIELD(struct virtq, next_used),
	FIELD(struct virtq, told),
	FIELD_END,
};

/* ---- guest memory that the driver changes at any time: each read is one load ---- */

static u16 load16(const u8 *p)
{
	return atomic_load_explicit((const _Atomic u16 *)(const void *)p, memory_order_acquire);
}

static void store16(u8 *p, u16 v)
{
	atomic_store_explicit((_Atomic u16 *)(void *)p, v, memory_order_release);
}

/* The last two fields are flags and next in split rings, id and flags in packed ones. */
static struct desc load_desc(const u8 *p, bool packed)
{
	const volatile u64_any *words = (const volatile u64_any *)(const void *)p;
	u64 low = words[0], high = words[1];
	u16 first = (u16)(high >> 32), second = (u16)(high >> 48);

	return (struct desc){ low, (u32)high, packed ? second : first, packed ? first : second };
}

static bool is_packed(const struct virtq *q) { return q->features & VIRTIO_F_PACKED; }
static bool has_events(const struct virtq *q) { return q->features & VIRTIO_F_EVENT_IDX; }

/* Host memory of a range that the device may write, or only read. */
static u8 *map(const struct memory *m, u64 at, u64 len, bool write)
{
	u8 *host = memory_host(m, gpa(at), len);

	return host && write && memory_page(m, gpa(at)).rom ? NULL : host;
}

/* ---- life ---- */

void virtq_reset(struct virtq *q)
{
	*q = (struct virtq){
		.size = VIRTQ_SIZE_MAX, .vector = 0xffff, .avail_wrap = true, .used_wrap = true
	};
}

static bool size_ok(const struct virtq *q)
{
	if (!q->size || q->size > VIRTQ_SIZE_MAX)
		return false;
	if (is_packed(q))
		return q->next_avail < q->size && q->next_used < q->size;
	return !(q->size & (q->size - 1));
}

int virtq_enable(struct virtq *q, const struct memory *m, u64 features, const char **why)
{
	bool packed = features & VIRTIO_F_PACKED;
	/* 2.7 and 2.8.10: sizes, and how the areas are aligned. */
	u64 driver_len = packed ? 4 : 6 + 2 * q->size;
	u64 device_len = packed ? 4 : 6 + USED_ENTRY * q->size;
	u64 misaligned = (q->desc & 15) | (q->driver & (packed ? 3 : 1)) | (q->device & 3);

	q->features = features;
	*why = !size_ok(q) ? "a queue of an impossible size" : "a queue that is not in memory";
	if (!size_ok(q) || misaligned)
		return -EINVAL;
	q->desc_at = map(m, q->desc, (u64)q->size * DESC_SIZE, packed);
	q->driver_at = map(m, q->driver, driver_len, false);
	q->device_at = map(m, q->device, device_len, true);
	if (!q->desc_at || !q->driver_at || !q->device_at)
		return -EINVAL;
	q->enabled = true;
	return 0;
}

/* ---- chains ---- */

/* Adds a checked segment. */
static const char *add_segment(struct virtq_chain *c, const struct memory *m, const struct desc *d)
{
	bool write = d->flags & DESC_WRITE;
	u64 *total = write ? &c->in_len : &c->out_len;
	unsigned n = c->out + c->in;
	u8 *host;

	if (!write && c->in)
		return "a descriptor to be read after one to be written";
	if (!d->len)
		return NULL;
	if (n == VIRTQ_SIZE_MAX)
		return "a chain longer than a queue";
	host = map(m, d->at, d->len, write);
	if (!host)
		return "a buffer that is not in memory";
	if (c->out_len + c->in_len + d->len > CHAIN_LEN_MAX)
		return "a chain of more than 4 GiB";
	c->iov[n] = (struct iovec){ host, d->len };
	c->at[n] = d->at;
	*total += d->len;
	if (write)
		c->in++;
	else
		c->out++;
	return NULL;
}

/* 2.7.5.3 and 2.8.7: the table that an indirect descriptor refers to, `*count` entries of it. */
static const u8 *indirect_table(const struct virtq *q, const struct memory *m, const struct desc *d,
	unsigned *count, const char **why)
{
	const u8 *table = map(m, d->at, d->len, false);

	*count = d->len / DESC_SIZE;
	*why = !(q->features & VIRTIO_F_INDIRECT) ? "an indirect descriptor that was not agreed on"
	       : d->flags & DESC_NEXT		  ? "an indirect descriptor with a next one"
	       : !d->len || d->len % DESC_SIZE	  ? "an indirect table of an impossible size"
	       : !table				  ? "an indirect table that is not in memory"
						  : NULL;
	return *why ? NULL : table;
}

/* Split: from entry `index` of a table along its links, at most `left` descriptors. */
static const char *follow(const struct virtq *q, const struct memory *m, struct virtq_chain *c,
	const u8 *table, unsigned count, unsigned index, bool indirect)
{
	for (unsigned left = q->size; left; left--) {
		if (index >= count)
			return "a descriptor outside of its table";
		struct desc d = load_desc(table + (u64)index * DESC_SIZE, false);

		if (d.flags & DESC_INDIRECT) {
			const char *why = "an indirect descriptor in an indirect table";
			unsigned entries = 0;
			const u8 *inner =
				indirect ? NULL : indirect_table(q, m, &d, &entries, &why);

			/* It may stand behind others, as the last (2.7.5.3.2). */
			return inner ? follow(q, m, c, inner, entries, 0, true) : why;
		}
		const char *why = add_segment(c, m, &d);
		if (why || !(d.flags & DESC_NEXT))
			return why;
		index = d.other;
	}
	return "a loop of descriptors";
}

static int pop_split(
	struct virtq *q, const struct memory *m, struct virtq_chain *c, const char **why)
{
	u16 waiting = (u16)(load16(q->driver_at + RING_IDX) - q->next_avail);
	u16 slot = q->next_avail & (q->size - 1);

	if (!waiting)
		return 0;
	*why = "more chains than the queue has entries";
	if (waiting > q->size)
		return -EINVAL;
	c->id = load16(q->driver_at + RING_ENTRIES + 2 * slot);
	c->slots = 1;
	*why = follow(q, m, c, q->desc_at, q->size, c->id, false);
	if (*why)
		return -EINVAL;
	q->next_avail++;
	return 1;
}

/* 2.8.1 */
static bool is_available(u16 flags, bool wrap)
{
	return !!(flags & DESC_AVAIL) == wrap && !!(flags & DESC_USED) != wrap;
}

static void step(u16 *position, bool *wrap, u16 by, u16 size)
{
	*position = (u16)(*position + by);
	if (*position >= size) {
		*position = (u16)(*position - size);
		*wrap = !*wrap;
	}
}

/* 2.8.7: all entries of the table, in their order; NEXT means nothing there. */
static const char *packed_indirect(
	const struct virtq *q, const struct memory *m, struct virtq_chain *c, const struct desc *d)
{
	const char *why;
	unsigned count;
	const u8 *table = indirect_table(q, m, d, &count, &why);

	if (table && count > q->size)
		return "an indirect table longer than the queue";
	for (unsigned i = 0; table && !why && i < count; i++) {
		struct desc inner = load_desc(table + (u64)i * DESC_SIZE, true);

		why = inner.flags & DESC_INDIRECT ? "an indirect descriptor in an indirect table"
						  : add_segment(c, m, &inner);
	}
	return why;
}

static int pop_packed(
	struct virtq *q, const struct memory *m, struct virtq_chain *c, const char **why)
{
	u16 position = q->next_avail;
	bool wrap = q->avail_wrap;
	struct desc d;

	if (virtq_empty(q))
		return 0;
	for (unsigned left = q->size;; left--) {
		*why = "a loop of descriptors";
		if (!left)
			return -EINVAL;
		d = load_desc(q->desc_at + (u64)position * DESC_SIZE, true);
		*why = !(d.flags & DESC_INDIRECT) ? add_segment(c, m, &d)
		       : c->slots		  ? "an indirect descriptor behind others"
						  : packed_indirect(q, m, c, &d);
		if (*why)
			return -EINVAL;
		c->slots++;
		step(&position, &wrap, 1, q->size);
		if (!(d.flags & DESC_NEXT))
			break;
	}
	c->id = d.other; /* the last one's counts, 2.8.6 */
	q->next_avail = position;
	q->avail_wrap = wrap;
	return 1;
}

int virtq_pop(struct virtq *q, const struct memory *m, struct virtq_chain *c, const char **why)
{
	c->out = c->in = 0;
	c->out_len = c->in_len = 0;
	c->slots = 0;
	if (!q->enabled)
		return 0;
	return is_packed(q) ? pop_packed(q, m, c, why) : pop_split(q, m, c, why);
}

bool virtq_empty(const struct virtq *q)
{
	if (!q->enabled)
		return true;
	if (is_packed(q))
		return !is_available(
			load16(q->desc_at + (u64)q->next_avail * DESC_SIZE + 14), q->avail_wrap);
	return load16(q->driver_at + RING_IDX) == q->next_avail;
}

/* ---- giving back ---- */

/* The index, which the driver looks at, comes after all the entries. */
static void push_split(
	struct virtq *q, struct memory *m, const struct virtq_used *used, unsigned count)
{
	for (unsigned i = 0; i < count; i++, q->next_used++) {
		u64 at = RING_ENTRIES + USED_ENTRY * (q->next_used & (q->size - 1));

		put_le32(q->device_at + at, used[i].id);
		put_le32(q->device_at + at + 4, used[i].written);
		memory_written(m, gpa(q->device + at), USED_ENTRY);
	}
	store16(q->device_at + RING_IDX, q->next_used);
	memory_written(m, gpa(q->device), RING_ENTRIES);
}

static void write_used(
	struct virtq *q, struct memory *m, const struct virtq_used *used, u16 position, bool wrap)
{
	u64 at = (u64)position * DESC_SIZE;
	u16 flags = (wrap ? DESC_AVAIL | DESC_USED : 0) | (used->written ? DESC_WRITE : 0);

	put_le32(q->desc_at + at + 8, used->written);
	put_le16(q->desc_at + at + 12, used->id);
	store16(q->desc_at + at + 14, flags);
	memory_written(m, gpa(q->desc + at), DESC_SIZE);
}

/* The driver takes them in order, so the first one is written last. */
static void push_packed(
	struct virtq *q, struct memory *m, const struct virtq_used *used, unsigned count)
{
	u16 first = q->next_used;
	bool wrap = q->used_wrap, first_wrap = wrap;

	for (unsigned i = 0; i < count; i++) {
		if (i)
			write_used(q, m, &used[i], q->next_used, q->used_wrap);
		step(&q->next_used, &q->used_wrap, used[i].slots, q->size);
	}
	write_used(q, m, &used[0], first, first_wrap);
	if (q->used_wrap != wrap)
		q->told_valid = false;
}

void virtq_push_all(struct virtq *q, struct memory *m, const struct virtq_used *used, unsigned n)
{
	if (!q->enabled || !n)
		return;
	q->pushed = true;
	if (is_packed(q))
		push_packed(q, m, used, n);
	else
		push_split(q, m, used, n);
}

void virtq_push(struct virtq *q, struct memory *m, u16 id, u16 slots, u32 written)
{
	virtq_push_all(q, m, &(struct virtq_used){ id, slots, written }, 1);
}

struct virtq_mark virtq_mark(const struct virtq *q)
{
	return (struct virtq_mark){ q->next_avail, q->avail_wrap };
}

void virtq_rewind(struct virtq *q, struct virtq_mark mark)
{
	q->next_avail = mark.next_avail;
	q->avail_wrap = mark.avail_wrap;
}

/* ---- events ---- */

bool virtq_listen(struct virtq *q, struct memory *m)
{
	if (!q->enabled)
		return false;
	/* Packed: the device area stays zero, which asks for every notification. */
	if (!is_packed(q) && has_events(q)) {
		u64 at = RING_ENTRIES + USED_ENTRY * q->size;

		store16(q->device_at + at, q->next_avail);
		memory_written(m, gpa(q->device + at), 2);
	}
	/* Said before looked, as the driver looks after it has written. */
	atomic_thread_fence(memory_order_seq_cst);
	return !virtq_empty(q);
}

/* 2.7.7.2: `event` lies in what was used since the driver was told last. */
static bool passed(u16 event, u16 now, u16 told)
{
	return (u16)(now - event - 1) < (u16)(now - told);
}

static bool split_wants(struct virtq *q, u16 told, bool valid)
{
	if (!has_events(q))
		return !(load16(q->driver_at + RING_FLAGS) & AVAIL_NO_INTR);
	return !valid ||
	       passed(load16(q->driver_at + RING_ENTRIES + 2 * q->size), q->next_used, told);
}

static bool packed_wants(struct virtq *q, u16 told, bool valid)
{
	u16 flags = load16(q->driver_at + EVENT_FLAGS) & 3;
	u16 off = load16(q->driver_at + EVENT_OFF);
	u16 event = off & 0x7fff;

	if (flags == EVENT_DISABLE)
		return false;
	if (flags == EVENT_ENABLE || !has_events(q) || !valid)
		return true;
	if (!!(off >> 15) != q->used_wrap)
		event = (u16)(event - q->size);
	return passed(event, q->next_used, told);
}

bool virtq_wants_interrupt(struct virtq *q)
{
	u16 told = q->told;
	bool valid = q->told_valid;

	if (!q->enabled || !q->pushed)
		return false;
	q->pushed = false;
	q->told = q->next_used;
	q->told_valid = true;
	atomic_thread_fence(memory_order_seq_cst);
	return is_packed(q) ? packed_wants(q, told, valid) : split_wants(q, told, valid);
}

/* ---- a chain's bytes ---- */

/* Copies between buf and [offset, offset + len) of `count` segments; how much there was. */
static size_t copy(const struct iovec *iov, unsigned count, u64 offset, u8 *buf, size_t len,
	bool into_segments)
{
	size_t done = 0;

	for (unsigned i = 0; i < count && done < len; i++) {
		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		size_t n = min_u64(len - done, iov[i].iov_len - offset);
		u8 *segment = (u8 *)iov[i].iov_base + offset;

		if (into_segments)
			memcpy(segment, buf + done, n);
		else
			memcpy(buf + done, segment, n);
		done += n;
		offset = 0;
	}
	return done;
}

size_t virtq_read(const struct virtq_chain *c, u64 offset, void *buf, size_t len)
{
	return copy(c->iov, c->out, offset, buf, len, false);
}

size_t virtq_write(
	const struct virtq_chain *c, struct memory *m, u64 offset, const void *buf, size_t len)
{
	u8 *bytes = (u8 *)(uintptr_t)buf; /* only read */
	size_t done = copy(c->iov + c->out, c->in, offset, bytes, len, true);

	virtq_written(c, m, offset + done);
	return done;
}

void virtq_written(const struct virtq_chain *c, struct memory *m, u64 len)
{
	for (unsigned i = c->out; i < c->out + c->in && len; i++) {
		u64 n = min_u64(len, c->iov[i].iov_len);

		memory_written(m, gpa(c->at[i]), n);
		len -= n;
	}
}
