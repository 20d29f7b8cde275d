/* The NVMe controller under a small driver: NVM Express 1.4, and everything a driver gets wrong. */
#include "device/nvme/nvme.h"
#include "rig.h"
#include <errno.h>

#define BAR	   0xd0000000ull
#define REG(at)	   (BAR + (at))
#define SQ_BELL(q) (BAR + 0x1000 + 8 * (q))
#define CQ_BELL(q) (BAR + 0x1004 + 8 * (q))
#define MSIX	   (BAR + 0x2000)
#define VECTOR	   0x60u

enum {
	CAP = 0,
	VS = 8,
	INTMS = 0xc,
	INTMC = 0x10,
	CC = 0x14,
	CSTS = 0x1c,
	AQA = 0x24,
	ASQ = 0x28,
	ACQ = 0x30
};
enum {
	DELETE_SQ = 0,
	CREATE_SQ = 1,
	GET_LOG = 2,
	DELETE_CQ = 4,
	CREATE_CQ = 5,
	IDENTIFY = 6,
	ABORT = 8,
	SET_FEATURES = 9,
	GET_FEATURES = 10,
	ASYNC_EVENT = 12
};
enum { FLUSH = 0, WRITE = 1, READ = 2, ZEROES = 8, DATASET = 9 };

#define ENABLE 0x00460001u /* entries of 64 and 16 bytes */
#define SQ(q)  (0x10000ull + 0x4000 * (q))
#define CQ(q)  (0x12000ull + 0x4000 * (q))
#define DEPTH  16u
#define LIST   0x70000ull
#define DATA   0x80000ull
#define DNR    0x4000u
#define FUA    BIT(30)

struct command {
	u8 op, flags;
	u32 nsid;
	u64 prp1, prp2;
	u32 dw[6];
};

struct completion {
	u32 result;
	u16 head, sq, id, status;
};

struct driver {
	struct rig *r;
	u16 tail[3], head[3], id;
	bool phase[3];
	u16 size; /* of all queues */
};

static u64 get(struct rig *r, u64 at, unsigned size)
{
	return bus_read(&r->bus, BUS_MMIO, at, size);
}
static void set(struct rig *r, u64 at, unsigned size, u64 v)
{
	bus_write(&r->bus, BUS_MMIO, at, size, v);
}
static void poke(struct rig *r, u64 at, const void *data, u64 len)
{
	assert_true(memory_write(&r->memory, gpa(at), data, len));
}
static void peek(struct rig *r, u64 at, void *data, u64 len)
{
	assert_true(memory_read(&r->memory, gpa(at), data, len));
}

static void configure(struct rig *r)
{
	assert_int_equal(device_set(r->dev, "queues", "2", NULL), 0);
	assert_int_equal(device_set(r->dev, "serial", "strata-0001", NULL), 0);
}

static void open_rig(struct rig *r)
{
	rig_open(r, &nvme_class);
	r->configure = configure;
	configure(r);
	for (unsigned i = 0; i < RIG_DISK; i++)
		r->disk[i] = (u8)(i / 512 + i);
	pci_config_write(&r->pci, 0, PCI_BAR0, 4, (u32)BAR);
	pci_config_write(&r->pci, 0, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void use_msix(struct rig *r)
{
	pci_config_write(&r->pci, 0, 0x42, 2, 0x8000);
	for (unsigned i = 0; i < 3; i++) {
		set(r, MSIX + 16 * i, 8, 0xfee00000);
		set(r, MSIX + 16 * i + 8, 8, VECTOR + i);
	}
}

static struct driver start_sized(struct rig *r, u16 size)
{
	struct driver d = { .r = r, .phase = { true, true, true }, .size = size };
	static const u8 zeroes[0x4000];

	for (unsigned q = 0; q < 3; q++)
		poke(r, SQ(q), zeroes, sizeof(zeroes));
	set(r, REG(AQA), 4, (size - 1u) * 0x10001u);
	set(r, REG(ASQ), 8, SQ(0));
	set(r, REG(ACQ), 4, CQ(0));
	set(r, REG(ACQ + 4), 4, 0);
	set(r, REG(CC), 4, ENABLE);
	assert_int_equal(get(r, REG(CSTS), 4), 1);
	return d;
}

static void lay(struct driver *d, unsigned q, const struct command *c)
{
	u8 e[64] = { c->op, c->flags };

	put_le16(e + 2, ++d->id);
	put_le32(e + 4, c->nsid);
	put_le64(e + 24, c->prp1);
	put_le64(e + 32, c->prp2);
	memcpy(e + 40, c->dw, sizeof(c->dw));
	poke(d->r, SQ(q) + 64 * d->tail[q], e, sizeof(e));
	d->tail[q] = (u16)((d->tail[q] + 1) % d->size);
}

static void ring(struct driver *d, unsigned q) { set(d->r, SQ_BELL(q), 4, d->tail[q]); }

static void ask(struct driver *d, unsigned q, const struct command *c)
{
	lay(d, q, c);
	ring(d, q);
}

static bool look(struct driver *d, unsigned q, struct completion *c)
{
	u8 e[16];

	peek(d->r, CQ(q) + 16 * d->head[q], e, sizeof(e));
	*c = (struct completion){ get_le32(e), get_le16(e + 8), get_le16(e + 10), get_le16(e + 12),
		get_le16(e + 14) >> 1 };
	return (get_le16(e + 14) & 1) == d->phase[q];
}

static void accept(struct driver *d, unsigned q)
{
	d->head[q] = (u16)((d->head[q] + 1) % d->size);
	d->phase[q] = d->head[q] ? d->phase[q] : !d->phase[q];
	set(d->r, CQ_BELL(q), 4, d->head[q]);
}

/* Asks, lets the disk do it, and returns the completion's status. */
static u16 run(struct driver *d, unsigned q, const struct command *c, u32 *result)
{
	struct completion done;

	ask(d, q, c);
	while (d->r->pending_count)
		rig_disk_end(d->r, 0, 0);
	assert_true(look(d, q, &done));
	assert_int_equal(done.id, d->id);
	assert_int_equal(done.sq, q);
	accept(d, q);
	if (result)
		*result = done.result;
	return done.status;
}

static u16 admin(struct driver *d, u8 op, u32 dw10, u32 dw11, u64 prp1, u32 *result)
{
	const struct command c = { .op = op, .prp1 = prp1, .dw = { dw10, dw11 } };

	return run(d, 0, &c, result);
}

static struct driver start(struct rig *r)
{
	struct driver d = start_sized(r, DEPTH);

	use_msix(r);
	for (unsigned q = 1; q <= 2; q++) {
		u32 id = q | (DEPTH - 1) << 16;

		assert_int_equal(admin(&d, CREATE_CQ, id, q << 16 | 3, CQ(q), NULL), 0);
		assert_int_equal(admin(&d, CREATE_SQ, id, q << 16 | 1, SQ(q), NULL), 0);
	}
	return d;
}

static struct command transfer(u8 op, u64 block, u32 count, u64 prp1, u64 prp2)
{
	return (struct command){ .op = op,
		.nsid = 1,
		.prp1 = prp1,
		.prp2 = prp2,
		.dw = { (u32)block, (u32)(block >> 32), count - 1 } };
}

static u16 move(struct driver *d, u8 op, u64 block, u32 count, u64 prp1, u64 prp2)
{
	const struct command c = transfer(op, block, count, prp1, prp2);

	return run(d, 1, &c, NULL);
}

static void registers_are_as_documented(void **state)
{
	struct rig r;

	open_rig(&r);
	u64 cap = get(&r, REG(CAP), 8);

	assert_int_equal(bits(cap, 15, 0), 1023);
	assert_int_equal(bits(cap, 16, 16), 1);
	assert_int_equal(bits(cap, 35, 32), 0);
	assert_int_equal(bits(cap, 44, 37), 1);
	assert_int_equal(bits(cap, 55, 48), 0);
	assert_int_equal(get(&r, REG(CAP + 4), 4), cap >> 32);
	assert_int_equal(get(&r, REG(VS), 4), 0x10400);
	assert_int_equal(get(&r, REG(CSTS), 4), 0);
	set(&r, REG(ASQ), 8, 0x123456789abcdef0);
	assert_int_equal(get(&r, REG(ASQ), 8), 0x123456789abcd000);
	set(&r, REG(INTMS), 4, 5);
	assert_int_equal(get(&r, REG(INTMC), 4), 5);
	set(&r, REG(INTMC), 4, 1);
	assert_int_equal(get(&r, REG(INTMS), 4), 4);
	rig_close(&r);
}

static void only_what_is_possible_is_enabled(void **state)
{
	struct rig r;

	open_rig(&r);
	set(&r, REG(AQA), 4, 0x000f000f);
	set(&r, REG(CC), 4, ENABLE | 1 << 7); /* pages of 8 KiB */
	assert_int_equal(get(&r, REG(CSTS), 4), 2);
	set(&r, REG(CC), 4, 0);
	assert_int_equal(get(&r, REG(CSTS), 4), 0);
	set(&r, REG(AQA), 4, 0); /* queues of one entry */
	set(&r, REG(CC), 4, ENABLE);
	assert_int_equal(get(&r, REG(CSTS), 4), 2);
	set(&r, REG(CC), 4, 0);
	/* Queues that are not in memory. */
	set(&r, REG(AQA), 4, 0x000f000f);
	set(&r, REG(ASQ), 8, RIG_MEMORY);
	set(&r, REG(CC), 4, ENABLE);
	assert_int_equal(get(&r, REG(CSTS), 4), 1);
	set(&r, SQ_BELL(0), 4, 1);
	assert_int_equal(get(&r, REG(CSTS), 4), 3);
	rig_close(&r);
}

static void it_says_what_it_is(void **state)
{
	u8 page[4096];
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	assert_int_equal(admin(&d, IDENTIFY, 1, 0, DATA, NULL), 0);
	peek(&r, DATA, page, sizeof(page));
	assert_memory_equal(page + 4, "strata-0001         ", 20);
	assert_memory_equal(page + 24, "Strata NVMe disk    ", 20);
	assert_int_equal(page[77], 9);
	assert_int_equal(page[111], 1);
	assert_int_equal(get_le32(page + 516), 1);
	assert_int_equal(get_le16(page + 520), 0xc);
	assert_memory_equal(page + 768, "nqn.2014-08.org.nvmexpress:uuid:", 32);
	const struct command ns = { .op = IDENTIFY, .nsid = 1, .prp1 = DATA };

	assert_int_equal(run(&d, 0, &ns, NULL), 0);
	peek(&r, DATA, page, sizeof(page));
	assert_int_equal(get_le64(page), RIG_DISK / 512);
	assert_int_equal(page[99], 0);
	assert_int_equal(get_le32(page + 128), 9 << 16);
	const struct command other = { .op = IDENTIFY, .nsid = 2, .prp1 = DATA };

	assert_int_equal(run(&d, 0, &other, NULL), 0x00b | DNR);
	const struct command list = { .op = IDENTIFY, .prp1 = DATA, .dw = { 2 } };

	assert_int_equal(run(&d, 0, &list, NULL), 0);
	peek(&r, DATA, page, 8);
	assert_int_equal(get_le64(page), 1);
	const struct command descriptors = { .op = IDENTIFY, .nsid = 1, .prp1 = DATA, .dw = { 3 } };

	assert_int_equal(run(&d, 0, &descriptors, NULL), 0);
	peek(&r, DATA, page, 8);
	assert_int_equal(get_le16(page), 0x1003);
	assert_int_equal(admin(&d, IDENTIFY, 0x20, 0, DATA, NULL), 0x002 | DNR);
	rig_close(&r);
}

static void blocks_are_read_and_written(void **state)
{
	u8 data[8192];
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	assert_int_equal(move(&d, READ, 3, 2, DATA, 0), 0);
	peek(&r, DATA, data, 1024);
	assert_memory_equal(data, r.disk + 3 * 512, 1024);
	assert_int_equal(r.data, VECTOR + 1);
	/* Two pages, the first of which begins inside. */
	assert_int_equal(move(&d, READ, 8, 8, DATA + 0x800, DATA + 0x3000), 0);
	peek(&r, DATA + 0x800, data, 2048);
	peek(&r, DATA + 0x3000, data + 2048, 2048);
	assert_memory_equal(data, r.disk + 8 * 512, 4096);
	assert_int_equal(move(&d, WRITE, 100, 8, DATA + 0x800, DATA + 0x3000), 0);
	assert_memory_equal(r.disk + 100 * 512, data, 4096);
	assert_int_equal(r.flushes, 0);
	const struct command flush = { .op = FLUSH, .nsid = 0xffffffff };

	assert_int_equal(run(&d, 1, &flush, NULL), 0);
	assert_int_equal(r.flushes, 1);
	rig_close(&r);
}

/* Lists of pages: one that fits, one that begins late in its page and goes on in another. */
static void lists_are_followed(void **state)
{
	u8 data[20 * 512];
	u64 pages[4] = { 0x90000, 0x94000, 0x92000, 0x96000 };
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	poke(&r, LIST, pages, sizeof(pages));
	assert_int_equal(move(&d, READ, 0, 20, DATA, LIST), 0);
	peek(&r, DATA, data, 4096);
	peek(&r, pages[0], data + 4096, 4096);
	peek(&r, pages[1], data + 8192, 2048);
	assert_memory_equal(data, r.disk, sizeof(data));
	memset(r.disk, 0, sizeof(data));

	const u64 next = LIST + 0x1000;

	poke(&r, LIST + 0xff8, &next, 8);
	poke(&r, next, pages, 16);
	assert_int_equal(move(&d, WRITE, 0, 20, DATA, LIST + 0xff8), 0);
	assert_memory_equal(data, r.disk, sizeof(data));
	rig_close(&r);
}

static void broken_lists_are_refused(void **state)
{
	u64 page = 0x90010;
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	assert_int_equal(move(&d, READ, 0, 1, DATA + 1, 0), 0x013 | DNR);
	assert_int_equal(move(&d, READ, 0, 1, RIG_MEMORY, 0), 0x004 | DNR);
	assert_int_equal(move(&d, READ, 0, 16, DATA, DATA + 0x1010), 0x013 | DNR);
	assert_int_equal(move(&d, READ, 0, 16, DATA, ~0xfffull), 0x004 | DNR);
	poke(&r, LIST, &page, 8);
	assert_int_equal(move(&d, READ, 0, 32, DATA, LIST), 0x013 | DNR);
	assert_int_equal(move(&d, READ, 0, 32, DATA, LIST + 4), 0x013 | DNR);
	assert_int_equal(move(&d, READ, 0, 32, DATA, RIG_MEMORY), 0x004 | DNR);
	/* A list that goes on inside a page. */
	page = LIST + 8;
	poke(&r, LIST + 0xff8, &page, 8);
	assert_int_equal(move(&d, READ, 0, 32, DATA, LIST + 0xff8), 0x013 | DNR);
	struct command sgl = transfer(READ, 0, 1, DATA, 0);

	sgl.flags = 0x40;
	assert_int_equal(run(&d, 1, &sgl, NULL), 0x002 | DNR);
	assert_int_equal(r.pending_count, 0);
	rig_close(&r);
}

static void impossible_commands_are_refused(void **state)
{
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	assert_int_equal(move(&d, READ, RIG_DISK / 512, 1, DATA, 0), 0x080 | DNR);
	assert_int_equal(move(&d, READ, RIG_DISK / 512 - 1, 2, DATA, 0), 0x080 | DNR);
	assert_int_equal(move(&d, WRITE, ~0ull, 1, DATA, 0), 0x080 | DNR);
	assert_int_equal(move(&d, 0x55, 0, 1, DATA, 0), 0x001 | DNR);
	struct command c = transfer(READ, 0, 1, DATA, 0);

	c.nsid = 2;
	assert_int_equal(run(&d, 1, &c, NULL), 0x00b | DNR);
	c = transfer(READ, 0, 1, DATA, 0);
	c.flags = 1;
	assert_int_equal(run(&d, 1, &c, NULL), 0x002 | DNR);
	r.disk_readonly = true;
	assert_int_equal(move(&d, WRITE, 0, 1, DATA, 0), 0x020 | DNR);
	assert_int_equal(move(&d, ZEROES, 0, 1, DATA, 0), 0x020 | DNR);
	assert_int_equal(move(&d, READ, 0, 1, DATA, 0), 0);
	rig_close(&r);
}

static void the_disks_errors_are_told(void **state)
{
	static const struct {
		u8 op;
		int rc;
		u16 status;
	} rows[] = { { READ, -EIO, 0x281 }, { WRITE, -EIO, 0x280 }, { WRITE, -ENOSPC, 0x081 },
		{ WRITE, -EPERM, 0x020 | DNR } };
	struct completion done;
	u8 log[128];
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		struct command c = transfer(rows[i].op, 5, 1, DATA, 0);

		ask(&d, 1, &c);
		rig_disk_end(&r, 0, rows[i].rc);
		assert_true(look(&d, 1, &done));
		assert_int_equal(done.status, rows[i].status);
		accept(&d, 1);
	}
	assert_int_equal(admin(&d, GET_LOG, 1 | 31u << 16, 0, DATA, NULL), 0);
	peek(&r, DATA, log, sizeof(log));
	assert_int_equal(get_le64(log), 4);
	assert_int_equal(get_le16(log + 8), 1);
	assert_int_equal(get_le64(log + 16), 5);
	assert_int_equal(get_le16(log + 64 + 12), 0x081 << 1);
	rig_close(&r);
}

static void blocks_are_cleared(void **state)
{
	u8 ranges[32] = { 0 };
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	assert_int_equal(move(&d, ZEROES, 8, 2, 0, 0), 0);
	assert_int_equal(r.disk[8 * 512 + 1], 0);
	assert_int_equal(r.disk[10 * 512 - 1], 0);
	assert_int_not_equal(r.disk[10 * 512], 0);
	put_le32(ranges + 4, 2);
	put_le64(ranges + 8, 20);
	put_le32(ranges + 20, 1);
	put_le64(ranges + 24, 30);
	poke(&r, DATA, ranges, sizeof(ranges));
	struct command c = { .op = DATASET, .nsid = 1, .prp1 = DATA, .dw = { 1, 4 } };

	assert_int_equal(run(&d, 1, &c, NULL), 0);
	assert_int_equal(r.disk[20 * 512], 0xdd);
	assert_int_equal(r.disk[22 * 512 - 1], 0xdd);
	assert_int_equal(r.disk[30 * 512], 0xdd);
	assert_int_not_equal(r.disk[31 * 512], 0xdd);
	c.dw[1] = 1; /* a hint only */
	assert_int_equal(run(&d, 1, &c, NULL), 0);
	put_le64(ranges + 24, RIG_DISK / 512);
	poke(&r, DATA, ranges, sizeof(ranges));
	c.dw[1] = 4;
	assert_int_equal(run(&d, 1, &c, NULL), 0x080 | DNR);
	rig_close(&r);
}

static void stable_writes_are_flushed(void **state)
{
	u32 result;
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);
	struct command c = transfer(WRITE, 0, 1, DATA, 0);

	c.dw[2] |= FUA;
	assert_int_equal(run(&d, 1, &c, NULL), 0);
	assert_int_equal(r.flushes, 1);
	assert_int_equal(admin(&d, SET_FEATURES, 6, 0, 0, NULL), 0);
	assert_int_equal(r.flushes, 2);
	assert_int_equal(move(&d, WRITE, 0, 1, DATA, 0), 0);
	assert_int_equal(r.flushes, 3);
	assert_int_equal(admin(&d, GET_FEATURES, 6, 0, 0, &result), 0);
	assert_int_equal(result, 0);
	rig_close(&r);
}

static void features_are_kept_and_told(void **state)
{
	u32 result;
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	assert_int_equal(admin(&d, GET_FEATURES, 7, 0, 0, &result), 0);
	assert_int_equal(result, 0x10001);
	assert_int_equal(admin(&d, SET_FEATURES, 7, 0x30003, 0, NULL), 0x00c | DNR);
	assert_int_equal(admin(&d, SET_FEATURES, 0xb, 0x100, 0, NULL), 0);
	assert_int_equal(admin(&d, GET_FEATURES, 0xb, 0, 0, &result), 0);
	assert_int_equal(result, 0x100);
	assert_int_equal(admin(&d, SET_FEATURES, 2, 1, 0, NULL), 0x002 | DNR);
	assert_int_equal(admin(&d, SET_FEATURES, 0x8000000b, 1, 0, NULL), 0x10d | DNR);
	assert_int_equal(admin(&d, GET_FEATURES, 0x77, 0, 0, NULL), 0x002 | DNR);
	assert_int_equal(admin(&d, GET_FEATURES, 9, 1, 0, &result), 0);
	assert_int_equal(result, 0x10001);
	rig_close(&r);
}

static void logs_are_told(void **state)
{
	u8 page[512];
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	assert_int_equal(move(&d, READ, 0, 2, DATA, 0), 0);
	assert_int_equal(admin(&d, GET_LOG, 2 | 127u << 16, 0, DATA, NULL), 0);
	peek(&r, DATA, page, sizeof(page));
	assert_int_equal(page[0], 0);
	assert_int_equal(get_le64(page + 32), 1);
	assert_int_equal(get_le64(page + 64), 1);
	assert_int_equal(admin(&d, GET_LOG, 3 | 127u << 16, 0, DATA, NULL), 0);
	peek(&r, DATA, page, sizeof(page));
	assert_memory_equal(page + 8, "1       ", 8);
	const struct command part = {
		.op = GET_LOG, .prp1 = DATA, .dw = { 5 | 3u << 16, 0, 1024 + 4 }
	};

	assert_int_equal(run(&d, 0, &part, NULL), 0);
	peek(&r, DATA, page, 16);
	assert_int_equal(get_le64(page), 0x100000003); /* Write changes, Read does not */
	assert_int_equal(admin(&d, GET_LOG, 0x99 | 127u << 16, 0, DATA, NULL), 0x109 | DNR);
	assert_int_equal(admin(&d, GET_LOG, 2, 0xffff, DATA, NULL), 0x002 | DNR);
	rig_close(&r);
}

static void wrong_doorbells_are_events(void **state)
{
	const struct command wish = { .op = ASYNC_EVENT };
	struct completion done;
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	for (unsigned i = 0; i < 4; i++)
		ask(&d, 0, &wish);
	assert_false(look(&d, 0, &done));
	assert_int_equal(run(&d, 0, &wish, NULL), 0x105 | DNR);
	set(&r, SQ_BELL(7), 4, 1);
	assert_true(look(&d, 0, &done));
	assert_int_equal(done.result, 0x010000);
	accept(&d, 0);
	set(&r, SQ_BELL(1), 4, DEPTH); /* waits until the log has been read */
	assert_false(look(&d, 0, &done));
	ask(&d, 0, &(struct command){ .op = GET_LOG, .prp1 = DATA, .dw = { 1 | 15u << 16 } });
	assert_true(look(&d, 0, &done));
	assert_int_equal(done.result, 0x010100);
	rig_close(&r);
}

static void queues_come_and_go(void **state)
{
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	assert_int_equal(admin(&d, CREATE_CQ, 1 | 15 << 16, 3, CQ(1), NULL), 0x101 | DNR);
	assert_int_equal(admin(&d, CREATE_CQ, 3 | 15 << 16, 3, CQ(1), NULL), 0x101 | DNR);
	assert_int_equal(admin(&d, CREATE_SQ, 0 | 15 << 16, 1 << 16 | 1, SQ(1), NULL), 0x101 | DNR);
	assert_int_equal(admin(&d, DELETE_CQ, 1, 0, 0, NULL), 0x10c | DNR);
	struct command c = transfer(READ, 0, 1, DATA, 0);

	ask(&d, 1, &c); /* under way when its queue is deleted */
	assert_int_equal(admin(&d, DELETE_SQ, 1, 0, 0, NULL), 0);
	assert_int_equal(r.pending_count, 0);
	assert_int_equal(admin(&d, DELETE_SQ, 1, 0, 0, NULL), 0x101 | DNR);
	assert_int_equal(admin(&d, DELETE_CQ, 1, 0, 0, NULL), 0);
	assert_int_equal(admin(&d, CREATE_SQ, 1 | 15 << 16, 1 << 16 | 1, SQ(1), NULL), 0x100 | DNR);
	assert_int_equal(admin(&d, CREATE_CQ, 1, 3, CQ(1), NULL), 0x102 | DNR);
	assert_int_equal(admin(&d, CREATE_CQ, 1 | 4095 << 16, 3, CQ(1), NULL), 0x102 | DNR);
	assert_int_equal(admin(&d, CREATE_CQ, 1 | 15 << 16, 2, CQ(1), NULL), 0x002 | DNR);
	assert_int_equal(admin(&d, CREATE_CQ, 1 | 15 << 16, 3, CQ(1) + 8, NULL), 0x013 | DNR);
	assert_int_equal(
		admin(&d, CREATE_CQ, 1 | 15 << 16, 99 << 16 | 3, CQ(1), NULL), 0x108 | DNR);
	rig_close(&r);
}

/* Commands wait in their queue while their completions would have no place. */
static void a_full_completion_queue_is_waited_for(void **state)
{
	const struct command bad = { .op = 0x7f };
	struct completion done;
	struct rig r;

	open_rig(&r);
	struct driver d = start_sized(&r, 4);

	for (unsigned i = 0; i < 3; i++)
		ask(&d, 0, &bad);
	lay(&d, 0, &bad);
	ring(&d, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_true(look(&d, 0, &done));
		assert_int_equal(done.head, (i + 1) % 4);
		d.head[0]++;
	}
	d.phase[0] = d.head[0] < 4;
	assert_false(look(&d, 0, &done) && done.id == d.id);
	set(&r, CQ_BELL(0), 4, 1);
	d.head[0] = 3;
	assert_true(look(&d, 0, &done));
	assert_int_equal(done.id, d.id);
	rig_close(&r);
}

static void a_wire_stands_for_messages(void **state)
{
	struct rig r;

	open_rig(&r);
	for (unsigned i = 0; i < PCI_LINKS; i++)
		r.pci.links[i] = (struct irq_line){ rig_line, &r, i };
	struct driver d = start_sized(&r, DEPTH);
	unsigned link = pci_link(0, 1);

	ask(&d, 0, &(struct command){ .op = 0x7f });
	assert_true(r.level[link]);
	set(&r, REG(INTMS), 4, 1);
	assert_false(r.level[link]);
	set(&r, REG(INTMC), 4, 1);
	assert_true(r.level[link]);
	accept(&d, 0);
	assert_false(r.level[link]);
	rig_close(&r);
}

static void a_reset_waits_for_the_disk(void **state)
{
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);
	struct command c = transfer(READ, 0, 1, DATA, 0);

	ask(&d, 1, &c);
	ask(&d, 2, &c);
	assert_int_equal(r.pending_count, 2);
	set(&r, REG(CC), 4, 0);
	assert_int_equal(r.pending_count, 0);
	assert_int_equal(get(&r, REG(CSTS), 4), 0);
	set(&r, SQ_BELL(1), 4, 5);
	assert_int_equal(r.pending_count, 0);
	d = start(&r);
	assert_int_equal(move(&d, READ, 0, 1, DATA, 0), 0);
	rig_close(&r);
}

static void a_shutdown_flushes(void **state)
{
	struct rig r;

	open_rig(&r);
	start(&r);
	set(&r, REG(CC), 4, ENABLE | 1 << 14);
	assert_int_equal(r.flushes, 1);
	assert_int_equal(get(&r, REG(CSTS), 4), 1 | 2 << 2);
	rig_close(&r);
}

static void script(struct rig *r)
{
	struct driver d = { .r = r, .tail = { 4, 1 }, .head = { 4, 1 }, .size = DEPTH, .id = 9 };
	struct command c = transfer(READ, 7, 1, DATA, 0);

	d.phase[0] = d.phase[1] = true;
	assert_int_equal(run(&d, 1, &c, NULL), 0);
	assert_int_equal(admin(&d, GET_LOG, 2 | 127u << 16, 0, DATA, NULL), 0);
}

static void state_survives_migration(void **state)
{
	struct rig r;

	open_rig(&r);
	struct driver d = start(&r);

	memset(r.disk, 0, RIG_DISK); /* the other rig's is */
	assert_int_equal(move(&d, READ, 0, 1, DATA, 0), 0);
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_are_as_documented),
		cmocka_unit_test(only_what_is_possible_is_enabled),
		cmocka_unit_test(it_says_what_it_is),
		cmocka_unit_test(blocks_are_read_and_written),
		cmocka_unit_test(lists_are_followed),
		cmocka_unit_test(broken_lists_are_refused),
		cmocka_unit_test(impossible_commands_are_refused),
		cmocka_unit_test(the_disks_errors_are_told),
		cmocka_unit_test(blocks_are_cleared),
		cmocka_unit_test(stable_writes_are_flushed),
		cmocka_unit_test(features_are_kept_and_told),
		cmocka_unit_test(logs_are_told),
		cmocka_unit_test(wrong_doorbells_are_events),
		cmocka_unit_test(queues_come_and_go),
		cmocka_unit_test(a_full_completion_queue_is_waited_for),
		cmocka_unit_test(a_wire_stands_for_messages),
		cmocka_unit_test(a_reset_waits_for_the_disk),
		cmocka_unit_test(a_shutdown_flushes),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("nvme", tests, NULL, NULL);
}
