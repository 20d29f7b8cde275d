/* See net.h: what a network consists of, for whoever may not open it. */
#include "net/net_priv.h"
#include <errno.h>
#include <unistd.h>

bool net_files_put(struct net_files *f, int take_fd)
{
	if (f->count == NET_FILES_MAX) {
		close(take_fd);
		return false;
	}
	f->fd[f->count++] = take_fd;
	return true;
}

int net_files_take(struct net_files *f)
{
	for (unsigned i = 0; i < f->count; i++)
		if (f->fd[i] >= 0) {
			int fd = f->fd[i];

			f->fd[i] = -1;
			return fd;
		}
	return -1;
}

void net_files_close(struct net_files *f)
{
	int fd;

	while ((fd = net_files_take(f)) >= 0)
		close(fd);
	f->count = 0;
}
