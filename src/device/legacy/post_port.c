/*
 * Port 0x80, where firmware writes its power-on progress codes and everybody else writes to wait
 * about a microsecond, and port 0xed, which kernels use for the same where 0x80 is taken. The last
 * code can be read back. The access itself is the delay: nothing waits.
 */
#include "base/log.h"
#include "device/legacy/legacy.h"

enum { WINDOW_CODE, WINDOW_DELAY };

struct post_port {
	struct device dev;
	u8 code;
};

static struct post_port *post_of(struct device *d)
{
	return container_of(d, struct post_port, dev);
}

static u64 post_read(struct device *d, unsigned window, u64 offset, unsigned size)
{
	return window == WINDOW_CODE ? post_of(d)->code : 0xff;
}

static void post_write(struct device *d, unsigned window, u64 offset, unsigned size, u64 value)
{
	if (window != WINDOW_CODE)
		return;
	post_of(d)->code = (u8)value;
	log_dbg(d->name, "code 0x%02x", (unsigned)value);
}

static void post_reset(struct device *d) { post_of(d)->code = 0; }

static const struct field post_state[] = {
	FIELD(struct post_port, code),
	FIELD_END,
};

const struct device_class post_port_class = {
	.name = "post_port",
	.doc = "power-on code port and I/O delay",
	.size = sizeof(struct post_port),
	.width = 1,
	.reset = post_reset,
	.read = post_read,
	.write = post_write,
	.windows = { { BUS_PORT, 0x80, 1 }, { BUS_PORT, 0xed, 1 } },
	.state = post_state,
};
