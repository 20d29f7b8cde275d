/*
 * A PC: memory, processors, devices and their wiring, and its life from power-on to its end.
 *
 * Threads. The thread that calls machine_run() turns the event loop: guest timers, requests to
 * reset or end. Each vcpu has a thread of its own that runs guest code and, when the guest halts,
 * sleeps. The console has a reading and a writing thread, so that a slow terminal stops nobody but
 * the guest that writes to it. One that can be saved has a thread that does so.
 *
 * Locks, in this order:
 *   lock      the machine's lock: devices, bus, interrupt controllers, guest timers. Every vcpu_ops
 *             function takes it; device callbacks run under it.
 *   gate      who may run: phase, the number of parked vcpus (run.c). A leaf.
 *   console   the two byte queues (console.c). A leaf.
 * Nothing that holds one of them waits for guest progress.
 *
 * Ending. Anybody may ask for an end with machine_end(), also while holding the lock and from any
 * thread; the first asker decides. vcpus then leave guest code at the next instruction boundary.
 */
#pragma once
#include "base/err.h"
#include "base/types.h"
#include "block/block.h"
#include "cpu/vcpu.h"
#include "display/display.h"
#include "net/net.h"
#include "os/loop.h"
#include "state/field.h"
#include "x86/topology.h"
#include <errno.h>

#define MACHINE_CPUS_MAX   8
#define MACHINE_MEMORY_MIN (2 * MiB)
#define MACHINE_MEMORY_MAX (1024 * GiB)
#define MACHINE_CANNOT \
	(-ENOSYS) /* err.code of machine_new(): the engine does not work on this host */

#define MACHINE_DISKS_MAX	8
#define MACHINE_DISK_QUEUES_MAX 8
#define MACHINE_AHCI_MAX	6 /* disks with that bus */
#define MACHINE_MMIO_MAX	2
#define MACHINE_IDE_MAX		4 /* the same, and CD-ROM drives */
#define MACHINE_NET_QUEUES_MAX	4

struct machine;

/* What whoever looks after a machine may want to hear of. */
enum machine_event {
	MACHINE_EVENT_PAUSED,	/* text says why */
	MACHINE_EVENT_RESUMED,	/* guest code runs again */
	MACHINE_EVENT_RESET,	/* it starts again */
	MACHINE_EVENT_DETACHED, /* the guest has let go of a device; text is its name */
};

enum machine_bus { MACHINE_VIRTIO, MACHINE_NVME, MACHINE_AHCI, MACHINE_IDE };
enum machine_transport { MACHINE_TRANSPORT_PCI, MACHINE_TRANSPORT_MMIO };

/* Strings are borrowed until machine_free(). */
struct machine_disk_config {
	const char *path;
	struct block_options options;
	unsigned bus;	    /* enum machine_bus */
	const char *serial; /* NULL: none */
	unsigned queues;    /* 0: one for each processor */
	bool packed;	    /* virtio only */
	unsigned transport; /* the same; enum machine_transport; MACHINE_MMIO_MAX with MMIO */
	bool cdrom;	    /* with MACHINE_IDE */
	unsigned iops;	    /* requests a second; 0: as many as there are */
	u64 bandwidth;	    /* bytes a second; the same */
};

enum machine_nic_model { MACHINE_NIC_VIRTIO, MACHINE_NIC_E1000 };

struct machine_net_config {
	enum net_kind kind;
	enum machine_nic_model model;
	const char *name, *capture; /* net/net.h */
	const struct net_forward *forwards;
	unsigned forward_count;
	const char *mac; /* NULL: the usual one */
	unsigned queues; /* pairs; 0: one; virtio only */
	bool packed;	 /* virtio only */
	u64 bandwidth;	 /* bytes a second, each way; 0: as much as there is */
};

#define MACHINE_CID_MIN 3u
#define MACHINE_CID_MAX 0xfffffffeu

struct machine_vsock_config {
	const char *path; /* of the host's socket: net/vsock.c */
	u32 cid;
};

struct machine_balloon_config {
	u64 target; /* bytes that the guest is asked for at first */
};

#define MACHINE_PORTS_MAX     3
#define MACHINE_PORT_NAME_MAX 64u

struct machine_port_config {
	const char *name, *path; /* what the guest knows it by; of the host's socket */
};

#define MACHINE_SHARES_MAX 4
#define MACHINE_TAG_MAX	   36u

struct machine_share_config {
	const char *folder, *tag; /* of the host's; what the guest knows it by */
	bool readonly;
};

struct machine_config {
	const struct cpu_engine *engine;
	u32 engine_options; /* bits of engine->options */
	u64 memory;	    /* bytes; rounded up to pages */
	unsigned cpus;
	struct x86_topology topology; /* of as many; no sockets: one, of cores of one thread */
	bool numa;		      /* each socket has its part of memory */
	const int *pins;    /* the host's processor for each of them, borrowed; NULL: any */
	const char *kernel; /* paths; initrd and append may be NULL. kernel NULL: the processor
			       starts */
	const char *initrd; /* at the reset vector with nothing there: for tests */
	const char *append;
	const char *firmware; /* a BIOS image, which boots from a disk; excludes the three above */
	const char *flash;    /* with firmware: what its flash memory holds at first; or NULL */
	const char *flash_file; /* what it holds, kept from run to run; NULL: for this one */
	const char *video_bios; /* with firmware and display: what the firmware runs to use it; or
				   NULL */
	bool reset_ends;	/* a reset by the guest ends the machine */
	bool saves;		/* machine_save_to() will work */
	/* NULL: it is powered on. Otherwise memory and state come from there, and the configuration
	 * must make the machine that was saved, but for its engine. Borrowed until machine_run().
	 */
	const struct saved *saved;
	/* With it: if it was away for no longer than this, the guest's clocks move on by as much
	 * when it runs again; otherwise they go on where they were. */
	u64 away_max_ns;
	const struct machine_disk_config *disks; /* disk_count of them, borrowed */
	unsigned disk_count;
	const struct machine_net_config *net;	  /* NULL: no network; borrowed */
	const struct machine_vsock_config *vsock; /* NULL: none; borrowed */
	bool virtio_console; /* input and output are a virtio console's, not COM1's */
	const struct machine_port_config *ports; /* port_count of them, borrowed */
	unsigned port_count;
	const struct machine_share_config *shares; /* share_count of them, borrowed */
	unsigned share_count;
	const struct machine_balloon_config *balloon; /* NULL: none; borrowed */
	const struct display_config *display;	      /* NULL: none, and no VGA; borrowed */
	int input, output;			      /* COM1's descriptors, borrowed; -1: none */
	bool hotplug; /* machine_attach_disk() and the like are wanted */
	int escape;   /* this input byte ends the machine; -1: none */
	bool sandbox; /* os/sandbox.h, before the first guest instruction: for the whole process */
	unsigned sandbox_needs;	 /* what the caller's own sources need there */
	struct vcpu_trace trace; /* to is borrowed */
	/* On the main thread, no lock held; NULL: nobody listens. */
	void (*event)(void *ctx, enum machine_event what, const char *text);
	void *event_ctx;
};

enum machine_why {
	MACHINE_RUNS,
	MACHINE_POWER_OFF,
	MACHINE_RESET,	   /* with reset_ends */
	MACHINE_EXIT_CODE, /* debug-exit; code is what was written */
	MACHINE_SHUTDOWN,  /* triple fault; text says where */
	MACHINE_ERROR,	   /* the engine or the monitor cannot go on; text says why */
	MACHINE_ESCAPE,	   /* the user typed the escape byte */
	MACHINE_TIMEOUT,   /* these two are asked for by the caller */
	MACHINE_SIGNAL,	   /* code is the signal */
};

struct machine_result {
	enum machine_why why;
	u32 code;
	char text[800];
};

/* Assembles, loads the kernel and sets the processors to their first instruction; runs nothing.
 * NULL with err. */
struct machine *machine_new(const struct machine_config *config, struct err *err);
void machine_free(struct machine *m);

/* Powers on and turns `loop` (to which the caller may have added sources of its own) until the end.
 */
NODISCARD int machine_run(
	struct machine *m, struct loop *loop, struct machine_result *result, struct err *err);
/* Any thread, any lock held. A second call hurries an end that waits for the output to drain. */
void machine_end(struct machine *m, enum machine_why why, u32 code, const char *text);

/*
 * What an owner does to a machine that runs. On the main thread, from callbacks of its loop.
 *
 * A pause holds guest code and the guest's clocks; disks finish what they have begun, and frames
 * wait in the network's queues. It outlives a reset. -EALREADY: it is so already, or, of resuming,
 * something else holds it, too.
 */
NODISCARD int machine_pause(struct machine *m, struct err *err);
NODISCARD int machine_resume(struct machine *m, struct err *err);
/* Presses the power button (ACPI's fixed one): what comes of it is the guest's business. */
void machine_power_button(struct machine *m);
void machine_reset(struct machine *m); /* as a guest's own, which may be an end */

enum machine_state {
	MACHINE_RUNNING,
	MACHINE_PAUSED,
	MACHINE_FULL, /* paused until the host has room for its disks */
	MACHINE_SAVING,
	MACHINE_ENDING,
};
enum machine_state machine_state(struct machine *m);

bool machine_has_address(struct machine *m); /* net_has_address(); false without a network */

/*
 * Devices that come and go while the guest runs (hot.c), of a machine with config.hotplug. On the
 * main thread, from callbacks of its loop. Whatever they need is open already: `files` are taken
 * from, and the caller closes what is left of them. `about` is what machine_attached() repeats.
 *
 * A device goes when the guest lets go of it, which may be never; the event says so. -ENODEV: no
 * device has that name, or only one that the machine was made with.
 */
#define MACHINE_HOT_MAX	   8 /* devices in all */
#define MACHINE_HOT_DISKS  4
#define MACHINE_HOT_PLACES 2 /* for taps and segments; and one of user mode */
#define MACHINE_HOT_NICS   (MACHINE_HOT_PLACES + 1)
#define MACHINE_NAME_MAX   16u

NODISCARD int machine_attach_disk(struct machine *m, const struct machine_disk_config *config,
	struct block_files *files, const char *about, char name[MACHINE_NAME_MAX], struct err *err);
NODISCARD int machine_attach_net(struct machine *m, const struct machine_net_config *config,
	struct net_files *files, const char *about, char name[MACHINE_NAME_MAX], struct err *err);
NODISCARD int machine_detach(struct machine *m, const char *name, struct err *err);

struct machine_attached {
	const char *name, *about;
	bool leaving; /* the guest was asked to let go of it */
};
/* The i-th place of MACHINE_HOT_MAX; false: nothing is there. */
bool machine_attached(struct machine *m, unsigned i, struct machine_attached *a);

/* Sums over the vcpus; after machine_run(). */
struct vcpu_stats machine_stats(const struct machine *m);
/* What the engine was asked to report, vcpu by vcpu; after machine_run(). */
void machine_report(const struct machine *m, FILE *to);
/* What has happened since it began to run, for whoever looks. Any thread. */
struct machine_counts {
	u64 port_ios, mmios, interrupts; /* of processors whose local APIC is not the engine's */
	u64 disk_read, disk_written, net_sent, net_received; /* bytes, as the guest sees it */
	struct cpu_counts cpu;				     /* of all processors */
};
struct machine_counts machine_counts(struct machine *m);
/* Any thread: all of the guest's instructions are counted from now on, or no longer; -ENOSYS: this
 * engine cannot. */
int machine_count(struct machine *m, bool on);
u64 machine_held(
	const struct machine *m); /* bytes of the host's memory that are the guest's; any thread */
u64 machine_run_ns(const struct machine *m); /* guest time since power-on: not in pauses */

/* Statistics by the guest, bytes or numbers of events (virtio 1.2 5.5.6.3). */
enum machine_balloon_stat {
	BALLOON_SWAP_IN,
	BALLOON_SWAP_OUT,
	BALLOON_MAJOR_FAULTS,
	BALLOON_MINOR_FAULTS,
	BALLOON_FREE,
	BALLOON_TOTAL,
	BALLOON_AVAILABLE,
	BALLOON_CACHES,
	BALLOON_HUGE_PAGES,
	BALLOON_HUGE_PAGES_FAILED,
	BALLOON_STATS
};

struct machine_balloon_report {
	u64 target, actual; /* bytes asked for; bytes in the balloon, as the guest says */
	u64 given;	    /* bytes given back to the host since power-on, by whatever way */
	u32 known;	    /* which of the statistics there are, a bit each */
	u64 stats[BALLOON_STATS];
};

/* Any thread, no lock held. -ENODEV: the machine has no balloon; -EINVAL: all of its memory. */
NODISCARD int machine_balloon_set(struct machine *m, u64 target);
/* What is known; asks the guest for newer statistics, for the next call. */
NODISCARD int machine_balloon_report(struct machine *m, struct machine_balloon_report *report);

/*
 * Saving, on the main thread. machine_save_to() holds guest code and, when it returns 0, takes the
 * file, which is empty; a thread of the machine's own then writes a saved state to it
 * (saved/saved.h), with parts of the caller's. machine_save_look() says how far it is. When it is
 * done, or is to be given up, machine_save_end() lets the guest go on.
 *
 * -EBUSY: it is being saved already, or something is under way that must be over first.
 */
struct machine_note {
	const char *name;
	const void *data; /* copied */
	size_t len;
};

struct machine_saving {
	bool under_way, done; /* neither: nothing is being saved */
	int rc;		      /* of what is done: 0 or -errno */
	u64 written, total;   /* bytes of memory */
};

NODISCARD int machine_save_to(struct machine *m, int take_fd, const struct machine_note *parts,
	unsigned count, struct err *err);
struct machine_saving machine_save_look(const struct machine *m);
void machine_save_end(struct machine *m);

struct saved;
/* Whether that processor and these disks (paths; NULL: not to be looked at) can be given to it. */
NODISCARD int machine_saved_fits(
	const struct saved *s, const char *const *disks, unsigned disk_count, struct err *err);

/* Everything but memory, of a machine that does not run: what snapshots and migration carry. A
 * refused stream changes nothing. */
NODISCARD int machine_save(struct machine *m, struct blob *out, struct err *err);
NODISCARD int machine_load(struct machine *m, const u8 *data, size_t len, struct err *err);
