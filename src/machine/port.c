/*
 * What a virtio console's ports lead to. Port 0, when it is the console: the same two queues that a
 * serial port has (console.h). The others: a Unix socket each, at which one may be connected at a
 * time; who comes next waits until that one has gone.
 *
 * Sockets are read and accepted on the main thread, in the loop; a vcpu that sends writes to them
 * itself. Nothing is queued here but what was read and the guest has not taken. Whoever finds no
 * room leaves a mark, and wakes the main thread, which asks the loop for what is wanted then.
 */
#include "base/bits.h"
#include "device/virtio/console.h"
#include "machine/machine_priv.h"
#include "os/fd.h"
#include "os/unix_listen.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 4

_Static_assert(MACHINE_PORTS_MAX + 1 == VIRTIO_CONSOLE_PORTS, "ports");

/* Port 0 is the console's, whether there is one or not. */
static struct machine_port *port_of(struct machine *m, unsigned port)
{
	return &m->ports[port - 1];
}

/* ---- what the device calls, with the lock held ---- */

static size_t to_socket(struct machine_port *p, const u8 *data, size_t len)
{
	ssize_t n = p->fd < 0 ? (ssize_t)len : send(p->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

	/* Nobody reads any more: the loop will find that out. */
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		return len;
	size_t taken = n < 0 ? 0 : (size_t)n;

	if (taken < len) {
		p->full = true;
		fd_event_set(p->machine->wake_fd);
	}
	return taken;
}

static size_t port_write(void *ctx, unsigned port, const u8 *data, size_t len)
{
	struct machine *m = ctx;

	return port ? to_socket(port_of(m, port), data, len) : console_put(&m->console, data, len);
}

static void port_give(struct machine_port *p)
{
	struct machine *m = p->machine;

	if (m->frozen)
		return;
	size_t taken = virtio_console_input(m->virtio_console, p->number, p->in, p->in_len);

	p->in_len -= (u32)taken;
	memmove(p->in, p->in + taken, p->in_len);
}

static void port_room(void *ctx, unsigned port)
{
	struct machine *m = ctx;

	if (!m->virtio_console)
		return;
	if (!port) {
		parts_input(m);
	} else {
		port_give(port_of(m, port));
		fd_event_set(m->wake_fd);
	}
}

const struct port_ops machine_port_backend = { port_write, port_room };

/* ---- the main thread's ---- */

static void want(struct machine_port *p)
{
	loop_want(p->machine->loop, &p->source, p->in_len < sizeof(p->in), p->full);
}

static void hang_up(struct machine_port *p)
{
	loop_remove(p->machine->loop, &p->source);
	close(p->fd);
	p->fd = -1;
	p->full = false;
	p->in_len = 0;
	virtio_console_connected(p->machine->virtio_console, p->number, false);
}

/* false: it has come to its end. */
static bool take_more(struct machine_port *p)
{
	size_t room = sizeof(p->in) - p->in_len;
	ssize_t n = room ? recv(p->fd, p->in + p->in_len, room, MSG_DONTWAIT) : 1;

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR);
	if (room)
		p->in_len += (u32)n;
	port_give(p);
	return true;
}

/* Of a connection that has hung up the loop tells again and again: not while the guest has no room
 * for the rest. */
static void park(struct machine_port *p, bool parked)
{
	struct err err = { 0 };

	p->parked = parked;
	if (parked)
		loop_remove(p->machine->loop, &p->source);
	else if (loop_add(p->machine->loop, &p->source, &err))
		p->parked = true;
}

static void on_connection(void *ctx)
{
	struct machine_port *p = ctx;

	pthread_mutex_lock(&p->machine->lock);
	if (!take_more(p)) {
		hang_up(p);
	} else if (p->source.hung_up && p->in_len == sizeof(p->in)) {
		park(p, true);
	} else {
		p->full = false;
		virtio_console_room(p->machine->virtio_console, p->number);
		want(p);
	}
	pthread_mutex_unlock(&p->machine->lock);
}

static void on_listener(void *ctx)
{
	struct machine_port *p = ctx;
	struct err err = { 0 };

	if (p->fd >= 0)
		return;
	int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	pthread_mutex_lock(&p->machine->lock);
	p->source = (struct loop_source){ .fd = fd, .ready = on_connection, .ctx = p };
	if (loop_add(p->machine->loop, &p->source, &err)) {
		close(fd);
	} else {
		p->fd = fd;
		virtio_console_connected(p->machine->virtio_console, p->number, true);
	}
	pthread_mutex_unlock(&p->machine->lock);
}

void machine_port_turn(struct machine *m)
{
	if (!m->port_count)
		return;
	pthread_mutex_lock(&m->lock);
	for (unsigned i = 0; i < m->port_count; i++) {
		struct machine_port *p = &m->ports[i];

		if (p->parked && p->in_len < sizeof(p->in))
			park(p, false);
		if (p->fd >= 0 && !p->parked)
			want(p);
		loop_want(m->loop, &p->waiting, p->fd < 0, false);
	}
	pthread_mutex_unlock(&m->lock);
}

void machine_port_thaw(struct machine *m)
{
	for (unsigned i = 0; i < m->port_count; i++)
		if (m->ports[i].fd >= 0)
			port_give(&m->ports[i]);
	fd_event_set(m->wake_fd);
}

void machine_port_drained(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	if (m->virtio_console)
		virtio_console_room(m->virtio_console, 0);
	pthread_mutex_unlock(&m->lock);
}

int machine_port_listen(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->port_count; i++) {
		struct machine_port *p = &m->ports[i];

		p->waiting =
			(struct loop_source){ .fd = p->listener, .ready = on_listener, .ctx = p };
		if (loop_add(m->loop, &p->waiting, err))
			return err->code;
		p->listens = true;
	}
	return 0;
}

void machine_port_unlisten(struct machine *m)
{
	for (unsigned i = 0; i < m->port_count; i++) {
		struct machine_port *p = &m->ports[i];

		if (p->fd >= 0 && !p->parked)
			loop_remove(m->loop, &p->source);
		if (p->listens)
			loop_remove(m->loop, &p->waiting);
		p->listens = false;
	}
}

/* ---- life ---- */

int machine_port_open(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->config.port_count; i++) {
		struct machine_port *p = &m->ports[i];

		*p = (struct machine_port){
			.machine = m, .number = i + 1, .fd = -1, .listener = -1
		};
		m->port_count++;
		p->listener = unix_listen(m->config.ports[i].path, 0, BACKLOG, err);
		if (p->listener < 0)
			return err_wrap(err, "port %.64s", m->config.ports[i].name);
	}
	return 0;
}

void machine_port_close(struct machine *m)
{
	for (unsigned i = 0; i < m->port_count; i++) {
		struct machine_port *p = &m->ports[i];

		if (p->fd >= 0)
			close(p->fd);
		if (p->listener >= 0)
			close(p->listener);
	}
	m->port_count = 0;
}

int machine_port_configure(struct machine *m, struct device *d, struct err *err)
{
	char prop[16];

	if (device_set(d, "console", m->config.virtio_console ? "on" : "off", err))
		return err->code;
	for (unsigned i = 0; i < m->config.port_count; i++) {
		snprintf(prop, sizeof(prop), "name%u", i + 1);
		if (device_set(d, prop, m->config.ports[i].name, err))
			return err->code;
	}
	m->virtio_console = d;
	return 0;
}
