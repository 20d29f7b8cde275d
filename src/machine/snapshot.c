/*
 * Everything but memory, as a stream of named sections: the clock, each processor, each device.
 * Names and order are the machine's own, so a stream of a machine with other parts is refused by
 * the first name that differs.
 *
 * Loading one section is all or nothing (state.h), loading all of them is made so here: the present
 * state is saved first and put back when a section is refused.
 */
#include "device/pci/hotplug.h"
#include "machine/cpu_state.h"
#include "machine/machine_priv.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define NAME_SIZE 24

struct section {
	char name[NAME_SIZE]; /* zero-padded */
	u64 len;
};

/* When it was: by the guest's clock, by the host's counters that the guest's are derived from, and
 * by the host's time of day. */
struct moment {
	u64 guest_ns, tsc_base, tsc;
	s64 wall;
};

static const struct field moment_fields[] = {
	FIELD(struct moment, guest_ns),
	FIELD(struct moment, tsc_base),
	FIELD(struct moment, tsc),
	FIELD(struct moment, wall),
	FIELD_END,
};

/* The n-th of the devices that were attached while it ran; NULL: there are not so many. */
static const struct machine_hot *attached(const struct machine *m, unsigned n)
{
	for (unsigned i = 0; i < MACHINE_HOT_MAX; i++)
		if (m->hot[i].device && !n--)
			return &m->hot[i];
	return NULL;
}

static struct device *device_at(const struct machine *m, unsigned n)
{
	return n < m->part_count ? m->parts[n].device : attached(m, n - m->part_count)->device;
}

/* The sections of a machine by index; false past the last. An attached device's says in which slot
 * it is: only there does the guest know it. */
static bool hot_section(const struct machine *m, unsigned n, char name[NAME_SIZE])
{
	const struct machine_hot *h = attached(m, n);

	if (h)
		snprintf(name, NAME_SIZE, "%s@%u", h->device->name,
			PCI_HOTPLUG_FIRST + (unsigned)(h - m->hot));
	return h;
}

static int save_moment(const struct machine *m, struct blob *out)
{
	const struct moment at = { clock_now(&m->clock), m->tsc_base, m->paused_tsc,
		m->paused_wall };

	return state_save(out, moment_fields, &at);
}

static int load_moment(struct machine *m, const u8 *data, size_t len, size_t *used, struct err *err)
{
	struct moment at;
	int rc = state_load(data, len, used, moment_fields, &at, sizeof(at), err);

	if (rc)
		return rc;
	m->clock.frozen_at = at.guest_ns;
	m->tsc_base = at.tsc_base;
	m->paused_tsc = at.tsc;
	m->paused_wall = at.wall;
	return 0;
}

/* The sections of a machine by index; false past the last. */
static bool section_name(const struct machine *m, unsigned i, char name[NAME_SIZE])
{
	memset(name, 0, NAME_SIZE);
	if (i == 0)
		snprintf(name, NAME_SIZE, "clock");
	else if (i - 1 < m->config.cpus)
		snprintf(name, NAME_SIZE, "cpu%u", i - 1);
	else if (i - 1 - m->config.cpus < m->part_count)
		snprintf(name, NAME_SIZE, "%s", m->parts[i - 1 - m->config.cpus].device->name);
	else
		return hot_section(m, i - 1 - m->config.cpus - m->part_count, name);
	return true;
}

static int save_body(struct machine *m, unsigned i, struct blob *out)
{
	if (i == 0)
		return save_moment(m, out);
	if (i - 1 < m->config.cpus)
		return cpu_state_save(&m->cpus[i - 1].v.x86.s, out);
	return device_save(device_at(m, i - 1 - m->config.cpus), out);
}

static int load_body(
	struct machine *m, unsigned i, const u8 *data, size_t len, size_t *used, struct err *err)
{
	if (i == 0)
		return load_moment(m, data, len, used, err);
	if (i - 1 < m->config.cpus) {
		struct vcpu *v = &m->cpus[i - 1].v;

		if (cpu_state_load(&v->x86.s, data, len, used, err))
			return err->code;
		/* Any register may hold anything, as guests can make them; this is no register. */
		if ((unsigned)v->x86.s.activity > X86_SHUTDOWN)
			return err_set(err, -EINVAL, "activity %u does not exist",
				(unsigned)v->x86.s.activity);
		m->cpus[i - 1].tsc_offset = v->x86.s.tsc_offset;
		v->x86.ops->flush(&v->x86, X86_FLUSH_ALL, 0, 0);
		v->x86.ops->mode_changed(&v->x86);
		return v->engine->push(v) ? err_set(err, -EIO, "the engine refuses the state") : 0;
	}
	return device_load(device_at(m, i - 1 - m->config.cpus), data, len, used, err);
}

static int save_sections(struct machine *m, struct blob *out)
{
	struct section head;

	for (unsigned i = 0; section_name(m, i, head.name); i++) {
		size_t at = out->len;

		head.len = 0;
		if (blob_put(out, &head, sizeof(head)) || save_body(m, i, out))
			return -ENOMEM;
		head.len = out->len - at - sizeof(head);
		memcpy(out->data + at, &head, sizeof(head));
	}
	return 0;
}

static int load_section(struct machine *m, unsigned i, const char *name, const u8 **data,
	size_t *len, struct err *err)
{
	struct section head;
	size_t used;

	if (*len < sizeof(head))
		return err_set(err, -EINVAL, "%s: the stream ends", name);
	memcpy(&head, *data, sizeof(head));
	if (memcmp(head.name, name, NAME_SIZE))
		return err_set(err, -EINVAL, "%s expected, found %.*s", name, NAME_SIZE, head.name);
	if (head.len > *len - sizeof(head))
		return err_set(err, -EINVAL, "%s: the stream ends", name);
	if (load_body(m, i, *data + sizeof(head), head.len, &used, err))
		return err_wrap(err, "%s", name);
	if (used != head.len)
		return err_set(
			err, -EINVAL, "%s: %zu bytes too many", name, (size_t)head.len - used);
	*data += sizeof(head) + head.len;
	*len -= sizeof(head) + head.len;
	return 0;
}

/* Local APICs that the engine keeps get what the sections say; their base address first, because
 * the registers' meaning depends on its mode bits. */
static int give_apics(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->config.cpus; i++) {
		struct machine_cpu *c = &m->cpus[i];

		if (!c->v.irqchip)
			continue;
		c->v.x86.s.apic_base = c->lapic->base;
		if (c->v.engine->push(&c->v) || irqchip_give(c))
			return err_set(
				err, -EIO, "lapic%u: the engine refuses the state", c->v.index);
	}
	return 0;
}

/* What a stream has beyond this machine's sections; most likely devices that were attached. */
static int refuse_rest(const u8 *data, size_t len, struct err *err)
{
	struct section head = { 0 };

	if (len >= sizeof(head))
		memcpy(&head, data, sizeof(head));
	if (!memchr(head.name, '@', NAME_SIZE))
		return err_set(err, -EINVAL, "%zu bytes after the last section", len);
	return err_set(err, -EINVAL, "%.*s was attached when the state was saved, and is not now",
		(int)strcspn(head.name, "@"), head.name);
}

static int load_sections(struct machine *m, const u8 *data, size_t len, struct err *err)
{
	char name[NAME_SIZE];

	for (unsigned i = 0; section_name(m, i, name); i++)
		if (load_section(m, i, name, &data, &len, err))
			return err->code;
	if (len)
		return refuse_rest(data, len, err);
	return give_apics(m, err);
}

int machine_save(struct machine *m, struct blob *out, struct err *err)
{
	for (unsigned i = 0; i < m->config.cpus; i++)
		if (m->config.engine->pull(&m->cpus[i].v) || irqchip_take(&m->cpus[i]))
			return err_set(err, -EIO, "cpu%u: the engine does not give its state", i);
	pthread_mutex_lock(&m->lock);
	disk_drain(m);
	machine_share_drain(m);
	int rc = save_sections(m, out);
	pthread_mutex_unlock(&m->lock);
	return rc ? err_set(err, rc, "no memory for the machine's state") : 0;
}

int machine_load(struct machine *m, const u8 *data, size_t len, struct err *err)
{
	struct blob before = { 0 };
	int rc = machine_save(m, &before, err);

	if (!rc) {
		pthread_mutex_lock(&m->lock);
		rc = load_sections(m, data, len, err);
		if (rc && load_sections(m, before.data, before.len, &(struct err){ 0 }))
			err_wrap(err, "the machine is unusable now");
		pthread_mutex_unlock(&m->lock);
	}
	blob_free(&before);
	return rc;
}
