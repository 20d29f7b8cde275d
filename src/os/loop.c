#include "os/loop.h"
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_PER_WAIT 16

int loop_open(struct loop *l, struct err *err)
{
	*l = (struct loop){ .epoll = epoll_create1(EPOLL_CLOEXEC) };
	if (l->epoll < 0)
		return err_set(err, -errno, "event loop: %s", strerror(errno));
	return 0;
}

void loop_close(struct loop *l)
{
	if (l->epoll >= 0)
		close(l->epoll);
	l->epoll = -1;
}

int loop_add(struct loop *l, struct loop_source *s, struct err *err)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = s };

	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, s->fd, &ev) < 0)
		return err_set(
			err, -errno, "event loop: descriptor %d: %s", s->fd, strerror(errno));
	s->next = l->sources;
	l->sources = s;
	return 0;
}

void loop_remove(struct loop *l, struct loop_source *s)
{
	for (struct loop_source **at = &l->sources; *at; at = &(*at)->next)
		if (*at == s) {
			*at = s->next;
			epoll_ctl(l->epoll, EPOLL_CTL_DEL, s->fd, NULL);
			return;
		}
}

void loop_want(struct loop *l, struct loop_source *s, bool readable, bool writable)
{
	struct epoll_event ev = { .events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u),
		.data.ptr = s };

	epoll_ctl(l->epoll, EPOLL_CTL_MOD, s->fd, &ev);
}

/* An earlier callback of the same batch may have removed it. */
static bool still_added(const struct loop *l, const struct loop_source *s)
{
	for (const struct loop_source *at = l->sources; at; at = at->next)
		if (at == s)
			return true;
	return false;
}

void loop_turn(struct loop *l, int ms)
{
	struct epoll_event events[EVENTS_PER_WAIT];
	int n = epoll_wait(l->epoll, events, EVENTS_PER_WAIT, ms);

	for (int i = 0; i < n && !l->stopping; i++) {
		struct loop_source *s = events[i].data.ptr;

		if (still_added(l, s)) {
			s->hung_up = events[i].events & (EPOLLHUP | EPOLLERR);
			s->ready(s->ctx);
		}
	}
}

void loop_run(struct loop *l)
{
	l->stopping = false;
	while (!l->stopping)
		loop_turn(l, -1);
}

void loop_stop(struct loop *l) { l->stopping = true; }
