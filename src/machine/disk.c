/*
 * The machine's disks: images that are opened before anything runs, a device for each, and the
 * event loop that hears of requests that have ended.
 *
 * The machine's lock is what makes one caller at a time of a block's functions. A disk has nothing
 * under way while its device is reset or the machine is saved: both wait for it.
 */
#include "base/log.h"
#include "device/ahci/ahci.h"
#include "device/ide/ide.h"
#include "device/nvme/nvme.h"
#include "device/virtio/blk.h"
#include "machine/machine_priv.h"
#include "machine/requests.h"
#include <errno.h>
#include <stdio.h>

static struct block_info info(void *ctx) { return block_info(((struct machine_disk *)ctx)->block); }

static void submit(void *ctx, struct block_request *r)
{
	struct machine_disk *d = ctx;

	if (unlikely(d->machine->requests))
		requests_disk(d->machine->requests, (unsigned)(d - d->machine->disks), r);
	throttle_submit(&d->throttle, r);
}

static void kick(void *ctx) { block_kick(((struct machine_disk *)ctx)->block); }

static void drain(void *ctx)
{
	struct machine_disk *d = ctx;

	throttle_release(&d->throttle);
	block_drain(d->block);
}

const struct disk_ops disk_backend = { info, submit, kick, drain };

void disk_limit(struct machine_disk *d, const struct machine_disk_config *c)
{
	const struct throttle_limits limits = { c->iops, c->bandwidth };

	throttle_init(&d->throttle, d->block, &d->machine->clock, &limits);
}

/* Blocks without an image, for disks that come later. */
static int open_spares(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < MACHINE_HOT_DISKS; i++) {
		struct machine_disk *d = &m->disks[m->block_count];

		d->machine = m;
		if (block_open_empty(&d->block, err))
			return err->code;
		disk_limit(d, &(struct machine_disk_config){ 0 });
		m->block_count++;
	}
	return 0;
}

int disk_open(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->config.disk_count; i++) {
		const struct machine_disk_config *c = &m->config.disks[i];
		struct machine_disk *d = &m->disks[i];

		d->machine = m;
		struct block_options options = c->options;

		options.wait_for_room = true;
		if (block_open(&d->block, c->path, &options, err))
			return err_wrap(err, "disk %u", i);
		disk_limit(d, c);
		m->disk_count = ++m->block_count;
	}
	return m->config.hotplug ? open_spares(m, err) : 0;
}

void disk_close(struct machine *m)
{
	while (m->block_count) {
		struct err err = { 0 };

		if (block_close(m->disks[--m->block_count].block, &err))
			log_err("disk", "%s", err.text);
	}
	m->disk_count = 0;
}

const struct device_class *disk_class(const struct machine_disk_config *c)
{
	switch ((enum machine_bus)c->bus) {
	case MACHINE_VIRTIO:
		return c->transport == MACHINE_TRANSPORT_MMIO ? &virtio_blk_mmio_class
							      : &virtio_blk_class;
	case MACHINE_NVME: return &nvme_class;
	case MACHINE_AHCI: return &ahci_class;
	case MACHINE_IDE: return &ide_class;
	}
	return NULL;
}

const u8 machine_mmio_irqs[MACHINE_MMIO_MAX] = { 10, 11 };

unsigned disk_mmio(const struct machine *m, unsigned i)
{
	unsigned before = 0;

	for (unsigned n = 0; n < i; n++)
		before += m->config.disks[n].transport == MACHINE_TRANSPORT_MMIO;
	return before;
}

/* What a device may be told of its disk by name. */
int disk_configure(const struct machine *m, const struct machine_disk_config *c, struct device *d,
	struct err *err)
{
	unsigned queues = c->queues ? c->queues : m->config.cpus;
	char text[16];

	/* OVMF's driver makes two, whatever it is told there are, and else has no disk. */
	if (c->bus == MACHINE_NVME && !c->queues && queues < 2)
		queues = 2;

	snprintf(text, sizeof(text), "%u", queues);
	if (device_set(d, "queues", text, err))
		return err->code;
	if (c->bus == MACHINE_VIRTIO && device_set(d, "packed", c->packed ? "on" : "off", err))
		return err->code;
	return c->serial ? device_set(d, "serial", c->serial, err) : 0;
}

unsigned disk_ahci(struct machine *m, void *at[MACHINE_AHCI_MAX])
{
	unsigned count = 0;

	for (unsigned i = 0; i < m->disk_count && count < MACHINE_AHCI_MAX; i++)
		if (m->config.disks[i].bus == MACHINE_AHCI)
			at[count++] = &m->disks[i];
	return count;
}

/* Port by port, in the order of the command line. */
int disk_configure_ahci(struct machine *m, struct device *d, struct err *err)
{
	unsigned port = 0;

	for (unsigned i = 0; i < m->disk_count; i++) {
		const struct machine_disk_config *c = &m->config.disks[i];
		char name[16], prop[16];

		if (c->bus != MACHINE_AHCI)
			continue;
		snprintf(name, sizeof(name), "disk%u", i);
		snprintf(prop, sizeof(prop), "serial%u", port++);
		if (device_set(d, prop, c->serial ? c->serial : name, err))
			return err->code;
	}
	return 0;
}

_Static_assert(MACHINE_IDE_MAX == IDE_DRIVES, "drives");

/* Disks take the first drives in the order of the command line. CD-ROM drives do, too, but begin
 * on the secondary channel, where there is room. */
unsigned disk_ide(const struct machine *m, unsigned at[MACHINE_IDE_MAX])
{
	static const u8 order[2][MACHINE_IDE_MAX] = { { 0, 1, 2, 3 }, { 2, 3, 1, 0 } };
	unsigned count = 0;

	for (unsigned n = 0; n < MACHINE_IDE_MAX; n++)
		at[n] = MACHINE_DISKS_MAX;
	for (unsigned i = 0; i < 2 * m->disk_count; i++) {
		unsigned disk = i % m->disk_count, cd = i / m->disk_count, n = 0;
		const struct machine_disk_config *c = &m->config.disks[disk];

		if (c->bus != MACHINE_IDE || c->cdrom != cd)
			continue;
		while (n < MACHINE_IDE_MAX && at[order[cd][n]] != MACHINE_DISKS_MAX)
			n++;
		if (n == MACHINE_IDE_MAX)
			continue;
		at[order[cd][n]] = disk;
		count++;
	}
	return count;
}

int disk_configure_ide(
	struct machine *m, const unsigned at[MACHINE_IDE_MAX], struct device *d, struct err *err)
{
	for (unsigned n = 0; n < MACHINE_IDE_MAX; n++) {
		const struct machine_disk_config *c = &m->config.disks[at[n]];
		char name[16], prop[16];

		if (at[n] == MACHINE_DISKS_MAX)
			continue;
		snprintf(name, sizeof(name), "disk%u", at[n]);
		snprintf(prop, sizeof(prop), "serial%u", n);
		if (device_set(d, prop, c->serial ? c->serial : name, err))
			return err->code;
		snprintf(prop, sizeof(prop), "cd%u", n);
		if (device_set(d, prop, c->cdrom ? "on" : "off", err))
			return err->code;
	}
	return 0;
}

static void ready(void *ctx)
{
	struct machine_disk *d = ctx;

	pthread_mutex_lock(&d->machine->lock);
	block_reap(d->block);
	pthread_mutex_unlock(&d->machine->lock);
	pause_look(d->machine);
}

const char *disk_stuck(const struct machine *m)
{
	for (unsigned i = 0; i < m->block_count; i++)
		if (block_stuck(m->disks[i].block))
			return block_info(m->disks[i].block).path;
	return NULL;
}

void disk_retry(struct machine *m)
{
	for (unsigned i = 0; i < m->block_count; i++)
		block_retry(m->disks[i].block);
}

int disk_listen(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->block_count; i++) {
		struct machine_disk *d = &m->disks[i];

		d->source = (struct loop_source){
			.fd = block_event(d->block), .ready = ready, .ctx = d
		};
		if (loop_add(m->loop, &d->source, err))
			return err->code;
		d->listens = true;
	}
	return 0;
}

void disk_unlisten(struct machine *m)
{
	for (unsigned i = 0; i < m->block_count; i++) {
		if (m->disks[i].listens)
			loop_remove(m->loop, &m->disks[i].source);
		m->disks[i].listens = false;
	}
}

void disk_drain(struct machine *m)
{
	for (unsigned i = 0; i < m->block_count; i++)
		drain(&m->disks[i]);
}
