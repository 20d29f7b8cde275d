/*
 * Doorbells: places in BARs where a write says no more than that it was made (pci_add_doorbells()).
 * An engine that can posts such a write to an event descriptor and lets guest code go on; the
 * thread of the event loop makes it then. So a request costs the guest no exit.
 *
 * The descriptors are made before the sandbox is entered. They are given to doorbells as these come
 * to places on the bus; those that find none left are rung by an exit, as in every other engine. A
 * pause rings what was posted before it (doorbells_ring()), so that nothing is under way in a
 * descriptor when the machine is saved.
 *
 * `at` is guarded by the machine's lock; the rest does not change while the machine runs.
 */
#include "machine/machine_priv.h"
#include "os/fd.h"
#include <stdlib.h>
#include <unistd.h>

#define BELLS_MAX 64u

struct bell {
	struct machine *machine;
	struct loop_source source;
	u64 at;	    /* 0: free */
	bool stays; /* moved()'s own */
};

struct doorbells {
	struct bell bell[BELLS_MAX];
	unsigned count; /* that have a descriptor */
};

static void ring_locked(struct bell *b)
{
	if (!fd_event_clear(b->source.fd) || !b->at)
		return;
	bus_write(&b->machine->bus, BUS_MMIO, b->at, 2, 0);
	b->machine->counts.mmios++;
}

static void ready(void *ctx)
{
	struct bell *b = ctx;

	pthread_mutex_lock(&b->machine->lock);
	ring_locked(b);
	pthread_mutex_unlock(&b->machine->lock);
}

void doorbells_ring(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; m->doorbells && i < m->doorbells->count; i++)
		ring_locked(&m->doorbells->bell[i]);
	pthread_mutex_unlock(&m->lock);
}

/* ---- where they are ---- */

static bool place(struct bell *b, u64 at, bool here)
{
	struct machine *m = b->machine;

	return !m->config.engine->doorbell(&m->cpus[0].v, at, b->source.fd, here, NULL);
}

static struct bell *find(struct doorbells *d, u64 at)
{
	for (unsigned i = 0; i < d->count; i++)
		if (d->bell[i].at == at)
			return &d->bell[i];
	return NULL;
}

static void keep(void *ctx, u64 at)
{
	struct bell *b = find(ctx, at);

	if (b)
		b->stays = true;
}

static void add(void *ctx, u64 at)
{
	struct bell *b = find(ctx, at) ? NULL : find(ctx, 0);

	if (b && place(b, at, true))
		b->at = at;
}

/* A driver moves no BAR that it is using, so what was posted to a place that goes is for nobody. */
static void moved(void *ctx)
{
	struct machine *m = ctx;
	struct doorbells *d = m->doorbells;

	for (unsigned i = 0; i < d->count; i++)
		d->bell[i].stays = false;
	pci_each_doorbell(&m->pci, keep, d);
	for (unsigned i = 0; i < d->count; i++) {
		struct bell *b = &d->bell[i];

		if (!b->at || b->stays)
			continue;
		place(b, b->at, false);
		b->at = 0;
		fd_event_clear(b->source.fd);
	}
	pci_each_doorbell(&m->pci, add, d);
}

/* ---- life ---- */

/* Who traces wants to see each write at its time. */
int doorbells_make(struct machine *m, struct err *err)
{
	if (!m->config.engine->doorbell || m->requests || m->config.trace.exits)
		return 0;
	m->doorbells = calloc(1, sizeof(*m->doorbells));
	if (!m->doorbells)
		return err_set(err, -ENOMEM, "no memory for doorbells");
	for (unsigned i = 0; i < BELLS_MAX; i++) {
		struct bell *b = &m->doorbells->bell[i];
		int fd = fd_event(err);

		if (fd < 0)
			return fd;
		*b = (struct bell){ .machine = m,
			.source = { .fd = fd, .ready = ready, .ctx = b } };
		m->doorbells->count++;
	}
	m->pci.moved = moved;
	m->pci.moved_ctx = m;
	return 0;
}

void doorbells_free(struct machine *m)
{
	m->pci.moved = NULL;
	for (unsigned i = 0; m->doorbells && i < m->doorbells->count; i++)
		close(m->doorbells->bell[i].source.fd);
	free(m->doorbells);
	m->doorbells = NULL;
}

int doorbells_listen(struct machine *m, struct err *err)
{
	for (unsigned i = 0; m->doorbells && i < m->doorbells->count; i++)
		if (loop_add(m->loop, &m->doorbells->bell[i].source, err))
			return err->code;
	return 0;
}

void doorbells_unlisten(struct machine *m)
{
	for (unsigned i = 0; m->doorbells && i < m->doorbells->count; i++)
		loop_remove(m->loop, &m->doorbells->bell[i].source);
}
