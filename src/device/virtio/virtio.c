/* See virtio.h. Section numbers are those of virtio 1.2. */
#include "base/bits.h"
#include "base/log.h"
#include "base/must.h"
#include "device/virtio/virtio_priv.h"

/* A driver may put more and more into a queue while it is worked on. After so many chains the vcpu
 * goes on, and the rest is done when the machine comes to it. */
#define CHAINS_MAX (4 * VIRTQ_SIZE_MAX)
#define NO_LIMIT   (~0u)

const struct field virtio_fields[] = {
	FIELD(struct virtio, accepted),
	FIELD(struct virtio, offered_select),
	FIELD(struct virtio, accepted_select),
	FIELD(struct virtio, queue_select),
	FIELD(struct virtio, config_vector),
	FIELD(struct virtio, status),
	FIELD(struct virtio, isr),
	FIELD(struct virtio, generation),
	FIELD(struct virtio, later),
	FIELD_SUB(struct virtio, queues, struct virtq, virtq_fields),
	FIELD_SUB(struct virtio, pci, struct pci_function, pci_function_fields),
	FIELD_END,
};

/* ---- what a kind of device calls ---- */

static bool works(const struct virtio *v)
{
	return (v->status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) == STATUS_DRIVER_OK &&
	       v->transport->may_access(v);
}

void virtio_broken(struct virtio *v, const char *why)
{
	guest_err(v->dev.name, "needs a reset: %s", why);
	v->status |= STATUS_NEEDS_RESET;
	virtio_config_changed(v);
}

bool virtio_pop(struct virtio *v, unsigned queue, struct virtq_chain *c)
{
	const char *why;
	int rc = works(v) && v->budget ? virtq_pop(&v->queues[queue], v->dev.env.memory, c, &why)
				       : 0;

	if (rc < 0)
		virtio_broken(v, why);
	if (rc > 0 && v->budget != NO_LIMIT)
		v->budget--;
	return rc > 0;
}

void virtio_push(struct virtio *v, unsigned queue, u16 id, u16 slots, u32 written)
{
	virtq_push(&v->queues[queue], v->dev.env.memory, id, slots, written);
}

void virtio_interrupt(struct virtio *v, unsigned queue)
{
	struct virtq *q = &v->queues[queue];

	if (virtq_wants_interrupt(q))
		v->transport->interrupt(v, q->vector, ISR_QUEUE);
}

bool virtio_await(struct virtio *v, unsigned queue)
{
	return virtq_listen(&v->queues[queue], v->dev.env.memory);
}

/* 2.5.1: what the driver has read of the configuration may be out of date. 2.1.2: a driver that is
 * not ready is not interrupted. */
void virtio_config_changed(struct virtio *v)
{
	v->generation++;
	if (v->status & STATUS_DRIVER_OK)
		v->transport->interrupt(v, v->config_vector, ISR_CONFIG);
}

/* ---- what the transport calls ---- */

struct virtq *virtio_selected(struct virtio *v)
{
	return v->queue_select < v->queue_count ? &v->queues[v->queue_select] : NULL;
}

static void take_turn_later(struct virtio *v)
{
	struct guest_clock *clock = v->dev.env.clock;

	if (v->later && !v->turn.armed)
		timer_arm(clock, &v->turn, clock_now(clock));
}

void virtio_notified(struct virtio *v, unsigned queue)
{
	struct virtq *q = &v->queues[queue < v->queue_count ? queue : 0];
	bool more = true;

	if (queue >= v->queue_count || !q->enabled || !v->type->notify)
		return;
	v->budget = CHAINS_MAX;
	while (more && v->budget && works(v)) {
		v->type->notify(v, queue);
		more = v->waiting & BIT(queue) ? !v->budget : virtq_listen(q, v->dev.env.memory);
	}
	v->budget = NO_LIMIT;
	if (more && works(v)) {
		v->later |= (u16)BIT(queue);
		take_turn_later(v);
	}
}

static void take_turn(void *ctx)
{
	struct virtio *v = ctx;
	u16 queues = v->later;

	v->later = 0;
	for (unsigned i = 0; i < v->queue_count; i++)
		if (queues & BIT(i))
			virtio_notified(v, i);
}

static void tell_agreed(struct virtio *v)
{
	if (v->type->agreed)
		v->type->agreed(v);
}

/* 3.1.1: what was accepted must be among what was offered, and modern. */
static bool features_ok(const struct virtio *v)
{
	return !(v->accepted & ~v->offered) && virtio_has(v, VIRTIO_F_VERSION_1);
}

void virtio_write_status(struct virtio *v, u8 status)
{
	u8 set = status & (u8)~v->status;

	if (!status) {
		virtio_reset(v);
		return;
	}
	if (set & STATUS_FEATURES_OK && !features_ok(v)) {
		guest_err(v->dev.name, "features 0x%llx were not all offered",
			(unsigned long long)v->accepted);
		set &= (u8)~STATUS_FEATURES_OK;
	}
	v->status |= set & (u8)~STATUS_NEEDS_RESET;
	if (set & STATUS_FEATURES_OK)
		tell_agreed(v);
	if (set & STATUS_DRIVER_OK)
		for (unsigned i = 0; i < v->queue_count; i++)
			virtio_notified(v, i);
}

/* ---- life ---- */

/* What the device itself forgets; the PCI function keeps its place (2.4, 4.1.4.3.1). */
void virtio_reset(struct virtio *v)
{
	if (v->type->reset)
		v->type->reset(v);
	v->offered = v->features | VIRTQ_FEATURES | VIRTIO_F_VERSION_1;
	if (!v->packed)
		v->offered &= ~VIRTIO_F_PACKED;
	v->later = 0;
	timer_cancel(v->dev.env.clock, &v->turn);
	v->accepted = 0;
	v->offered_select = v->accepted_select = 0;
	v->queue_select = 0;
	v->config_vector = NO_VECTOR;
	v->status = v->isr = v->generation = 0;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		virtq_reset(&v->queues[i]);
	tell_agreed(v);
	v->transport->drive(v);
}

void virtio_power_on(struct device *d)
{
	struct virtio *v = virtio_of(d);

	virtio_reset(v);
	v->transport->power_on(v);
}

int virtio_init(struct virtio *v, const struct virtio_type *type, struct err *err)
{
	must(type->queues <= VIRTIO_QUEUES_MAX && type->config_len <= VIRTIO_CONFIG_MAX,
		"%s: %u queues, %u bytes", v->dev.name, type->queues, type->config_len);
	v->type = type;
	v->queue_count = type->queues;
	v->waiting = type->waiting;
	v->features = type->features;
	v->budget = NO_LIMIT;
	timer_init(&v->turn, take_turn, v);
	v->transport = v->dev.class->windows[0].len ? &virtio_mmio : &virtio_pci;
	return v->transport->init(v, err);
}

void virtio_fini(struct device *d)
{
	struct virtio *v = virtio_of(d);

	if (v->type->reset)
		v->type->reset(v);
	timer_cancel(v->dev.env.clock, &v->turn);
	v->transport->fini(v);
}

/* A queue of a hostile save that cannot be is one that does not work. */
void virtio_loaded(struct device *d)
{
	struct virtio *v = virtio_of(d);
	const char *why;

	v->transport->loaded(v);
	if (v->status & STATUS_FEATURES_OK && !features_ok(v))
		virtio_broken(v, "features that were not offered");
	tell_agreed(v);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		struct virtq *q = &v->queues[i];
		bool enabled = q->enabled;

		q->enabled = false;
		if (enabled && virtq_enable(q, d->env.memory, v->accepted, &why))
			virtio_broken(v, why);
	}
	timer_cancel(d->env.clock, &v->turn);
	take_turn_later(v);
	v->transport->drive(v);
}
