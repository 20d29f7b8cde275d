/* See console.h. Closing interrupts the threads' system calls, so it never waits for a terminal. */
#include "machine/console.h"
#include "base/bits.h"
#include "os/thread.h"
#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define CHUNK	  4096u
#define CONGESTED (CONSOLE_QUEUE / 2)

static u32 queued(const struct console_queue *q) { return q->head - q->tail; }

static size_t queue_put(struct console_queue *q, const u8 *data, size_t len)
{
	size_t n = min_u64(len, CONSOLE_QUEUE - queued(q));

	for (size_t i = 0; i < n; i++)
		q->bytes[q->head++ % CONSOLE_QUEUE] = data[i];
	return n;
}

static size_t queue_peek(const struct console_queue *q, u8 *data, size_t len)
{
	size_t n = min_u64(len, queued(q));

	for (size_t i = 0; i < n; i++)
		data[i] = q->bytes[(q->tail + i) % CONSOLE_QUEUE];
	return n;
}

/* The lock held: something the threads or vcpus wait for may have changed. */
static void changed_locked(struct console *c)
{
	atomic_store(&c->congested, queued(&c->out) > CONGESTED && !c->dead && !c->released);
	pthread_cond_broadcast(&c->changed);
}

/* read() or write(), whichever way the descriptor blocks: whoever gave it to us may have made it
 * non-blocking. 0 when closing. */
static ssize_t transfer(struct console *c, bool out, u8 *buf, size_t len)
{
	struct pollfd p = { .fd = out ? c->output : c->input, .events = out ? POLLOUT : POLLIN };
	ssize_t n;

	do {
		if (atomic_load(&c->closing))
			return 0;
		n = out ? write(p.fd, buf, len) : read(p.fd, buf, len);
		if (n < 0 && errno == EAGAIN && poll(&p, 1, -1) >= 0)
			errno = EINTR;
	} while (n < 0 && errno == EINTR);
	return n;
}

/* false: closing. */
static bool input_put(struct console *c, const u8 *data, size_t len)
{
	bool open = true;

	while (len && open) {
		pthread_mutex_lock(&c->lock);
		while (queued(&c->in) == CONSOLE_QUEUE && !c->closing)
			pthread_cond_wait(&c->changed, &c->lock);
		size_t n = queue_put(&c->in, data, len);
		open = !c->closing;
		pthread_mutex_unlock(&c->lock);
		data += n;
		len -= n;
		c->arrived(c->ctx);
	}
	return open;
}

static void *read_loop(void *ctx)
{
	struct console *c = ctx;
	u8 buf[CHUNK];
	ssize_t n;

	while ((n = transfer(c, false, buf, sizeof(buf))) > 0) {
		u8 *end = c->escape >= 0 ? memchr(buf, c->escape, (size_t)n) : NULL;

		if (!input_put(c, buf, end ? (size_t)(end - buf) : (size_t)n))
			break;
		if (end) {
			c->escaped(c->ctx);
			break;
		}
	}
	return NULL;
}

/* Waits for output; 0: closing. */
static size_t output_take(struct console *c, u8 *buf)
{
	pthread_mutex_lock(&c->lock);
	while (!queued(&c->out) && !c->closing)
		pthread_cond_wait(&c->changed, &c->lock);
	size_t n = c->closing ? 0 : queue_peek(&c->out, buf, CHUNK);
	c->out.tail += (u32)n;
	c->writing = n;
	changed_locked(c);
	pthread_mutex_unlock(&c->lock);
	return n;
}

static void output_done(struct console *c, bool dead)
{
	pthread_mutex_lock(&c->lock);
	c->writing = false;
	if (dead) {
		c->dead = true;
		c->out.tail = c->out.head;
	}
	bool empty = !queued(&c->out);
	changed_locked(c);
	pthread_mutex_unlock(&c->lock);
	if (empty)
		c->drained(c->ctx);
}

static bool write_all(struct console *c, u8 *buf, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = transfer(c, true, buf + done, len - done);

		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static void *write_loop(void *ctx)
{
	struct console *c = ctx;
	bool alive = true;
	u8 buf[CHUNK];
	size_t n;

	while (alive && (n = output_take(c, buf))) {
		alive = write_all(c, buf, n);
		output_done(c, !alive);
	}
	return NULL;
}

int console_open(struct console *c, struct err *err)
{
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	c->dead = c->output < 0;
	if (c->input >= 0) {
		if (thread_start(&c->reader, "console-in", read_loop, c, err))
			return err->code;
		c->reader_runs = true;
	}
	if (c->output >= 0) {
		if (thread_start(&c->writer, "console-out", write_loop, c, err)) {
			console_close(c);
			return err->code;
		}
		c->writer_runs = true;
	}
	return 0;
}

static void stop_thread(pthread_t thread, bool *runs)
{
	if (!*runs)
		return;
	thread_stop(thread);
	*runs = false;
}

void console_close(struct console *c)
{
	pthread_mutex_lock(&c->lock);
	c->closing = true;
	changed_locked(c);
	pthread_mutex_unlock(&c->lock);
	stop_thread(c->reader, &c->reader_runs);
	stop_thread(c->writer, &c->writer_runs);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
}

size_t console_put(struct console *c, const u8 *data, size_t len)
{
	size_t n = len;

	pthread_mutex_lock(&c->lock);
	if (!c->dead) {
		n = queue_put(&c->out, data, len);
		changed_locked(c);
	}
	pthread_mutex_unlock(&c->lock);
	return n;
}

size_t console_peek(struct console *c, u8 *data, size_t len)
{
	pthread_mutex_lock(&c->lock);
	size_t n = queue_peek(&c->in, data, len);
	pthread_mutex_unlock(&c->lock);
	return n;
}

void console_take(struct console *c, size_t len)
{
	pthread_mutex_lock(&c->lock);
	c->in.tail += (u32)min_u64(len, queued(&c->in));
	changed_locked(c);
	pthread_mutex_unlock(&c->lock);
}

void console_wait(struct console *c)
{
	if (likely(!atomic_load_explicit(&c->congested, memory_order_relaxed)))
		return;
	pthread_mutex_lock(&c->lock);
	while (atomic_load(&c->congested))
		pthread_cond_wait(&c->changed, &c->lock);
	pthread_mutex_unlock(&c->lock);
}

void console_release(struct console *c, bool released)
{
	pthread_mutex_lock(&c->lock);
	c->released = released;
	changed_locked(c);
	pthread_mutex_unlock(&c->lock);
}

bool console_idle(struct console *c)
{
	pthread_mutex_lock(&c->lock);
	bool idle = c->dead || (!queued(&c->out) && !c->writing);
	pthread_mutex_unlock(&c->lock);
	return idle;
}
