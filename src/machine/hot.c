/*
 * Devices that come and go while the guest runs, each in one of the last slots of the PCI bus.
 *
 * Attaching is the main thread's: a backend that was made at the beginning gets what it is to have
 * (an image's descriptors, a network's), the device is made in its slot with the lock held, and the
 * guest is told (device/pci/hotplug.h).
 *
 * A device goes in three steps, of which only the first is ours to begin:
 *
 *   machine_detach()  asks the guest                         leaving
 *   hot_eject()       the guest, in a vcpu's thread: the     gone
 *                     device is freed when it returns, so
 *                     that its slot is empty at once
 *   hot_turn()        the main thread closes the backend,    free again
 *                     which may take a while, and tells
 *
 * A guest may eject what nobody has asked for. A reset takes the second step for what was asked to
 * go: whoever starts again is not using it.
 */
#include "base/log.h"
#include "base/scope.h"
#include "device/pci/hotplug.h"
#include "machine/machine_priv.h"
#include "os/fd.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(MACHINE_HOT_MAX == PCI_HOTPLUG_COUNT, "a place for each slot");

static unsigned slot_of(const struct machine *m, const struct machine_hot *h)
{
	return PCI_HOTPLUG_FIRST + (unsigned)(h - m->hot);
}

/* It stays free: only the main thread fills places. */
static struct machine_hot *free_place(struct machine *m, struct err *err)
{
	AUTO_LOCK(&m->lock);

	if (!m->config.hotplug) {
		err_set(err, -ENOSYS, "this machine was started without room for more devices");
		return NULL;
	}
	for (struct machine_hot *h = m->hot; h < m->hot + MACHINE_HOT_MAX; h++)
		if (!h->device && !h->gone)
			return h;
	err_set(err, -ENOSPC, "%d devices are attached already: detach one first", MACHINE_HOT_MAX);
	return NULL;
}

static struct device *make(struct machine *m, struct machine_hot *h,
	const struct device_class *class, const char *name, struct device_env env, struct err *err)
{
	env.slot = slot_of(m, h);
	return device_new(class, name, &env, err);
}

/* The lock held: the guest is told. */
static void fill(
	struct machine *m, struct machine_hot *h, struct machine_hot with, const char *about)
{
	*h = with;
	h->about = strdup(about);
	pci_hotplug_came(m->hotplug, slot_of(m, h));
}

/* ---- disks ---- */

static struct machine_disk *free_disk(struct machine *m, struct err *err)
{
	for (unsigned i = m->disk_count; i < m->block_count; i++)
		if (block_is_empty(m->disks[i].block))
			return &m->disks[i];
	err_set(err, -ENOSPC, "%d disks are attached already: detach one first", MACHINE_HOT_DISKS);
	return NULL;
}

static int check_disk(const struct machine_disk_config *c, struct err *err)
{
	if (c->bus != MACHINE_VIRTIO && c->bus != MACHINE_NVME)
		return err_set(err, -EINVAL,
			"only disks with bus=virtio or bus=nvme can be attached to a machine that "
			"runs");
	if (c->transport != MACHINE_TRANSPORT_PCI)
		return err_set(err, -EINVAL,
			"transport=mmio cannot be attached to a machine that runs; leave it out");
	return 0;
}

static int plug_disk(struct machine *m, struct machine_hot *h, struct machine_disk *disk,
	const struct machine_disk_config *c, const char *name, const char *about, struct err *err)
{
	struct device_env env = parts_env(m);

	env.disk = &disk_backend;
	env.disk_ctx = disk;
	AUTO_LOCK(&m->lock);
	struct device *d = make(m, h, disk_class(c), name, env, err);

	if (!d)
		return err->code;
	if (disk_configure(m, c, d, err)) {
		device_free(d);
		return err->code;
	}
	fill(m, h, (struct machine_hot){ .device = d, .disk = disk }, about);
	return 0;
}

static void close_disk(struct machine_disk *disk)
{
	struct err err = { 0 };

	if (block_remove(disk->block, &err))
		log_err("disk", "%s", err.text);
}

int machine_attach_disk(struct machine *m, const struct machine_disk_config *config,
	struct block_files *files, const char *about, char name[MACHINE_NAME_MAX], struct err *err)
{
	struct block_options options = config->options;
	struct machine_hot *h = free_place(m, err);
	struct machine_disk *disk = h ? free_disk(m, err) : NULL;

	if (!disk || check_disk(config, err))
		return err->code;
	options.files = files;
	options.wait_for_room = true;
	if (block_insert(disk->block, config->path, &options, err))
		return err->code;
	disk_limit(disk, config);
	snprintf(name, MACHINE_NAME_MAX, "disk%u", (unsigned)(disk - m->disks));
	int rc = plug_disk(m, h, disk, config, name, about, err);

	if (rc)
		close_disk(disk);
	return rc;
}

/* ---- networks ---- */

static int check_net(const struct machine_net_config *c, struct err *err)
{
	const char *what = c->forward_count ? "forward=" : c->capture ? "capture=" : NULL;

	return what ? err_set(err, -EINVAL,
			      "%s is for networks that a machine is started with; leave it out",
			      what)
		    : 0;
}

static int plug_net(struct machine *m, struct machine_hot *h, struct machine_nic *nic,
	const struct machine_net_config *c, const char *name, const char *about, struct err *err)
{
	struct device_env env = parts_env(m);

	env.net = machine_net_backend(c->kind);
	env.net_ctx = nic;
	AUTO_LOCK(&m->lock);
	struct device *d = make(m, h, machine_net_class(c->model), name, env, err);

	if (d && !machine_net_configure(nic, c, d, err)) {
		fill(m, h, (struct machine_hot){ .device = d, .nic = nic }, about);
		return 0;
	}
	nic->device = NULL;
	device_free(d);
	machine_net_unplug(nic);
	return err->code;
}

int machine_attach_net(struct machine *m, const struct machine_net_config *config,
	struct net_files *files, const char *about, char name[MACHINE_NAME_MAX], struct err *err)
{
	struct machine_hot *h = check_net(config, err) ? NULL : free_place(m, err);
	struct machine_nic *nic = h ? machine_net_plug(m, config, files, err) : NULL;

	if (!nic)
		return err->code;
	snprintf(name, MACHINE_NAME_MAX, "net%u", (unsigned)(nic - m->nics) + !m->config.net);
	return plug_net(m, h, nic, config, name, about, err);
}

/* ---- going ---- */

static struct machine_hot *find(struct machine *m, const char *name, struct err *err)
{
	for (struct machine_hot *h = m->hot; h < m->hot + MACHINE_HOT_MAX; h++)
		if (h->device && !strcmp(h->device->name, name))
			return h;
	for (unsigned i = 0; i < m->part_count; i++)
		if (!strcmp(m->parts[i].device->name, name)) {
			err_set(err, -ENODEV,
				"%s was there when the machine was started: only what was attached "
				"since can be detached",
				name);
			return NULL;
		}
	err_set(err, -ENODEV, "no device %.40s is attached; `strata show` lists those that are",
		name);
	return NULL;
}

int machine_detach(struct machine *m, const char *name, struct err *err)
{
	AUTO_LOCK(&m->lock);
	struct machine_hot *h = find(m, name, err);

	if (!h)
		return err->code;
	h->leaving = true;
	pci_hotplug_leave(m->hotplug, slot_of(m, h));
	return 0;
}

/* The lock held. Nothing is under way afterwards. */
static void unplug(struct machine *m, struct machine_hot *h)
{
	if (h->disk)
		disk_backend.drain(h->disk);
	else
		h->nic->device = NULL; /* what comes for it from now on is lost */
	snprintf(h->name, sizeof(h->name), "%s", h->device->name);
	device_free(h->device);
	h->device = NULL;
	h->gone = true;
	pci_hotplug_gone(m->hotplug, slot_of(m, h));
	fd_event_set(m->wake_fd);
}

void hot_eject(void *machine, unsigned slot)
{
	struct machine *m = machine;
	struct machine_hot *h = &m->hot[slot - PCI_HOTPLUG_FIRST];

	if (h->device)
		unplug(m, h);
	else
		guest_err("hotplug", "slot %u is empty", slot);
}

void hot_reset(struct machine *m)
{
	for (struct machine_hot *h = m->hot; h < m->hot + MACHINE_HOT_MAX; h++) {
		if (!h->device)
			continue;
		if (h->leaving)
			unplug(m, h);
		else
			h->device->class->reset(h->device);
	}
}

void hot_turn(struct machine *m)
{
	for (struct machine_hot *h = m->hot; h < m->hot + MACHINE_HOT_MAX; h++) {
		pthread_mutex_lock(&m->lock);
		struct machine_hot was = *h;

		if (was.gone)
			*h = (struct machine_hot){ 0 };
		if (was.gone && was.nic)
			machine_net_unplug(was.nic);
		pthread_mutex_unlock(&m->lock);
		if (!was.gone)
			continue;
		if (was.disk)
			close_disk(was.disk);
		free(was.about);
		pause_tell(m, MACHINE_EVENT_DETACHED, was.name);
	}
}

/* Images are closed with the others. */
void hot_free(struct machine *m)
{
	for (struct machine_hot *h = m->hot; h < m->hot + MACHINE_HOT_MAX; h++) {
		device_free(h->device);
		free(h->about);
	}
}

bool machine_attached(struct machine *m, unsigned i, struct machine_attached *a)
{
	AUTO_LOCK(&m->lock);
	const struct machine_hot *h = &m->hot[i];

	if (h->device)
		*a = (struct machine_attached){ h->device->name, h->about ? h->about : "",
			h->leaving };
	return h->device;
}
