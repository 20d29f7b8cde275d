/*
 * What a device costs in exits, one request after another: bench/exits runs this guest program
 * (tests/guest/lib is its runtime) in several monitors and counts from outside. The first sector of
 * the virtio disk says which device is to be used, and for how many requests; so runs that differ
 * in the number only tell what one request takes.
 *
 * A driver here does what a good one does at least: tell the device, halt until it interrupts, and
 * acknowledge what has to be. Each request ends before the next begins.
 *
 * virtio 1.2, NVM Express 1.4, the 8254x software developer's manual; sections beside the code.
 */
#include "apic.h"
#include "paging.h"

#define VECTOR 0x60u

struct order { /* in the first sector */
	u32 device, requests;
	u32 window; /* how long interrupts are taken after each: so many PAUSEs */
};

/* ---- PCI (Local Bus 3.0, 6.1 and 6.8.2) ---- */

enum { PCI_COMMAND = 4, PCI_CLASS = 8, PCI_BAR = 0x10, PCI_CAPABILITIES = 0x34 };
enum { CAP_VENDOR = 0x09, CAP_MSIX = 0x11 };
#define COMMAND_MEMORY_MASTER 0x6u
#define MSIX_ENABLE	      0x8000u
#define WINDOW_PAGES	      16u

static u32 pci; /* the device in use: its bus, device and function as the address port wants them */

static u32 pci_read(u32 at)
{
	outl(0xcf8, 0x80000000u | pci | (at & ~3u));
	return inl(0xcfc) >> (at & 3) * 8;
}

static void pci_write(u32 at, u32 v)
{
	outl(0xcf8, 0x80000000u | pci | at);
	outl(0xcfc, v);
}

/* What is not there has the class 0xffffff. */
static bool pci_find(u32 class)
{
	for (pci = 0; pci < 32u << 11; pci += 1u << 11)
		if (pci_read(PCI_CLASS) >> 8 == class)
			return true;
	return false;
}

static u32 pci_capability(u32 after, u8 id)
{
	u32 at = (after ? pci_read(after + 1) : pci_read(PCI_CAPABILITIES)) & 0xfc;

	while (at && (pci_read(at) & 0xff) != id)
		at = pci_read(at + 1) & 0xfc;
	return at;
}

/* A place for this BAR's registers. A firmware has given it addresses, or it gets some here. */
static volatile u8 *pci_registers(u32 bar)
{
	static u32 next = 0xe8000000u;
	ulong at =
		TEST_VA + (ulong)(pci >> 11) * 8 * WINDOW_PAGES * PAGE + bar * WINDOW_PAGES * PAGE;
	u32 where = PCI_BAR + bar * 4, low = pci_read(where);
	bool wide = (low & 6) == 4;

	if (!(low & ~15u) && !(wide && pci_read(where + 4))) {
		pci_write(where, next);
		next += 1u << 20;
	}
	ulong to = (pci_read(where) & ~15u) | (wide ? (ulong)pci_read(where + 4) << 32 : 0);

	for (ulong i = 0; i < WINDOW_PAGES; i++)
		pt_map(at + i * PAGE, to + i * PAGE, PTE_P | PTE_W);
	pci_write(PCI_COMMAND, (pci_read(PCI_COMMAND) & 0xffff) | COMMAND_MEMORY_MASTER);
	return (volatile u8 *)at;
}

static void put32(volatile u8 *at, u32 v) { *(volatile u32 *)at = v; }
static void put16(volatile u8 *at, u16 v) { *(volatile u16 *)at = v; }
static u32 get32(volatile u8 *at) { return *(volatile u32 *)at; }
static u16 get16(volatile u8 *at) { return *(volatile u16 *)at; }

/* The first entry of the device's table interrupts this processor. */
static void msix_enable(void)
{
	u32 cap = pci_capability(0, CAP_MSIX), table = pci_read(cap + 4);
	volatile u8 *entry = pci_registers(table & 7) + (table & ~7u);

	put32(entry, 0xfee00000u | (lapic_read(APIC_ID) >> 24) << 12);
	put32(entry + 4, 0);
	put32(entry + 8, VECTOR);
	put32(entry + 12, 0);
	pci_write(cap, (pci_read(cap) & 0x3fffffff) | MSIX_ENABLE << 16);
}

static u32 interrupts;

static void end_of_interrupt(struct frame *f)
{
	interrupts++;
	lapic_write(APIC_EOI, 0);
}

static u8 data[PAGE] ALIGNED(PAGE);

/* ---- virtio (4.1.4 its structures, 2.7 the split ring) ---- */

enum { VIRTIO_COMMON = 1, VIRTIO_NOTIFY = 2 };
enum {
	COMMON_FEATURES_SELECT = 8,
	COMMON_FEATURES = 12,
	COMMON_STATUS = 20,
	COMMON_QUEUE = 22,
	COMMON_QUEUE_SIZE = 24,
	COMMON_QUEUE_VECTOR = 26,
	COMMON_QUEUE_ENABLE = 28,
	COMMON_QUEUE_NOTIFY = 30,
	COMMON_QUEUE_DESCRIPTORS = 32,
	COMMON_QUEUE_DRIVER = 40,
	COMMON_QUEUE_DEVICE = 48,
};
#define RING	      8u
#define NEXT	      1
#define DEVICE_WRITES 2

static struct {
	struct descriptor_ {
		u64 at;
		u32 len;
		u16 flags, next;
	} row[RING];
	struct {
		u16 flags, index, row[RING];
	} driver;
	struct {
		u16 flags, index;
		struct {
			u32 row, len;
		} row[RING];
	} device ALIGNED(4);
} volatile ring ALIGNED(PAGE);

static volatile u8 *doorbell;
static u16 ring_number;

static volatile u8 *virtio_structure(u8 type, u32 *cap)
{
	for (*cap = pci_capability(0, CAP_VENDOR); *cap; *cap = pci_capability(*cap, CAP_VENDOR))
		if ((pci_read(*cap + 3) & 0xff) == type)
			return pci_registers(pci_read(*cap + 4) & 0xff) + pci_read(*cap + 8);
	return NULL;
}

static void put_address(volatile u8 *at, volatile void *what)
{
	put32(at, (u32)(ulong)what);
	put32(at + 4, 0);
}

static void virtio_start(u16 queue)
{
	u32 cap;
	volatile u8 *common = virtio_structure(VIRTIO_COMMON, &cap);

	memset((void *)&ring, 0, sizeof(ring));
	msix_enable();
	common[COMMON_STATUS] = 0;
	while (common[COMMON_STATUS])
		;
	common[COMMON_STATUS] = 3; /* acknowledged; driver */
	put32(common + COMMON_FEATURES_SELECT, 0);
	put32(common + COMMON_FEATURES, 0);
	put32(common + COMMON_FEATURES_SELECT, 1);
	put32(common + COMMON_FEATURES, 1); /* VIRTIO_F_VERSION_1 */
	common[COMMON_STATUS] = 11;
	put16(common + COMMON_QUEUE, queue);
	put16(common + COMMON_QUEUE_SIZE, RING);
	put16(common + COMMON_QUEUE_VECTOR, 0);
	put_address(common + COMMON_QUEUE_DESCRIPTORS, &ring.row);
	put_address(common + COMMON_QUEUE_DRIVER, &ring.driver);
	put_address(common + COMMON_QUEUE_DEVICE, &ring.device);
	u16 place = get16(common + COMMON_QUEUE_NOTIFY);
	put16(common + COMMON_QUEUE_ENABLE, 1);
	common[COMMON_STATUS] = 15;
	doorbell = virtio_structure(VIRTIO_NOTIFY, &cap);
	doorbell += place * pci_read(cap + 16);
	ring_number = queue;
}

static void describe(unsigned row, volatile void *at, u32 len, u16 flags)
{
	ring.row[row] = (struct descriptor_){ (ulong)at, len, flags, (u16)(row + 1) };
}

static void virtio_submit(void)
{
	ring.driver.row[ring.driver.index % RING] = 0;
	__asm__ volatile("" ::: "memory");
	ring.driver.index++;
	__asm__ volatile("mfence" ::: "memory");
	put16(doorbell, ring_number);
}

static bool virtio_done(void) { return ring.device.index == ring.driver.index; }

/* 5.2.6: type 0 reads; the sector; then the data and a status byte. */
static volatile struct {
	u32 type, reserved;
	u64 sector;
} blk_header;
static volatile u8 blk_status;

static void blk_start(void)
{
	virtio_start(0);
	describe(0, &blk_header, sizeof(blk_header), NEXT);
	describe(1, data, sizeof(data), NEXT | DEVICE_WRITES);
	describe(2, &blk_status, 1, DEVICE_WRITES);
}

/* 5.1.6: a header of zeroes, and a frame; queue 1 sends. */
static u8 net_header[12];

static void net_start(void)
{
	virtio_start(1);
	describe(0, net_header, sizeof(net_header), NEXT);
	describe(1, data, 64, 0);
}

/* ---- NVM Express (3.1 registers, 4.2 and 4.6 entries, 5 and 6.9 commands) ---- */

enum {
	NVME_CAP = 0,
	NVME_CC = 0x14,
	NVME_CSTS = 0x1c,
	NVME_AQA = 0x24,
	NVME_ASQ = 0x28,
	NVME_ACQ = 0x30
};
enum { NVME_CREATE_SQ = 1, NVME_READ = 2, NVME_CREATE_CQ = 5 };
#define NVME_ENABLE (6u << 16 | 4u << 20 | 1) /* entries of 64 and 16 bytes */

struct nvme_queue {
	volatile u32 (*commands)[16], (*ends)[4];
	volatile u8 *tail_bell, *head_bell;
	u32 tail, head, phase;
};
static volatile u32 nvme_rows[2][PAGE / 64][16] ALIGNED(PAGE);
static volatile u32 nvme_ends[2][PAGE / 16][4] ALIGNED(PAGE);
static struct nvme_queue admin, io;

static void nvme_submit_to(struct nvme_queue *q, u32 opcode, ulong page, u32 d10, u32 d11)
{
	volatile u32 *c = q->commands[q->tail];

	for (unsigned i = 0; i < 16; i++)
		c[i] = 0;
	c[0] = opcode;
	c[1] = opcode == NVME_READ;
	c[6] = (u32)page;
	c[10] = d10;
	c[11] = d11;
	c[12] = opcode == NVME_READ ? PAGE / 512 - 1 : 0;
	q->tail = (q->tail + 1) % RING;
	__asm__ volatile("mfence" ::: "memory");
	put32(q->tail_bell, q->tail);
}

static bool nvme_ended(struct nvme_queue *q)
{
	if ((q->ends[q->head][3] >> 16 & 1) != q->phase)
		return false;
	CHECK_EQ(q->ends[q->head][3] >> 17, 0);
	q->head = (q->head + 1) % RING;
	q->phase ^= !q->head;
	put32(q->head_bell, q->head);
	return true;
}

static void nvme_queue_init(struct nvme_queue *q, volatile u8 *registers, unsigned number)
{
	u32 stride = 4u << (get32(registers + NVME_CAP + 4) & 15);

	*q = (struct nvme_queue){ .commands = nvme_rows[number],
		.ends = nvme_ends[number],
		.tail_bell = registers + 0x1000 + 2 * number * stride,
		.head_bell = registers + 0x1000 + (2 * number + 1) * stride,
		.phase = 1 };
}

static void nvme_admin(u32 opcode, volatile void *page, u32 d10, u32 d11)
{
	nvme_submit_to(&admin, opcode, (ulong)page, d10, d11);
	while (!nvme_ended(&admin))
		;
}

static void nvme_start(void)
{
	volatile u8 *registers = pci_registers(0);

	put32(registers + NVME_CC, 0);
	while (get32(registers + NVME_CSTS) & 1)
		;
	msix_enable();
	nvme_queue_init(&admin, registers, 0);
	nvme_queue_init(&io, registers, 1);
	put32(registers + NVME_AQA, (RING - 1) << 16 | (RING - 1));
	put_address(registers + NVME_ASQ, admin.commands);
	put_address(registers + NVME_ACQ, admin.ends);
	put32(registers + NVME_CC, NVME_ENABLE);
	while (!(get32(registers + NVME_CSTS) & 1))
		;
	nvme_admin(NVME_CREATE_CQ, io.ends, (RING - 1) << 16 | 1, 3);
	nvme_admin(NVME_CREATE_SQ, io.commands, (RING - 1) << 16 | 1, 1 << 16 | 1);
}

static void nvme_submit(void) { nvme_submit_to(&io, NVME_READ, (ulong)data, 0, 0); }
static bool nvme_done(void) { return nvme_ended(&io); }

/* ---- e1000 (3.3.3 descriptors, 13.4 registers): it has no messages, only a line ---- */

enum {
	E1000_ICR = 0xc0,
	E1000_IMS = 0xd0,
	E1000_TCTL = 0x400,
	E1000_TDBAL = 0x3800,
	E1000_TDLEN = 0x3808
};
enum { E1000_TDH = 0x3810, E1000_TDT = 0x3818 };

static struct {
	u64 at;
	u16 len;
	u8 cso, command, status, css;
	u16 special;
} volatile e1000_row[RING] ALIGNED(128);
static volatile u8 *e1000;
static u32 e1000_tail;

static void on_line(struct frame *f)
{
	(void)get32(e1000 + E1000_ICR); /* lets go of the line */
	end_of_interrupt(f);
}

static void e1000_start(void)
{
	e1000 = pci_registers(0);
	trap_hook[VECTOR] = on_line;
	/* Wherever the board has led the line. */
	for (unsigned pin = 3; pin < 24; pin++)
		if (pin >= 16 || pin == 5 || (pin >= 9 && pin <= 11))
			ioapic_route(pin, 0x8000 | VECTOR, (u8)(lapic_read(APIC_ID) >> 24));
	put_address(e1000 + E1000_TDBAL, e1000_row);
	put32(e1000 + E1000_TDLEN, sizeof(e1000_row));
	put32(e1000 + E1000_TDH, 0);
	put32(e1000 + E1000_TDT, 0);
	put32(e1000 + E1000_TCTL, 0x2 | 0x8 | 0xf0 | 0x40000); /* on, short frames filled */
	put32(e1000 + E1000_IMS, 1);			       /* a descriptor was written back */
}

static void e1000_submit(void)
{
	e1000_row[e1000_tail].at = (ulong)data;
	e1000_row[e1000_tail].len = 64;
	e1000_row[e1000_tail].command = 0x1 | 0x2 | 0x8; /* whole, with a checksum; report it */
	e1000_row[e1000_tail].status = 0;
	e1000_tail = (e1000_tail + 1) % RING;
	__asm__ volatile("mfence" ::: "memory");
	put32(e1000 + E1000_TDT, e1000_tail);
}

static bool e1000_done(void) { return e1000_row[(e1000_tail + RING - 1) % RING].status & 1; }

/* ---- */

static const struct kind {
	u32 class; /* the machine has one device of each */
	void (*start)(void), (*submit)(void);
	bool (*done)(void);
} kinds[] = {
	{ 0x010000, blk_start, virtio_submit, virtio_done },
	{ 0x020000, net_start, virtio_submit, virtio_done },
	{ 0x010802, nvme_start, nvme_submit, nvme_done },
	{ 0x020000, e1000_start, e1000_submit, e1000_done },
};

static void request(const struct kind *k, u32 window)
{
	k->submit();
	__asm__ volatile("cli");
	while (!k->done())
		__asm__ volatile("sti\n\thlt\n\tcli");
	/* It may have ended before anybody could wait; software-only KVMs overlook short windows.
	 */
	__asm__ volatile("sti");
	for (u32 i = 0; i < window; i++)
		__asm__ volatile("pause");
	__asm__ volatile("cli");
}

static void measure(void)
{
	lapic_enable();
	pic_init(0x20, 0x28);
	trap_hook[VECTOR] = end_of_interrupt;
	CHECK(pci_find(kinds[0].class));
	blk_start();
	request(&kinds[0], 0);
	struct order order = *(struct order *)(void *)data;
	if (order.device >= ARRAY_LEN(kinds) || !pci_find(kinds[order.device].class)) {
		CHECK(!"the device is there");
		return;
	}
	memset(data, 0xff, 12); /* a frame for everybody */
	kinds[order.device].start();
	interrupts = 0;
	for (u32 i = 0; i < order.requests; i++)
		request(&kinds[order.device], order.window);
	print("DONE ");
	print_hex(order.requests);
	print(" INTERRUPTS ");
	print_hex(interrupts);
	print("\n");
}

const struct test tests[] = { { "requests", measure, 1 }, { 0 } };
