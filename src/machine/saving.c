/*
 * Saving a machine that goes on if that fails. On the main thread guest code is held, devices are
 * drained and their state is taken; from then on they get nothing from outside (`frozen`), so that
 * memory stays what belongs to that state. A thread of its own, begun before the sandbox was
 * entered, packs memory and writes the file; the loop turns meanwhile, and whoever asked asks how
 * far it is.
 *
 *   idle --machine_save_to()--> under way --the thread--> done --machine_save_end()--> idle
 *
 * machine_save_end() while it is under way stops the thread first, at the next chunk. The file is
 * without a head then, which is to say no saved state.
 */
#include "base/bits.h"
#include "base/scope.h"
#include "machine/machine_priv.h"
#include "os/thread.h"
#include "saved/saved.h"
#include "x86/cpuid.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

_Static_assert(MEMORY_REGIONS_MAX <= SAVED_REGIONS_MAX, "regions");

struct saving {
	struct machine *machine;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	bool wanted, done, quit;
	int rc;
	/* The thread's, once it is wanted, and until it is done */
	struct saved_out *out;
	int fd;
	u64 total;
	_Atomic u64 written;
	_Atomic bool stop;
};

/* ---- the thread ---- */

/* The next byte that somebody has written, and how far that goes; false: there is none. */
static bool next_data(const struct memory_region *r, u64 from, u64 *begin, u64 *end)
{
	off_t data = from < r->size ? lseek(r->fd, (off_t)from, SEEK_DATA) : -1;
	off_t hole = data < 0 ? -1 : lseek(r->fd, data, SEEK_HOLE);

	*begin = (u64)data;
	*end = hole < 0 ? r->size : (u64)hole;
	return data >= 0;
}

static int save_region(struct saving *s, unsigned i)
{
	const struct memory_region *r = &s->machine->memory.regions[i];
	u64 begin, end, at = 0;

	while (next_data(r, at, &begin, &end)) {
		at = align_down(begin, SAVED_CHUNK);
		for (; at < end; at += SAVED_CHUNK) {
			u64 len = min_u64(SAVED_CHUNK, r->size - at);
			int rc = saved_put_chunk(s->out, i, at / SAVED_CHUNK, r->host + at, len);

			if (rc || atomic_load(&s->stop))
				return rc ? rc : -ECANCELED;
			atomic_fetch_add(&s->written, len);
		}
	}
	return 0;
}

static int save_all(struct saving *s)
{
	struct machine *m = s->machine;
	struct block_look looks[MACHINE_DISKS_MAX];
	int rc = 0;
	u64 id;

	for (unsigned i = 0; i < m->memory.region_count && !rc; i++)
		rc = save_region(s, i);
	for (unsigned i = 0; i < m->disk_count && !rc; i++) {
		rc = block_settle(m->disks[i].block);
		rc = rc ? rc : block_look(m->disks[i].block, &looks[i]);
	}
	rc = rc ? rc : saved_put(s->out, SAVING_DISKS, looks, m->disk_count * sizeof(looks[0]));
	if (!rc && getrandom(&id, sizeof(id), 0) != sizeof(id))
		rc = -EIO;
	return rc ? rc : saved_finish(s->out, id);
}

static void *run(void *ctx)
{
	struct saving *s = ctx;

	pthread_mutex_lock(&s->lock);
	while (!s->quit) {
		if (!s->wanted || s->done) {
			pthread_cond_wait(&s->changed, &s->lock);
			continue;
		}
		pthread_mutex_unlock(&s->lock);
		int rc = save_all(s);
		pthread_mutex_lock(&s->lock);
		s->rc = rc;
		s->done = true;
		pthread_cond_broadcast(&s->changed);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- the main thread ---- */

int saving_open(struct machine *m, struct err *err)
{
	struct saving *s = m->config.saves ? calloc(1, sizeof(*s)) : NULL;

	if (!m->config.saves)
		return 0;
	if (!s)
		return err_set(err, -ENOMEM, "no memory for a thread");
	*s = (struct saving){ .machine = m, .fd = -1 };
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	m->saving = s;
	if (thread_start(&s->thread, "save", run, s, err))
		return err->code;
	s->started = true;
	return 0;
}

static void forget(struct saving *s)
{
	saved_end(s->out);
	if (s->fd >= 0)
		close(s->fd);
	s->out = NULL;
	s->fd = -1;
	s->wanted = s->done = false;
}

void saving_close(struct machine *m)
{
	struct saving *s = m->saving;

	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->quit = true;
	atomic_store(&s->stop, true);
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (s->started)
		pthread_join(s->thread, NULL);
	forget(s);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	free(s);
	m->saving = NULL;
}

/* Its configuration would not make it again: a file with such a device could not be restored. */
static int check_attached(struct machine *m, struct err *err)
{
	struct machine_attached a;

	for (unsigned i = 0; i < MACHINE_HOT_MAX; i++)
		if (machine_attached(m, i, &a))
			return err_set(err, -EBUSY,
				"%s was attached while the machine ran; detach it first", a.name);
	return 0;
}

static int may_begin(struct machine *m, struct err *err)
{
	pthread_mutex_lock(&m->gate);
	bool ending = m->result.why != MACHINE_RUNS, busy = m->reset_asked || m->memory_asked;
	pthread_mutex_unlock(&m->gate);

	if (!m->saving)
		return err_set(err, -ENOSYS, "this machine cannot be saved");
	if (ending)
		return err_set(err, -ESHUTDOWN, "the machine is about to end");
	if (m->saving->wanted)
		return err_set(err, -EBUSY, "the machine is being saved already");
	if (busy || disk_stuck(m))
		return err_set(err, -EBUSY, "%s; once that is over, it can be saved",
			busy ? "the machine is being reset" : "a disk waits for room on the host");
	return check_attached(m, err);
}

/* Everything but memory. */
static int put_parts(struct machine *m, struct saved_out *out, const struct machine_note *parts,
	unsigned count, struct err *err)
{
	AUTO_FREE struct x86_model_saved *model = calloc(1, sizeof(*model));
	struct blob state = { 0 };
	int rc;

	if (!model)
		return err_set(err, -ENOMEM, "no memory for the processor's model");
	if (machine_save(m, &state, err))
		return err->code;
	x86_model_save(&m->model, model);
	rc = saved_put(out, SAVING_MODEL, model, sizeof(*model));
	rc = rc ? rc : saved_put(out, SAVING_STATE, state.data, state.len);
	for (unsigned i = 0; i < count && !rc; i++)
		rc = saved_put(out, parts[i].name, parts[i].data, parts[i].len);
	blob_free(&state);
	return rc ? err_set(err, rc, "writing the saved state: %s", strerror(-rc)) : 0;
}

static struct saved_out *begin(struct machine *m, int fd)
{
	struct saved_region regions[SAVED_REGIONS_MAX] = { 0 };

	for (unsigned i = 0; i < m->memory.region_count; i++) {
		const struct memory_region *r = &m->memory.regions[i];

		memcpy(regions[i].name, r->name, min_u64(strlen(r->name), SAVED_NAME_SIZE - 1));
		regions[i].size = r->size;
	}
	return saved_begin(fd, regions, m->memory.region_count);
}

static void freeze(struct machine *m, bool frozen)
{
	pthread_mutex_lock(&m->lock);
	m->frozen = frozen;
	if (!frozen) {
		parts_input(m);
		for (unsigned i = 0; i < ARRAY_LEN(m->nics); i++)
			if (m->nics[i].net)
				net_room(m->nics[i].net);
		if (m->vsock_net)
			net_room(m->vsock_net);
		machine_port_thaw(m);
	}
	pthread_mutex_unlock(&m->lock);
}

static void begin_writing(struct saving *s)
{
	s->total = machine_held(s->machine);
	atomic_store(&s->written, 0);
	atomic_store(&s->stop, false);
	pthread_mutex_lock(&s->lock);
	s->wanted = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

int machine_save_to(struct machine *m, int take_fd, const struct machine_note *parts,
	unsigned count, struct err *err)
{
	if (may_begin(m, err))
		return err->code;
	if (pause_for_saving(m))
		return err_set(err, -ETIMEDOUT, "a processor does not stop");
	freeze(m, true);
	m->saving->out = begin(m, take_fd);
	int rc = m->saving->out ? put_parts(m, m->saving->out, parts, count, err)
				: err_set(err, -ENOMEM, "no memory for a saved state");

	if (rc) {
		machine_save_end(m);
		return rc;
	}
	m->saving->fd = take_fd;
	begin_writing(m->saving);
	return 0;
}

struct machine_saving machine_save_look(const struct machine *m)
{
	struct saving *s = m->saving;
	struct machine_saving look = { 0 };

	if (!s)
		return look;
	pthread_mutex_lock(&s->lock);
	look = (struct machine_saving){ .under_way = s->wanted && !s->done,
		.done = s->done,
		.rc = s->rc,
		.written = min_u64(atomic_load(&s->written), s->total),
		.total = s->total };
	pthread_mutex_unlock(&s->lock);
	return look;
}

void machine_save_end(struct machine *m)
{
	struct saving *s = m->saving;

	if (!s || !m->frozen)
		return;
	pthread_mutex_lock(&s->lock);
	atomic_store(&s->stop, true);
	while (s->wanted && !s->done)
		pthread_cond_wait(&s->changed, &s->lock);
	forget(s);
	pthread_mutex_unlock(&s->lock);
	freeze(m, false);
	pause_saved(m);
}
