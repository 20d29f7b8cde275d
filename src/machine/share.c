/* The machine's shared folders: between each device and the process that has the files. Answers
 * come by the loop, as those of disks do. */
#include "base/log.h"
#include "device/virtio/fs.h"
#include "folder/folder.h"
#include "machine/machine_priv.h"
#include <errno.h>

_Static_assert(SHARED_SLOTS == FOLDER_SLOTS && SHARED_BUFFER == FOLDER_BUFFER &&
		       VIRTIO_FS_GONE == FOLDER_GONE && MACHINE_TAG_MAX == VIRTIO_FS_TAG_MAX,
	"slots");

/* What a device is handed; ctx is the struct machine_share. Also when the machine is taken apart.
 */
static u8 *buffer(void *ctx, unsigned slot)
{
	return folder_buffer(&((struct machine_share *)ctx)->share, slot);
}

static bool ask(void *ctx, unsigned slot, u32 len, u32 room)
{
	return folder_ask(&((struct machine_share *)ctx)->share, slot, len, room);
}

static void reset(void *ctx) { folder_reset(&((struct machine_share *)ctx)->share); }

const struct shared_ops machine_shared_backend = { buffer, ask, reset };

int machine_share_open(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->config.share_count; i++) {
		const struct machine_share_config *c = &m->config.shares[i];

		m->shares[i].machine = m;
		if (folder_open(&m->shares[i].share, c->folder, c->readonly, err))
			return err_wrap(err, "share %.36s", c->tag);
		m->share_count++;
	}
	return 0;
}

void machine_share_close(struct machine *m)
{
	while (m->share_count)
		folder_close(&m->shares[--m->share_count].share);
}

int machine_share_configure(struct machine *m, unsigned i, struct device *d, struct err *err)
{
	if (device_set(d, "tag", m->config.shares[i].tag, err))
		return err->code;
	m->shares[i].device = d;
	return 0;
}

static void take_answers(struct machine_share *s)
{
	unsigned slot;
	u32 len;

	while (folder_answer(&s->share, &slot, &len))
		virtio_fs_answered(s->device, slot, len);
}

static void stop_listening(struct machine_share *s)
{
	if (s->listens)
		loop_remove(s->machine->loop, &s->source);
	s->listens = false;
}

static void ready(void *ctx)
{
	struct machine_share *s = ctx;
	struct machine *m = s->machine;

	pthread_mutex_lock(&m->lock);
	take_answers(s);
	bool gone = s->share.fd < 0;
	pthread_mutex_unlock(&m->lock);
	if (gone && s->listens) {
		log_warn("share", "%s: its process has ended: the guest gets errors",
			m->config.shares[s - m->shares].tag);
		stop_listening(s);
	}
}

int machine_share_listen(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->share_count; i++) {
		struct machine_share *s = &m->shares[i];

		s->source = (struct loop_source){ .fd = s->share.fd, .ready = ready, .ctx = s };
		if (loop_add(m->loop, &s->source, err))
			return err->code;
		s->listens = true;
	}
	return 0;
}

void machine_share_unlisten(struct machine *m)
{
	for (unsigned i = 0; i < m->share_count; i++)
		stop_listening(&m->shares[i]);
}

void machine_share_drain(struct machine *m)
{
	for (unsigned i = 0; i < m->share_count; i++) {
		struct machine_share *s = &m->shares[i];

		for (take_answers(s); s->share.busy; take_answers(s))
			folder_wait(&s->share);
	}
}
