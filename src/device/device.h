/*
 * What a device is. One file exposes one `const struct device_class`; everything else in it is
 * static. Devices know no engines, make no system calls and own no host resource: memory,
 * interrupt lines, the clock and a backend are handed in through struct device_env, so that the
 * same device runs in the monitor, a unit test, a fuzzer or another process.
 *
 * All device files have the same section order: the part and the document it follows, registers,
 * state, helpers, reads, writes, reset, init, tables.
 *
 * Threads: every function of a device is called with the machine's lock held.
 */
#pragma once
#include "base/err.h"
#include "block/block.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/irq.h"
#include "bus/pci.h"
#include "memory/memory.h"
#include "state/field.h"

#define DEVICE_WINDOWS_MAX 4
#define DEVICE_LINES_MAX   32
#define DEVICE_DISKS_MAX   6

/* The host's ends of a device's numbered ports, streams of bytes (virtio/console.h). */
struct port_ops {
	/* Takes up to len bytes; returns how many. Never blocks. */
	size_t (*write)(void *ctx, unsigned port, const u8 *data, size_t len);
	/* The device, which last took less than it was given, has room again; may be given more at
	 * once. */
	void (*room)(void *ctx, unsigned port);
};

/*
 * A shared folder as a device sees it: somebody answers FUSE requests, in any order. There are
 * SHARED_SLOTS buffers of SHARED_BUFFER bytes, in each of which a request stands until its answer
 * does, at the same place. ask() never calls the device; what comes of it is told to it later
 * (virtio/fs.h). false: nobody is there.
 */
#define SHARED_SLOTS  16u
#define SHARED_BUFFER (1024u * KiB + 4096u)

struct shared_ops {
	u8 *(*buffer)(void *ctx, unsigned slot);
	bool (*ask)(void *ctx, unsigned slot, u32 len, u32 room);
	void (*reset)(void *ctx); /* what was named or opened is to be forgotten */
};

/* Memory of a device that guests reach as they do RAM: the machine makes it, and shows it at
 * guest-physical addresses when it can. What it does not show is the device's to serve. */
struct device_memory {
	u8 *host;
	u64 size;
	void (*show)(void *machine, u64 base); /* 0: nowhere */
};

/* Contents of a flash memory, and who is told what has changed of them; store may be NULL. */
struct device_flash {
	u8 *host;
	u64 size;
	void (*store)(void *machine, u64 offset, u64 len);
	void (*show)(void *machine, bool shown); /* as ROM, as soon as the machine can; NULL */
};

/* What the machine does on a device's behalf. NULL members are allowed in tests. */
struct device_env {
	struct memory *memory;
	struct guest_clock *clock;
	struct msi_sink msi;
	struct pci_bus *pci;			 /* devices with a slot of their own */
	unsigned slot;				 /* which one; PCI_ANY_SLOT */
	struct irq_line lines[DEVICE_LINES_MAX]; /* outputs; each class documents which is which */
	void *machine;
	void (*power_off)(void *machine);
	void (*reset)(void *machine);
	void (*exit_code)(void *machine, u32 value); /* debug-exit: the byte the guest wrote */
	void (*eject)(void *machine, unsigned slot); /* the guest is done with a slot's function */
	const struct console_ops *console;	     /* serial ports */
	void *console_ctx;
	const struct disk_ops *disk; /* what a disk device's contents are */
	void *disk_ctx;
	void *disk_more[DEVICE_DISKS_MAX - 1]; /* ctx of a controller's other disks; NULL: none */
	const struct net_ops *net;	       /* what a network device is plugged into */
	void *net_ctx;
	const struct port_ops *port; /* what a console's ports lead to */
	void *port_ctx;
	const struct shared_ops *shared; /* what a shared folder's device passes on to */
	void *shared_ctx;
	/* len random bytes; false: there are none now */
	bool (*random)(void *machine, void *buf, size_t len);
	struct device_memory video; /* of a VGA */
	struct device_flash flash;
	u64 (*wall_clock)(void *machine); /* seconds since 1970, UTC, at guest time 0 */
};

/* A byte-stream backend as a serial port sees it. The backend calls device_class.input. */
struct console_ops {
	/* Takes up to len bytes; returns how many were taken. Never blocks. */
	size_t (*write)(void *ctx, const u8 *data, size_t len);
	/* The device, whose input() last took less than it was given, has room again. May be NULL;
	 * may call input() at once. */
	void (*room)(void *ctx);
};

/* A disk image as a device sees it; block/block.h says what requests are. done() is never called
 * from within submit() or kick(), but may be from within drain(). */
struct disk_ops {
	struct block_info (*info)(void *ctx);
	void (*submit)(void *ctx, struct block_request *r);
	void (*kick)(void *ctx);
	void (*drain)(void *ctx); /* returns when nothing is under way */
};

/*
 * A network as a device sees it. Frames for the device come by device_class.input, which takes all
 * of one or nothing.
 *
 * A backend with heads can leave work to the device's driver, and take such work from it: before
 * each frame stands a head as virtio has it (1.2 5.1.6, NET_HEAD bytes), which says what of
 * checksums and segments is still to do. Whoever gets a head from the other side has to check it.
 */
#define NET_HEAD 12u
enum net_offload { NET_CSUM = 1, NET_TSO4 = 2, NET_TSO6 = 4, NET_ECN = 8 };

struct net_ops {
	bool large; /* takes TCP segments of up to 64 KiB in one frame */
	/* A frame, without its check sequence. Never blocks: what cannot be sent is lost. */
	void (*send)(void *ctx, const u8 *frame, size_t len);
	/* The device, whose input() last took nothing, has room again; may call input() at once. */
	void (*room)(void *ctx);
	/* Both NULL: no heads. Head and frame: */
	void (*send_head)(void *ctx, const u8 *head, size_t len);
	/* From now on frames come with heads, or no longer, and may want this work done. */
	void (*offload)(void *ctx, bool heads, unsigned offloads);
	/* The device's driver begins anew. May be NULL. */
	void (*reset)(void *ctx);
};

/* Where a window goes unless the machine says otherwise. */
struct device_window {
	enum bus_space space;
	u64 base, len; /* len 0 ends the list */
};

/* One window of one device, as the bus hands it back. */
struct device_port {
	struct device *device;
	unsigned window;
	struct device_window at;
};

struct device {
	const struct device_class *class;
	char name[16]; /* "uart0" */
	struct device_env env;
	struct device_port ports[DEVICE_WINDOWS_MAX]; /* the class's windows, until device_move() */
	struct bus *bus;			      /* NULL until device_attach() */
};

enum prop_kind { PROP_U64, PROP_BOOL, PROP_STRING };

struct prop {
	const char *name, *doc; /* name NULL ends the table */
	enum prop_kind kind;
	u32 offset;	    /* in the device struct */
	u64 init, min, max; /* PROP_U64, PROP_BOOL */
};
/* clang-format off */
#define PROP_END { NULL, NULL, PROP_U64, 0, 0, 0, 0 }
/* clang-format on */

struct device_class {
	const char *name, *doc;
	size_t size;	/* of the device's own struct, whose first member is struct device */
	unsigned width; /* widest access, bytes: wider ones arrive in pieces, low first; 0: any */
	/* Props and env are set. NULL: nothing to do. */
	int (*init)(struct device *d, struct err *err);
	void (*reset)(struct device *d); /* also called once after init */
	void (*fini)(struct device *d);
	u64 (*read)(struct device *d, unsigned window, u64 offset, unsigned size);
	void (*write)(struct device *d, unsigned window, u64 offset, unsigned size, u64 value);
	/* Bytes from the backend; returns how many were taken. */
	size_t (*input)(struct device *d, const u8 *data, size_t len);
	void (*saving)(
		struct device *d); /* before state is saved: what is worked out only on access */
	void (*loaded)(struct device *d); /* after state was loaded: re-arm timers, drive lines */
	struct device_window windows[DEVICE_WINDOWS_MAX];
	const struct prop *props;
	const struct field *state;
};

/* Allocates, sets default props, copies env, calls init and reset. NULL on failure, err filled. */
struct device *device_new(const struct device_class *class, const char *name,
	const struct device_env *env, struct err *err);
void device_free(struct device *d);
/* Puts a window elsewhere (COM2 at 0x2f8); before device_attach(). */
void device_move(struct device *d, unsigned window, u64 base);
/* Claims the device's windows on the bus, all or none; device_free() gives them back. */
NODISCARD int device_attach(struct device *d, struct bus *bus, struct err *err);
/* Sets a property from text (numbers in any C base, with K, M, G or T) and resets the device, so
 * that it takes effect: a property is configuration, set before power-on. */
NODISCARD int device_set(struct device *d, const char *prop, const char *value, struct err *err);
/* Every property gets its default; every string is freed. For device_new() and device_free(). */
void device_props_init(struct device *d);
void device_props_fini(struct device *d);

/* state[], appended to a stream or taken from one. A refused stream changes nothing. */
NODISCARD int device_save(struct device *d, struct blob *out);
NODISCARD int device_load(
	struct device *d, const u8 *data, size_t len, size_t *used, struct err *err);

/* Every class that can be named, in device/table.c. */
extern const struct device_class *const device_classes[];
extern const unsigned device_class_count;
