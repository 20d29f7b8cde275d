/*
 * The life of a device, whatever its class: allocated with default properties, initialised, reset,
 * attached to the bus, saved, loaded, freed.
 *
 * The bus knows windows, a device knows window numbers: each window claimed gets a device_port as
 * its context, which turns one into the other.
 */
#include "device/device.h"
#include "base/bits.h"
#include "base/must.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* How much of an access goes to the device at once (a byte-wide part sees a word as two bytes). */
static unsigned piece_of(const struct device_class *class, unsigned size)
{
	return class->width && class->width < size ? class->width : size;
}

static u64 port_read(void *ctx, u64 offset, unsigned size)
{
	struct device_port *p = ctx;
	const struct device_class *class = p->device->class;
	unsigned piece = piece_of(class, size);
	u64 value = 0;

	if (!class->read)
		return mask_bytes(size);
	for (unsigned i = 0; i < size; i += piece) {
		u64 part = class->read(p->device, p->window, offset + i, piece);

		value |= (part & mask_bytes(piece)) << (8 * i);
	}
	return value;
}

static void port_write(void *ctx, u64 offset, unsigned size, u64 value)
{
	struct device_port *p = ctx;
	const struct device_class *class = p->device->class;
	unsigned piece = piece_of(class, size);

	if (!class->write)
		return;
	for (unsigned i = 0; i < size; i += piece)
		class->write(p->device, p->window, offset + i, piece,
			value >> (8 * i) & mask_bytes(piece));
}

static const struct bus_handler port_handler = { port_read, port_write };

struct device *device_new(const struct device_class *class, const char *name,
	const struct device_env *env, struct err *err)
{
	struct device *d = calloc(1, class->size);

	must(class->size >= sizeof(*d), "class %s: size %zu", class->name, class->size);
	if (!d) {
		err_set(err, -ENOMEM, "%s: no memory", name);
		return NULL;
	}
	d->class = class;
	d->env = *env;
	snprintf(d->name, sizeof(d->name), "%s", name);
	for (unsigned i = 0; i < DEVICE_WINDOWS_MAX; i++)
		d->ports[i] = (struct device_port){ d, i, class->windows[i] };
	device_props_init(d);
	if (class->init && class->init(d, err) < 0) {
		err_wrap(err, "device %s", name);
		device_props_fini(d);
		free(d);
		return NULL;
	}
	if (class->reset)
		class->reset(d);
	return d;
}

static void detach(struct device *d, struct bus *bus, unsigned windows)
{
	for (unsigned i = 0; i < windows; i++)
		bus_remove(bus, d->ports[i].at.space, d->ports[i].at.base);
}

static unsigned window_count(const struct device *d)
{
	unsigned n = 0;

	while (n < DEVICE_WINDOWS_MAX && d->ports[n].at.len)
		n++;
	return n;
}

void device_free(struct device *d)
{
	if (!d)
		return;
	if (d->bus)
		detach(d, d->bus, window_count(d));
	if (d->class->fini)
		d->class->fini(d);
	device_props_fini(d);
	free(d);
}

void device_move(struct device *d, unsigned window, u64 base)
{
	must(window < window_count(d), "%s has no window %u", d->name, window);
	must(!d->bus, "%s is already attached", d->name);
	d->ports[window].at.base = base;
}

int device_attach(struct device *d, struct bus *bus, struct err *err)
{
	unsigned n = window_count(d);

	for (unsigned i = 0; i < n; i++) {
		struct device_port *p = &d->ports[i];
		int rc = bus_add(
			bus, p->at.space, p->at.base, p->at.len, &port_handler, p, d->name, err);

		if (rc < 0) {
			detach(d, bus, i);
			return rc;
		}
	}
	d->bus = bus;
	return 0;
}

/* A part without registers of its own has an empty state, which is still saved and checked. */
static const struct field *state_table(const struct device *d)
{
	static const struct field none[] = { FIELD_END };

	return d->class->state ? d->class->state : none;
}

int device_save(struct device *d, struct blob *out)
{
	if (d->class->saving)
		d->class->saving(d);
	return state_save(out, state_table(d), d);
}

int device_load(struct device *d, const u8 *data, size_t len, size_t *used, struct err *err)
{
	int rc = state_load(data, len, used, state_table(d), d, d->class->size, err);

	if (rc < 0) {
		err_wrap(err, "device %s", d->name);
		return rc;
	}
	if (d->class->loaded)
		d->class->loaded(d);
	return 0;
}
