/*
 * Devices other than virtio's that take their work from guest memory, under a driver that writes
 * into their queues what it likes. The input's first byte chooses the device; what follows is a
 * program of operations: queue entries that are nearly right, memory that changes, registers,
 * resets, saves. Whatever happens, the device must neither crash nor hang nor touch what is not
 * guest memory.
 */
#include "device/ahci/ahci.h"
#include "device/e1000/e1000.h"
#include "device/nvme/nvme.h"
#include "fuzz_world.h"

#define BAR	0xd0000000ull
#define BUFFERS 0x20000ull

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void set(struct world *w, u64 at, unsigned size, u64 value)
{
	bus_write(&w->bus, BUS_MMIO, BAR + at, size, value);
}

/* Mostly in memory; now and then at its end, beyond it, or nowhere at all. */
static u64 address(struct input *in)
{
	u8 how = take8(in);

	if (how < 0xe0)
		return BUFFERS + how * 512ull;
	return how < 0xf0   ? BUFFERS + take(in, 2)
	       : how < 0xf8 ? WORLD_RAM - (how & 7) * 8
			    : take(in, 8);
}

static void map_bars(struct world *w)
{
	pci_config_write(&w->pci, 0, PCI_BAR0, 4, (u32)BAR);
	pci_config_write(&w->pci, 0, PCI_BAR0 + 4, 4, 0);
	pci_config_write(&w->pci, 0, PCI_BAR0 + 20, 4, (u32)BAR);
	pci_config_write(&w->pci, 0, PCI_COMMAND, 2, 7);
}

/* ---- NVMe: queue q's entries and completions ---- */

#define NVME_DEPTH 8u
#define NVME_SQ(q) (0x4000ull + 0x2000 * (q))
#define NVME_CQ(q) (0x5000ull + 0x2000 * (q))

static void nvme_lay(struct world *w, unsigned q, unsigned i, u8 op, u64 prp1, const u32 dw[6])
{
	u8 e[64] = { op };

	put_le16(e + 2, (u16)i);
	put_le32(e + 4, 1);
	put_le64(e + 24, prp1);
	put_le64(e + 32, BUFFERS);
	memcpy(e + 40, dw, 24);
	poke(w, NVME_SQ(q) + 64 * i, e, sizeof(e));
}

static void nvme_start(struct world *w)
{
	const u32 make[6] = { 1 | (NVME_DEPTH - 1) << 16, 1 << 16 | 3 };

	map_bars(w);
	set(w, 0x14, 4, 0);
	set(w, 0x24, 4, (NVME_DEPTH - 1) * 0x10001u);
	set(w, 0x28, 8, NVME_SQ(0));
	set(w, 0x30, 8, NVME_CQ(0));
	set(w, 0x14, 4, 0x00460001);
	nvme_lay(w, 0, 0, 5, NVME_CQ(1), make);
	nvme_lay(w, 0, 1, 1, NVME_SQ(1), make);
	set(w, 0x1000, 4, 2);
	set(w, 0x1004, 4, 2);
}

static void nvme_command(struct world *w, struct input *in)
{
	static const u8 admin[] = { 0, 1, 2, 4, 5, 6, 8, 9, 10, 12 }, io[] = { 0, 1, 2, 8, 9 };
	unsigned q = take8(in) & 1, i = take8(in) % NVME_DEPTH;
	u8 op = take8(in), e[64] = { 0 };

	e[0] = op & 0x80 ? op : q ? io[op % sizeof(io)] : admin[op % sizeof(admin)];
	e[1] = op & 0x40 ? take8(in) : 0;
	put_le32(e + 4, op & 0x20 ? take8(in) : 1);
	put_le64(e + 24, address(in));
	put_le64(e + 32, address(in));
	if (q) { /* mostly within the disk */
		put_le32(e + 40, (u32)take(in, 2) & 0xfff);
		put_le32(e + 44, e[0] == 9 ? 4 : op & 0x10 ? take8(in) : 0);
		put_le32(e + 48, take8(in) | (op & 8 ? BIT(30) : 0));
	} else {
		put_le16(e + 40, take8(in));
		put_le16(e + 42, take8(in));
		put_le32(e + 44, (u32)take(in, 4));
	}
	poke(w, NVME_SQ(q) + 64 * i, e, sizeof(e));
	set(w, 0x1000 + 8 * q, 4, (i + 1) % NVME_DEPTH);
}

/* A page of addresses, for lists and ranges. */
static void nvme_list(struct world *w, struct input *in)
{
	u64 at = address(in) & ~7ull;

	for (unsigned i = take8(in) % 32; i; i--, at += 8) {
		u64 entry = address(in) & ~PAGE_MASK;

		poke(w, at, &entry, 8);
	}
}

static void nvme_ring(struct world *w, struct input *in)
{
	u8 bell = take8(in);

	set(w, 0x1000 + 4 * (bell & 0x80 ? bell : bell & 3), 4, take8(in) % (NVME_DEPTH + 2));
}

/* ---- AHCI: the first port's list, and a table for each slot ---- */

#define AHCI_LIST     0x4000ull
#define AHCI_RECEIVED 0x4400ull
#define AHCI_TABLE(n) (0x5000ull + 0x400 * (n))
#define AHCI_USED     8u /* slots */

static void ahci_start(struct world *w)
{
	map_bars(w);
	set(w, 0x04, 4, 2);
	set(w, 0x118, 4, 0);
	set(w, 0x12c, 4, 0);
	set(w, 0x130, 4, ~0u);
	set(w, 0x100, 4, AHCI_LIST);
	set(w, 0x108, 4, AHCI_RECEIVED);
	set(w, 0x114, 4, ~0u);
	set(w, 0x118, 4, 0x11);
}

static void ahci_command(struct world *w, struct input *in)
{
	static const u8 ops[] = { 0x06, 0x20, 0x24, 0x25, 0x2f, 0x30, 0x35, 0x3d, 0x42, 0x47, 0x60,
		0x60, 0x60, 0x61, 0x61, 0x61, 0x91, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xe0, 0xe5, 0xea,
		0xec, 0xef, 0xf8 };
	unsigned slot = take8(in) % AHCI_USED, prds = 1 + take8(in) % 8;
	u8 how = take8(in), op = ops[take8(in) % sizeof(ops)], count = take8(in);
	u8 header[32] = { 5 }, fis[20] = { 0x27, 0x80, op };
	bool queued = op == 0x60 || op == 0x61;

	if (how < 16) /* no frame of a command: a reset, or nonsense */
		fis[how & 1] = take8(in);
	put_le32(header, (how & 0x20 ? take8(in) : 5) | (how & 0x40) | prds << 16);
	put_le64(header + 8, AHCI_TABLE(slot));
	fis[3] = queued ? count : op == 0x06 ? 1 : take8(in);
	put_le16(fis + 4, (u16)(take(in, 2) & 0xfff));
	fis[6] = how & 0x80 ? take8(in) : 0;
	fis[7] = 0x40 | (how & 0x90);
	fis[12] = queued ? (u8)(slot << 3) : op == 0x2f ? 1 : count;
	fis[15] = how & 4;
	poke(w, AHCI_LIST + 32 * slot, header, sizeof(header));
	poke(w, AHCI_TABLE(slot), fis, sizeof(fis));
	for (unsigned i = 0; i < prds; i++) {
		u8 prd[16] = { 0 };

		put_le64(prd, address(in));
		put_le32(prd + 12, (u32)take(in, 2) | (how & 1u) << 31);
		poke(w, AHCI_TABLE(slot) + 0x80 + 16 * i, prd, sizeof(prd));
	}
	if (queued)
		set(w, 0x134, 4, 1u << slot);
	set(w, 0x138, 4, 1u << slot);
}

static void ahci_issue(struct world *w, struct input *in)
{
	set(w, 0x134, 4, take8(in));
	set(w, 0x138, 4, take8(in));
}

static void ahci_recover(struct world *w, struct input *in)
{
	u8 how = take8(in);

	if (how & 1)
		set(w, 0x12c, 4, 1);
	if (how & 2)
		set(w, 0x12c, 4, 0);
	set(w, 0x118, 4, how & 0x18);
	set(w, 0x110, 4, ~0u);
	set(w, 0x118, 4, 0x11);
}

/* ---- e1000: a ring in each direction ---- */

#define E1000_RX    0x4000ull
#define E1000_TX    0x5000ull
#define E1000_COUNT 16u

static void e1000_start(struct world *w)
{
	map_bars(w);
	set(w, 0, 4, BIT(26));
	for (unsigned i = 0; i < E1000_COUNT; i++) {
		u64 at = BUFFERS + 0x800 * i;

		poke(w, E1000_RX + 16 * i, &at, 8);
	}
	set(w, 0x2800, 4, E1000_RX);
	set(w, 0x2808, 4, E1000_COUNT * 16);
	set(w, 0x2818, 4, E1000_COUNT - 1);
	set(w, 0x3800, 4, E1000_TX);
	set(w, 0x3808, 4, E1000_COUNT * 16);
	set(w, 0x100, 4, 0x0000803a);
	set(w, 0x400, 4, 2);
}

static void e1000_send(struct world *w, struct input *in)
{
	unsigned i = take8(in) % E1000_COUNT;
	u8 desc[16] = { 0 }, kind = take8(in);

	if (kind < 64) { /* a context */
		for (unsigned n = 0; n < 8; n++)
			desc[n] = take8(in) & 0x3f;
		put_le32(desc + 8, 0x20000000 | (u32)(take8(in) & 3) << 24);
		desc[13] = take8(in) & 0x7f;
		put_le16(desc + 14, (u16)take(in, 2));
	} else {
		put_le64(desc, address(in));
		put_le32(desc + 8, (u32)take(in, 2) | (kind & 1 ? 0x20100000 : take8(in) << 16) |
					   (u32)(take8(in) & 0x5f) << 24);
		put_le32(desc + 12, (u32)take(in, 4));
	}
	poke(w, E1000_TX + 16 * i, desc, sizeof(desc));
	if (kind & 2)
		set(w, 0x3818, 4, (i + 1) % E1000_COUNT);
}

static void e1000_receive(struct world *w, struct input *in)
{
	u8 frame[2100] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };
	size_t len = take(in, 2) % sizeof(frame);

	frame[0] = (u8)(frame[0] ^ (take8(in) & 1));
	frame[12] = take8(in) & 1 ? 0x81 : 0x08;
	must(w->dev->class->input(w->dev, frame, len) <= len, "took more than given");
	set(w, 0x2818, 4, take8(in) % (E1000_COUNT + 1));
}

static void e1000_register(struct world *w, struct input *in)
{
	static const u16 at[] = { 0x0, 0x10, 0x14, 0x20, 0x38, 0xc8, 0x100, 0x400, 0x2800, 0x2808,
		0x2810, 0x2818, 0x3808, 0x3810, 0x3818, 0x5000, 0x5400, 0x5404 };

	set(w, at[take8(in) % ARRAY_LEN(at)], 4, (u32)take(in, 4));
}

/* ---- what all have ---- */

static const struct subject {
	const struct device_class *class;
	u64 registers; /* bytes of them worth a try */
	void (*start)(struct world *w);
	void (*ops[4])(struct world *w, struct input *in);
} subjects[] = {
	{ &nvme_class, 0x40, nvme_start, { nvme_command, nvme_command, nvme_list, nvme_ring } },
	{ &ahci_class, 0x200, ahci_start,
		{ ahci_command, ahci_command, ahci_issue, ahci_recover } },
	{ &e1000_class, 0x6000, e1000_start,
		{ e1000_send, e1000_send, e1000_receive, e1000_register } },
};

static void op_poke(struct world *w, struct input *in)
{
	u64 at = take(in, 3) % WORLD_RAM, value = take(in, 4);

	poke(w, at, &value, 4);
}

static void op_register(struct world *w, const struct subject *s, struct input *in)
{
	unsigned how = take8(in), size = 1u << (how & 3);
	u64 at = take(in, 2) % (how & 0x80 ? 0x4000 : s->registers);

	if (how & 0x40)
		bus_read(&w->bus, BUS_MMIO, BAR + at, size);
	else
		set(w, at, size, take(in, size));
}

static void op_config(struct world *w, struct input *in)
{
	unsigned size = 1u << take8(in) % 3;

	if (take8(in) & 1)
		pci_config_read(&w->pci, 0, take8(in), size);
	else
		pci_config_write(&w->pci, 0, take8(in), size, (u32)take(in, size));
}

static void op_disk(struct world *w, struct input *in)
{
	u8 how = take8(in);

	world_disk_end(w, how >> 4, how & 7 ? 0 : -5);
}

static void op_input(struct world *w, struct input *in)
{
	static const u8 frame[4096];
	size_t len = take(in, 2) % sizeof(frame);

	if (w->dev->class->input)
		must(w->dev->class->input(w->dev, frame, len) <= len, "took more than given");
}

static void step(struct world *w, const struct subject *s, struct input *in)
{
	unsigned op = take8(in) & 31;

	if (op < 20)
		s->ops[op % 4](w, in);
	else if (op < 23)
		op_disk(w, in);
	else if (op < 25)
		op_poke(w, in);
	else if (op < 27)
		op_register(w, s, in);
	else if (op == 27)
		op_config(w, in);
	else if (op == 28)
		op_input(w, in);
	else if (op == 29)
		clock_advance(&w->clock, take8(in) * 1000ull);
	else if (op == 30)
		world_load(w, in);
	else if (take8(in) & 1)
		s->start(w);
	else
		w->dev->class->reset(w->dev);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct input in = { data, data + size };
	const struct subject *s = &subjects[take8(&in) % ARRAY_LEN(subjects)];
	struct world w;

	world_open(&w, s->class);
	s->start(&w);
	while (in.at < in.end)
		step(&w, s, &in);
	world_close(&w);
	return 0;
}
