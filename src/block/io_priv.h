/* The two ways to do operations on files. */
#pragma once
#include "block/io.h"

struct io_way {
	const char *name;
	int (*open)(struct io *io, struct err *err);
	void (*close)(struct io *io);
	void (*queue)(struct io *io, struct io_op *op);
	void (*kick)(struct io *io);
	void (*reap)(struct io *io);
};

struct io {
	const struct io_way *way;
	void *data;
	int event;
	bool cached;	    /* operations go through the host's page cache */
	struct io *copiers; /* for long transfers, or NULL */
};

extern const struct io_way uring_way, pool_way;
