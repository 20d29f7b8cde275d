/*
 * Entropy device (virtio 1.2 5.4): fills the driver's buffers with what the host calls random.
 */
#include "device/virtio/rng.h"
#include "base/bits.h"
#include "device/virtio/virtio.h"

/* A buffer gets at most this much at once, so that a large one holds nobody up. */
#define FILL_MAX 4096u
#define PIECE	 256u

struct rng {
	struct virtio v;
};

static u32 fill(struct virtio *v, const struct virtq_chain *c)
{
	const struct device_env *env = &v->dev.env;
	size_t done = 0, n;
	u8 piece[PIECE];

	do {
		n = min_u64(min_u64(c->in_len, FILL_MAX) - done, PIECE);
		if (!n || !env->random || !env->random(env->machine, piece, n))
			break;
		done += virtq_write(c, env->memory, done, piece, n);
	} while (done < FILL_MAX);
	return (u32)done;
}

static void rng_notify(struct virtio *v, unsigned queue)
{
	struct virtq_chain c;

	while (virtio_pop(v, queue, &c))
		virtio_push(v, queue, c.id, c.slots, fill(v, &c));
	virtio_interrupt(v, queue);
}

static int rng_init(struct device *d, struct err *err)
{
	static const struct virtio_type type = {
		.id = 4, .class = 0xff0000, .queues = 1, .notify = rng_notify
	};

	return virtio_init(virtio_of(d), &type, err);
}

static const struct prop rng_props[] = { VIRTIO_PROPS(struct rng), PROP_END };

static const struct field rng_state[] = {
	FIELD_SUB(struct rng, v, struct virtio, virtio_fields),
	FIELD_END,
};

const struct device_class virtio_rng_class = {
	.name = "virtio-rng",
	.doc = "virtio entropy device",
	.size = sizeof(struct rng),
	.init = rng_init,
	.reset = virtio_power_on,
	.fini = virtio_fini,
	.loaded = virtio_loaded,
	.props = rng_props,
	.state = rng_state,
};
