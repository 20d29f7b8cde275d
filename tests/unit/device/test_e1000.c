/* The 82540EM under a small driver: Intel 317453, and what drivers get wrong. */
#include "device/e1000/e1000.h"
#include "device/ethernet.h"
#include "rig.h"

#define BAR	0xd0000000ull
#define REG(at) (BAR + (at))
#define PORTS	0x3000u
#define RX	0x10000ull
#define TX	0x11000ull
#define BUFFERS 0x20000ull
#define DATA	0x40000ull
#define COUNT	8u

enum {
	CTRL = 0,
	STATUS = 8,
	EECD = 0x10,
	EERD = 0x14,
	MDIC = 0x20,
	ICR = 0xc0,
	ICS = 0xc8,
	IMS = 0xd0,
	IMC = 0xd8,
	RCTL = 0x100,
	TCTL = 0x400,
	RDBAL = 0x2800,
	RDLEN = 0x2808,
	RDH = 0x2810,
	RDT = 0x2818,
	TDBAL = 0x3800,
	TDLEN = 0x3808,
	TDH = 0x3810,
	TDT = 0x3818,
	RXCSUM = 0x5000,
	MTA = 0x5200,
	VFTA = 0x5600
};

#define RX_ON (BIT(1) | BIT(15))
#define STRIP BIT(26)
#define TX_ON BIT(1)
#define TXDW  BIT(0)
#define RXT0  BIT(7)

static const u8 mac[6] = ETHERNET_USUAL_MAC;

static u32 get(struct rig *r, u64 at) { return (u32)bus_read(&r->bus, BUS_MMIO, REG(at), 4); }
static void set(struct rig *r, u64 at, u32 v) { bus_write(&r->bus, BUS_MMIO, REG(at), 4, v); }
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
	for (unsigned i = 0; i < PCI_LINKS; i++)
		r->pci.links[i] = (struct irq_line){ rig_line, r, i };
}

static void open_rig(struct rig *r)
{
	rig_open(r, &e1000_class);
	r->configure = configure;
	configure(r);
	pci_config_write(&r->pci, 0, PCI_BAR0, 4, (u32)BAR);
	pci_config_write(&r->pci, 0, PCI_BAR0 + 8, 4, PORTS);
	pci_config_write(&r->pci, 0, PCI_COMMAND, 2, 7);
}

static void start(struct rig *r, u32 rctl)
{
	for (unsigned i = 0; i < COUNT; i++) {
		u8 desc[16] = { 0 };

		put_le64(desc, BUFFERS + 0x1000 * i);
		poke(r, RX + 16 * i, desc, sizeof(desc));
	}
	set(r, RDBAL, RX);
	set(r, RDLEN, COUNT * 16);
	set(r, RDT, COUNT - 1);
	set(r, TDBAL, TX);
	set(r, TDLEN, COUNT * 16);
	set(r, IMS, TXDW | RXT0);
	set(r, RCTL, rctl);
	set(r, TCTL, TX_ON);
}

/* An IPv4 frame with TCP or UDP, whose checksums are for others to make. */
static u64 make_frame(u8 *frame, u8 protocol, u64 payload)
{
	u64 len = 14 + 20 + (protocol == 6 ? 20 : 8) + payload;

	memset(frame, 0, len);
	memcpy(frame, mac, 6);
	put_be16(frame + 12, 0x0800);
	frame[14] = 0x45;
	put_be16(frame + 16, (u16)(len - 14));
	frame[22] = 64;
	frame[23] = protocol;
	put_be32(frame + 26, 0x0a00020f);
	put_be32(frame + 30, 0x0a000202);
	if (protocol == 6)
		frame[46] = 0x50;
	for (u64 i = len - payload; i < len; i++)
		frame[i] = (u8)(i * 7);
	return len;
}

/* The sum of the pseudo header, with the length or without (0). */
static u16 pseudo(const u8 *frame, u16 len)
{
	u8 words[12];

	memcpy(words, frame + 26, 8);
	put_be16(words + 8, frame[23]);
	put_be16(words + 10, len);
	return ethernet_sum(words, sizeof(words));
}

static void assert_sums_are_right(const u8 *frame, u64 len)
{
	u32 sum = ethernet_sum(frame + 34, len - 34) + pseudo(frame, (u16)(len - 34));

	assert_int_equal(ethernet_sum(frame + 14, 20), 0xffff);
	assert_int_equal((u16)(sum + (sum >> 16)), 0xffff);
}

static void lay_tx(struct rig *r, unsigned i, u64 at, u32 word, u32 upper)
{
	u8 desc[16] = { 0 };

	put_le64(desc, at);
	put_le32(desc + 8, word);
	put_le32(desc + 12, upper);
	poke(r, TX + 16 * i, desc, sizeof(desc));
}

static void registers_are_as_documented(void **state)
{
	struct rig r;

	open_rig(&r);
	assert_int_equal(pci_config_read(&r.pci, 0, 0, 4), 0x100e8086);
	assert_int_equal(get(&r, STATUS) & 0xc3, 0x83);
	assert_int_equal(get(&r, 0x5400), 0x12005452);
	assert_int_equal(get(&r, 0x5404), 0x80005634);
	set(&r, 0x5400, 7);
	set(&r, VFTA + 4 * 127, 9);
	assert_int_equal(get(&r, VFTA + 4 * 127), 9);
	set(&r, CTRL, BIT(26));
	assert_int_equal(get(&r, 0x5400), 0x12005452);
	assert_int_equal(get(&r, VFTA + 4 * 127), 0);
	/* One at a time, by ports. */
	out32(&r, PORTS, 0x5400);
	assert_int_equal(in32(&r, PORTS + 4), 0x12005452);
	out32(&r, PORTS + 4, 3);
	assert_int_equal(get(&r, 0x5400), 3);
	set(&r, RDLEN, 0xffffffff);
	assert_int_equal(get(&r, RDLEN), 0xfff80);
	rig_close(&r);
}

static u16 read_word(struct rig *r, unsigned word)
{
	u16 command = (u16)(6 << 6 | word), data = 0;

	set(r, EECD, 0x40);
	assert_true(get(r, EECD) & 0x80);
	set(r, EECD, 0x42);
	for (unsigned i = 9; i--;) {
		u32 in = command >> i & 1 ? 4 : 0;

		set(r, EECD, 0x42 | in);
		set(r, EECD, 0x43 | in);
		set(r, EECD, 0x42 | in);
	}
	assert_false(get(r, EECD) & 8);
	for (unsigned i = 0; i < 16; i++) {
		set(r, EECD, 0x43);
		data = (u16)(data << 1 | !!(get(r, EECD) & 8));
		set(r, EECD, 0x42);
	}
	set(r, EECD, 0x40);
	return data;
}

static void the_eeprom_adds_up(void **state)
{
	u16 sum = 0;
	struct rig r;

	open_rig(&r);
	for (unsigned i = 0; i < 64; i++) {
		u16 word = read_word(&r, i);

		set(&r, EERD, i << 8 | 1);
		assert_int_equal(get(&r, EERD), (u32)word << 16 | i << 8 | 0x10);
		sum = (u16)(sum + word);
	}
	assert_int_equal(sum, 0xbaba);
	assert_int_equal(read_word(&r, 0), 0x5452);
	assert_int_equal(read_word(&r, 2), 0x5634);
	rig_close(&r);
}

static u32 phy(struct rig *r, unsigned op, unsigned reg, u16 value)
{
	set(r, MDIC, op << 26 | 1u << 21 | reg << 16 | value);
	return get(r, MDIC);
}

static void the_phy_has_a_link(void **state)
{
	struct rig r;

	open_rig(&r);
	assert_int_equal(phy(&r, 2, 2, 0), 0x18220141);
	assert_int_equal(phy(&r, 2, 3, 0) & 0xffff, 0x0c20);
	assert_int_equal(phy(&r, 2, 1, 0) & 0x24, 0x24);
	phy(&r, 1, 4, 0x1234);
	assert_int_equal(phy(&r, 2, 4, 0) & 0xffff, 0x1234);
	phy(&r, 1, 2, 0);
	assert_int_equal(phy(&r, 2, 2, 0) & 0xffff, 0x0141);
	phy(&r, 1, 0, 0x1340);
	assert_int_equal(get(&r, ICR), BIT(2));
	assert_int_equal(phy(&r, 2, 0, 0) & 0xffff, 0x1140);
	phy(&r, 1, 0, 0x8000);
	assert_int_equal(phy(&r, 2, 4, 0) & 0xffff, 0x0de1);
	set(&r, MDIC, 2u << 26 | 2u << 21);
	assert_true(get(&r, MDIC) & BIT(30));
	rig_close(&r);
}

static void frames_are_received(void **state)
{
	u8 frame[100], got[100], desc[16];
	struct rig r;

	open_rig(&r);
	start(&r, RX_ON);
	set(&r, RXCSUM, 0x300);
	u64 len = make_frame(frame, 17, 8);

	assert_int_equal(r.dev->class->input(r.dev, frame, len), len);
	peek(&r, RX, desc, sizeof(desc));
	assert_int_equal(get_le16(desc + 8), 64);
	assert_int_equal(desc[12], 0x63);
	peek(&r, BUFFERS, got, 64);
	assert_memory_equal(got, frame, len);
	assert_int_equal(get(&r, RDH), 1);
	assert_true(r.level[pci_link(0, 1)]);
	assert_int_equal(get(&r, ICR) & RXT0, RXT0);
	assert_false(r.level[pci_link(0, 1)]);
	assert_int_equal(get(&r, 0x4074), 1);
	assert_int_equal(get(&r, 0x4074), 0);
	assert_int_equal(get(&r, 0x4088), 64);
	rig_close(&r);
}

static void long_frames_take_several_descriptors(void **state)
{
	u8 frame[1514], desc[16];
	struct rig r;

	open_rig(&r);
	start(&r, RX_ON | STRIP | 2u << 16); /* buffers of 512 bytes */
	make_frame(frame, 6, sizeof(frame) - 54);
	assert_int_equal(r.dev->class->input(r.dev, frame, sizeof(frame)), sizeof(frame));
	assert_int_equal(get(&r, RDH), 3);
	for (unsigned i = 0; i < 3; i++) {
		u8 got[512];

		peek(&r, RX + 16 * i, desc, sizeof(desc));
		assert_int_equal(get_le16(desc + 8), i < 2 ? 512 : 490);
		assert_int_equal(desc[12] & 2, i < 2 ? 0 : 2);
		peek(&r, BUFFERS + 0x1000 * i, got, sizeof(got));
		assert_memory_equal(got, frame + 512 * i, i < 2 ? 512 : 490);
	}
	/* Four are left: one more frame, and then one that has to wait. */
	assert_int_equal(r.dev->class->input(r.dev, frame, sizeof(frame)), sizeof(frame));
	assert_int_equal(r.dev->class->input(r.dev, frame, sizeof(frame)), 0);
	assert_int_equal(r.net_rooms, 0);
	set(&r, RDT, 5);
	assert_int_equal(r.net_rooms, 1);
	assert_int_equal(r.dev->class->input(r.dev, frame, sizeof(frame)), sizeof(frame));
	rig_close(&r);
}

static bool takes(struct rig *r, const u8 *frame, size_t len)
{
	u32 before = get(r, RDH);

	assert_int_equal(r->dev->class->input(r->dev, frame, len), len);
	set(r, RDT, get(r, RDH) ? get(r, RDH) - 1 : COUNT - 1);
	return get(r, RDH) != before;
}

static void frames_are_filtered(void **state)
{
	u8 frame[2000];
	struct rig r;

	open_rig(&r);
	start(&r, RX_ON);
	u64 len = make_frame(frame, 17, 8);

	assert_true(takes(&r, frame, len));
	frame[5] ^= 1;
	assert_false(takes(&r, frame, len));
	set(&r, RCTL, RX_ON | BIT(3));
	assert_true(takes(&r, frame, len));
	set(&r, RCTL, RX_ON);
	memset(frame, 0xff, 6);
	assert_true(takes(&r, frame, len));
	set(&r, RCTL, BIT(1));
	assert_false(takes(&r, frame, len));
	/* A group: bits 47:36 of its address. */
	memcpy(frame, (const u8[]){ 0x01, 0x00, 0x5e, 0x00, 0x12, 0x34 }, 6);
	assert_false(takes(&r, frame, len));
	set(&r, MTA + 4 * (0x341 >> 5), 1u << (0x341 & 31));
	assert_true(takes(&r, frame, len));
	make_frame(frame, 17, 1600);
	assert_false(takes(&r, frame, 1642));
	set(&r, RCTL, RX_ON | BIT(5));
	assert_true(takes(&r, frame, 1642));
	set(&r, RCTL, 0);
	assert_false(takes(&r, frame, len));
	rig_close(&r);
}

static void tags_are_put_on_and_taken_off(void **state)
{
	u8 frame[128], got[64], desc[16];
	struct rig r;

	open_rig(&r);
	start(&r, RX_ON | STRIP);
	set(&r, CTRL, get(&r, CTRL) | BIT(30));
	u64 len = make_frame(frame, 17, 30);

	poke(&r, DATA, frame, len);
	lay_tx(&r, 0, DATA, (u32)len | 0x4b000000, 0x00050000); /* the tag 5 */
	set(&r, TDT, 1);
	assert_int_equal(r.frame_len, len + 4);
	assert_int_equal(get_be32(r.frame + 12), 0x81000005);
	assert_memory_equal(r.frame + 16, frame + 12, len - 12);
	assert_true(takes(&r, r.frame, r.frame_len));
	peek(&r, RX, desc, sizeof(desc));
	assert_int_equal(desc[12] & 8, 8);
	assert_int_equal(get_le16(desc + 14), 5);
	peek(&r, BUFFERS, got, sizeof(got));
	assert_memory_equal(got, frame, sizeof(got));
	set(&r, RCTL, RX_ON | STRIP | BIT(18)); /* only those in the table */
	assert_false(takes(&r, r.frame, r.frame_len));
	set(&r, VFTA, BIT(5));
	assert_true(takes(&r, r.frame, r.frame_len));
	rig_close(&r);
}

static void legacy_descriptors_are_sent(void **state)
{
	u8 frame[100], desc[16];
	struct rig r;

	open_rig(&r);
	start(&r, 0);
	u64 len = make_frame(frame, 17, 20);

	poke(&r, DATA, frame, len);
	lay_tx(&r, 0, DATA, 40, 0);
	lay_tx(&r, 1, DATA + 40, ((u32)len - 40) | 24u << 16 | 0x0d000000, 14u << 8);
	set(&r, TDT, 2);
	assert_int_equal(r.frames, 1);
	assert_int_equal(r.frame_len, len);
	assert_memory_equal(r.frame, frame, 24);
	assert_int_equal(get_le16(r.frame + 24), (u16)~ethernet_sum(frame + 14, len - 14));
	peek(&r, TX + 16, desc, sizeof(desc));
	assert_int_equal(desc[12], 1);
	assert_int_equal(get(&r, TDH), 2);
	assert_true(r.level[pci_link(0, 1)]);
	assert_int_equal(get(&r, 0x4080), 1);
	rig_close(&r);
}

static void lay_context(struct rig *r, unsigned i, u8 protocol, u32 payload, u16 mss, u8 head)
{
	const u8 desc[16] = { 14, 24, 33, 0, 34, (u8)(protocol == 6 ? 50 : 40), 0, 0, (u8)payload,
		(u8)(payload >> 8), (u8)(payload >> 16), (u8)(0x22 | (protocol == 6)), 0, head,
		(u8)mss, (u8)(mss >> 8) };

	poke(r, TX + 16 * i, desc, sizeof(desc));
}

static void checksums_are_inserted(void **state)
{
	static const u8 protocols[] = { 6, 17 };
	u8 frame[600];

	for (unsigned i = 0; i < ARRAY_LEN(protocols); i++) {
		struct rig r;

		open_rig(&r);
		start(&r, 0);
		u64 len = make_frame(frame, protocols[i], 99);

		if (protocols[i] == 17)
			put_be16(frame + 38, 107);
		put_le16(frame + (i ? 40 : 50), pseudo(frame, (u16)(len - 34)));
		poke(&r, DATA, frame, len);
		lay_context(&r, 0, protocols[i], 0, 0, 0);
		lay_tx(&r, 1, DATA, (u32)len | 0x29100000, 0x300);
		set(&r, TDT, 2);
		assert_int_equal(r.frame_len, len);
		assert_sums_are_right(r.frame, len);
		rig_close(&r);
	}
}

/* Collects every frame: the rig remembers the last one. */
static struct {
	u8 payload[8192];
	u64 len;
	unsigned frames;
} got;

static void take_segment(void *ctx, const u8 *frame, size_t len)
{
	assert_sums_are_right(frame, len);
	assert_int_equal(get_be16(frame + 16), len - 14);
	assert_int_equal(get_be16(frame + 18), 7 + got.frames);
	assert_int_equal(get_be32(frame + 38), 1000 + got.len);
	memcpy(got.payload + got.len, frame + 54, len - 54);
	got.len += len - 54;
	got.frames++;
	assert_int_equal(frame[47], got.len == 4000 ? 0x19 : 0x10);
}

static void messages_are_cut_into_segments(void **state)
{
	static const struct net_ops small = { false, take_segment, rig_net_room };
	static const struct net_ops large = { true, take_segment, rig_net_room };
	u8 frame[4054];

	for (unsigned i = 0; i < 2; i++) {
		struct rig r;

		open_rig(&r);
		r.dev->env.net = i ? &large : &small;
		start(&r, 0);
		make_frame(frame, 6, 4000);
		put_be16(frame + 16, 0);
		put_be16(frame + 18, 7);
		put_be32(frame + 38, 1000);
		frame[47] = 0x19;
		put_le16(frame + 50, pseudo(frame, 0));
		poke(&r, DATA, frame, sizeof(frame));
		memset(&got, 0, sizeof(got));
		lay_context(&r, 0, 6, 4000, 1460, 54);
		lay_tx(&r, 1, DATA, 54 | 0x24100000, 0x300);
		lay_tx(&r, 2, DATA + 54, 4000 | 0x2d100000, 0x300);
		set(&r, TDT, 3);
		assert_int_equal(got.frames, i ? 1 : 3);
		assert_int_equal(got.len, 4000);
		assert_memory_equal(got.payload, frame + 54, 4000);
		assert_int_equal(get(&r, 0x40f8), 1);
		rig_close(&r);
	}
}

static void nonsense_is_not_sent(void **state)
{
	u8 frame[2000];
	struct rig r;

	open_rig(&r);
	start(&r, 0);
	u64 len = make_frame(frame, 6, 1800);

	poke(&r, DATA, frame, len);
	lay_tx(&r, 0, RIG_MEMORY, 60 | 0x09000000, 0);
	lay_tx(&r, 1, DATA, 13 | 0x09000000, 0);
	lay_context(&r, 2, 6, 1800, 1460, 40); /* headers that end before TCP's */
	lay_tx(&r, 3, DATA, (u32)len | 0x2d100000, 0x300);
	lay_context(&r, 4, 6, 1800, 0, 54);
	lay_tx(&r, 5, DATA, (u32)len | 0x2d100000, 0x300);
	set(&r, TDT, 6);
	assert_int_equal(r.frames, 0);
	assert_int_equal(get(&r, TDH), 6);
	lay_tx(&r, 6, DATA, 60 | 0x0d000000 | 250u << 16, 250u << 8); /* a sum outside: as it is */
	set(&r, TDT, 7);
	assert_int_equal(r.frames, 1);
	set(&r, TDBAL, (u32)RIG_MEMORY);
	set(&r, TDT, 1);
	assert_int_equal(r.frames, 1);
	rig_close(&r);
}

static void script(struct rig *r)
{
	u8 frame[100];
	u64 len = make_frame(frame, 17, 20);

	assert_int_equal(r->dev->class->input(r->dev, frame, len), len);
	poke(r, DATA, frame, len);
	lay_tx(r, 1, DATA, (u32)len | 0x09000000, 0);
	set(r, TDT, 2);
	get(r, ICR);
	read_word(r, 1);
}

static void state_survives_migration(void **state)
{
	u8 frame[100];
	struct rig r;

	open_rig(&r);
	start(&r, RX_ON);
	u64 len = make_frame(frame, 17, 20);

	poke(&r, DATA, frame, len);
	lay_tx(&r, 0, DATA, (u32)len | 0x09000000, 0);
	set(&r, TDT, 1);
	phy(&r, 1, 4, 0x1234);
	set(&r, EECD, 0x42);
	set(&r, EECD, 0x47);
	rig_check_migration(&r, script);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_are_as_documented),
		cmocka_unit_test(the_eeprom_adds_up),
		cmocka_unit_test(the_phy_has_a_link),
		cmocka_unit_test(frames_are_received),
		cmocka_unit_test(long_frames_take_several_descriptors),
		cmocka_unit_test(frames_are_filtered),
		cmocka_unit_test(tags_are_put_on_and_taken_off),
		cmocka_unit_test(legacy_descriptors_are_sent),
		cmocka_unit_test(checksums_are_inserted),
		cmocka_unit_test(messages_are_cut_into_segments),
		cmocka_unit_test(nonsense_is_not_sent),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("e1000", tests, NULL, NULL);
}
