/*
 * A machine from a saved state (saved/saved.h): the processor model before anything is made of it,
 * memory and the rest once all is made as for a power-on, but for the kernel.
 *
 * Engine and disks' contents are no part of it: another engine may go on, and whoever restores sees
 * to it that the disks are what they were (machine_saved_fits()).
 */
#include "base/scope.h"
#include "machine/machine_priv.h"
#include "os/tsc.h"
#include "saved/saved.h"
#include "x86/cpuid.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

/* A part that is a struct of which only as much need be there as it says itself. */
static int read_model(const struct saved *s, struct x86_model_saved *model, struct err *err)
{
	size_t len;
	AUTO_FREE u8 *data = saved_part(s, SAVING_MODEL, &len, err);

	if (!data)
		return err->code;
	if (len != sizeof(*model))
		return err_set(err, -EINVAL, "the saved processor has another form");
	memcpy(model, data, sizeof(*model));
	return 0;
}

int restoring_model(struct machine *m, struct err *err)
{
	struct x86_model_saved saved;
	struct x86_model host;

	x86_model_build(&host, x86_native_cpuid, tsc_hz(), &m->config.topology);
	if (read_model(m->config.saved, &saved, err) ||
		x86_model_load(&m->model, &saved, &m->config.topology, err) ||
		x86_model_fits(&m->model, &host, err))
		return err_wrap(err, "restoring");
	return 0;
}

/* ---- memory ---- */

static int same_regions(const struct machine *m, struct err *err)
{
	const struct saved_region *r;
	unsigned count = saved_regions(m->config.saved, &r);
	bool same = count == m->memory.region_count;

	for (unsigned i = 0; i < count && same; i++)
		same = !strcmp(r[i].name, m->memory.regions[i].name) &&
		       r[i].size == m->memory.regions[i].size;
	return same ? 0
		    : err_set(err, -EINVAL,
			      "its memory has another form than this configuration makes");
}

/* ROM is filled already, with what may be a newer version of it. */
static int load_memory(struct machine *m, struct err *err)
{
	int fds[MEMORY_REGIONS_MAX];

	for (unsigned i = 0; i < m->memory.region_count; i++) {
		struct memory_region *r = &m->memory.regions[i];

		fds[i] = r->fd;
		if (r->rom)
			memset(r->host, 0, r->size);
		for (u64 page = 0; page < r->size >> PAGE_SHIFT; page++)
			atomic_store_explicit(&r->flags[page], MEM_DIRTY, memory_order_relaxed);
	}
	return saved_load(m->config.saved, fds, 0, err);
}

int restoring_load(struct machine *m, struct err *err)
{
	size_t len;
	AUTO_FREE u8 *state = saved_part(m->config.saved, SAVING_STATE, &len, err);

	pause_loaded(m);
	if (!state || same_regions(m, err) || load_memory(m, err) ||
		machine_load(m, state, len, err))
		return err_wrap(err, "restoring");
	generation_renewed(m);
	return 0;
}

/* ---- for whoever is about to restore one ---- */

int machine_saved_fits(
	const struct saved *s, const char *const *disks, unsigned disk_count, struct err *err)
{
	size_t len;
	AUTO_FREE u8 *data = saved_part(s, SAVING_DISKS, &len, err);
	struct block_look then, now;

	if (!data)
		return err->code;
	if (len != disk_count * sizeof(then))
		return err_set(err, -EINVAL, "it was saved with %zu disks, and there are %u",
			len / sizeof(then), disk_count);
	for (unsigned i = 0; i < disk_count; i++) {
		int rc = disks[i] ? block_look_at(disks[i], &now) : 0;

		memcpy(&then, data + i * sizeof(then), sizeof(then));
		if (rc)
			return err_set(err, rc, "disk %s: %s", disks[i], strerror(-rc));
		if (disks[i] && (now.size != then.size || now.mtime != then.mtime))
			return err_set(err, -ESTALE,
				"disk %s has changed since the machine was saved", disks[i]);
	}
	return 0;
}
