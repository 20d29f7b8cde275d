/*
 * What the NVMe controller's files share. Section numbers are those of the NVM Express Base
 * Specification 1.4.
 *
 *   nvme.c          registers, doorbells, queues: commands come in and completions go out
 *   nvme_admin.c    commands of the admin queue
 *   nvme_features.c get and set features
 *   nvme_log.c      log pages, the error log, asynchronous events
 *   nvme_identify.c what the controller and its namespace say of themselves
 *   nvme_io.c       commands of the I/O queues
 *   nvme_prp.c      where a command's data is
 *
 * Life of a command. A doorbell moves a submission queue's tail; nvme_run() copies entries in, one
 * by one, each when there is room for its completion. An admin command ends in its handler, an I/O
 * command when the disk has done it; nvme_complete() writes the completion and interrupts.
 *
 * Invariants. `reserved` of a completion queue counts commands taken that will end there, so a
 * completion always has a place. There are at most NVME_IN_FLIGHT_MAX requests at the disk; what
 * is beyond that waits in the driver's own queues.
 */
#pragma once
#include "base/bits.h"
#include "device/dma.h"
#include "device/nvme/nvme.h"

#define NVME_PAIRS	   (NVME_QUEUES_MAX + 1)
#define NVME_ENTRIES_MAX   1024u
#define NVME_IN_FLIGHT_MAX 256u
#define NVME_MDTS	   9u /* a command moves at most 2^9 pages of 4 KiB */
#define NVME_DATA_MAX	   (PAGE_SIZE << NVME_MDTS)
#define NVME_EVENTS_MAX	   4u /* asynchronous event requests held */
#define NVME_ERRORS_MAX	   8u /* entries of the error log */
#define NVME_FEATURES	   9u
#define NVME_PAGE_DATA	   4096u /* the largest structure the controller returns */

/* Status, 4.6.1: type in bits 10:8, code in 7:0 */
enum nvme_status {
	NVME_OK = 0x000,
	NVME_INVALID_OPCODE = 0x001,
	NVME_INVALID_FIELD = 0x002,
	NVME_TRANSFER_ERROR = 0x004,
	NVME_INTERNAL_ERROR = 0x006,
	NVME_INVALID_NAMESPACE = 0x00b,
	NVME_SEQUENCE_ERROR = 0x00c,
	NVME_INVALID_PRP_OFFSET = 0x013,
	NVME_WRITE_PROTECTED = 0x020,
	NVME_LBA_RANGE = 0x080,
	NVME_CAPACITY_EXCEEDED = 0x081,
	NVME_INVALID_CQ = 0x100,
	NVME_INVALID_QUEUE = 0x101,
	NVME_INVALID_QUEUE_SIZE = 0x102,
	NVME_EVENT_LIMIT = 0x105,
	NVME_INVALID_VECTOR = 0x108,
	NVME_INVALID_LOG = 0x109,
	NVME_INVALID_QUEUE_DELETION = 0x10c,
	NVME_NOT_SAVEABLE = 0x10d,
	NVME_NOT_CHANGEABLE = 0x10e,
	NVME_WRITE_FAULT = 0x280,
	NVME_READ_ERROR = 0x281,
	NVME_LATER = 0xffff, /* no completion now */
};

/* A submission queue entry, 4.2, copied in. */
struct nvme_command {
	u8 op, flags;
	u16 id;
	u32 nsid;
	u64 prp1, prp2;
	u32 dw[6]; /* 10 to 15 */
};

struct nvme_sq {
	u64 base;
	u16 size, head, tail, cq;
	bool open;
};

struct nvme_cq {
	u64 base;
	u16 size, head, tail, vector;
	bool open, phase, interrupts;
	u16 reserved; /* 0 while nothing is under way */
};

struct nvme_error {
	u64 count, lba;
	u32 nsid;
	u16 sq, id, status;
};

struct nvme {
	struct device dev;
	struct pci_function pci;
	u64 queues;   /* property */
	char *serial; /* property */
	/* 3.1 */
	u64 asq, acq;
	u32 cc, csts, aqa, intms;
	struct nvme_sq sq[NVME_PAIRS];
	struct nvme_cq cq[NVME_PAIRS];
	u32 features[NVME_FEATURES]; /* nvme_features.c */
	u16 event_ids[NVME_EVENTS_MAX];
	u8 event_count;
	/* Error events: bits of those that wait, and whether reading the log must come first (5.2)
	 */
	u8 events_waiting;
	bool events_masked;
	struct nvme_error errors[NVME_ERRORS_MAX];
	u64 error_count;
	u64 blocks_read, blocks_written, reads, writes, media_errors; /* 5.14.1.2 */
	/* nvme_run() */
	bool running, again;
	unsigned in_flight;
	struct nvme_request *free;
};

static inline struct nvme *nvme_of(struct device *d) { return container_of(d, struct nvme, dev); }
static inline struct block_info nvme_disk(const struct nvme *n)
{
	return n->dev.env.disk->info(n->dev.env.disk_ctx);
}

/* nvme.c */
void nvme_run(struct nvme *n);
void nvme_complete(struct nvme *n, unsigned sq, u16 id, enum nvme_status status, u32 result);
/* Whether one more completion, beyond those that are certain, fits into the admin queue. */
bool nvme_has_room(const struct nvme *n, unsigned cq);
void nvme_drive(struct nvme *n);
bool nvme_ready(const struct nvme *n);

/* nvme_prp.c. `in`: the controller writes the data. */
enum nvme_status nvme_map_data(
	struct nvme *n, const struct nvme_command *c, u64 len, bool in, struct dma_map *map);
/* Data of at most `len` bytes of which the controller knows the first `known`; the rest is zero. */
enum nvme_status nvme_put_data(
	struct nvme *n, const struct nvme_command *c, const void *data, u64 known, u64 len);
enum nvme_status nvme_get_data(struct nvme *n, const struct nvme_command *c, void *data, u64 len);

/* nvme_admin.c, nvme_io.c: `sq` is the queue it came from. */
void nvme_admin(struct nvme *n, const struct nvme_command *c);
void nvme_io(struct nvme *n, unsigned sq, const struct nvme_command *c);
void nvme_io_flush_now(struct nvme *n); /* returns when it is done */
void nvme_io_free(struct nvme *n);
/* Commands supported, for the log page that lists them (5.14.1.5): a bit each, and those that
 * change the contents. */
void nvme_admin_effects(u32 effects[256]);
void nvme_io_effects(u32 effects[256]);

/* nvme_identify.c, nvme_features.c */
enum nvme_status nvme_identify(struct nvme *n, const struct nvme_command *c, u32 *result);
void nvme_identify_firmware(u8 revision[8]);
enum nvme_status nvme_set_features(struct nvme *n, const struct nvme_command *c, u32 *result);
enum nvme_status nvme_get_features(struct nvme *n, const struct nvme_command *c, u32 *result);
void nvme_reset_features(struct nvme *n);
bool nvme_caches_writes(const struct nvme *n); /* feature 6 */

/* nvme_log.c */
enum nvme_error_event { NVME_BAD_DOORBELL = 0, NVME_BAD_DOORBELL_VALUE = 1 };
enum nvme_status nvme_get_log(struct nvme *n, const struct nvme_command *c, u32 *result);
enum nvme_status nvme_hold_event(struct nvme *n, const struct nvme_command *c, u32 *result);
void nvme_error_event(struct nvme *n, enum nvme_error_event what);
void nvme_send_events(struct nvme *n);
void nvme_log_error(struct nvme *n, const struct nvme_error *e);
