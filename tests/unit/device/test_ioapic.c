/* I/O APIC: edges, levels, remote IRR, masks, and the messages it sends. */
#include "apic_fixture.h"
#include "device/apic/ioapic.h"

struct rig rig;

static struct device *io;
static unsigned messages;
static u64 last_address;
static u32 last_data;

static void send(void *ctx, u64 address, u32 data)
{
	messages++;
	last_address = address;
	last_data = data;
	lapic_bus_msi(&rig.bus, address, data);
}

static void eoi_to_ioapic(void *ctx, u8 vector) { ioapic_eoi(io, vector); }

static int up(void **state)
{
	struct device_env env = { .msi = { .send = send } };
	struct err err;

	rig_up(state);
	messages = 0;
	io = device_new(&ioapic_class, "ioapic", &env, &err);
	assert_non_null(io);
	rig.bus.eoi = eoi_to_ioapic;
	return 0;
}

static int down(void **state)
{
	device_free(io);
	return rig_down(state);
}

static u32 get(u8 reg)
{
	ioapic_class.write(io, 0, 0, 4, reg);
	return (u32)ioapic_class.read(io, 0, 0x10, 4);
}

static void set(u8 reg, u32 value)
{
	ioapic_class.write(io, 0, 0, 4, reg);
	ioapic_class.write(io, 0, 0x10, 4, value);
}

static void program(unsigned pin, u8 dest, u32 low)
{
	set((u8)(0x11 + 2 * pin), (u32)dest << 24);
	set((u8)(0x10 + 2 * pin), low);
}

static void registers(void **state)
{
	assert_int_equal(get(1), 0x00170020);
	set(0, ~0u);
	assert_int_equal(get(0), 0x0f000000);
	assert_int_equal(get(2), 0x0f000000);
	assert_int_equal(get(0x10), 0x10000);
	set(0x10, ~0u);
	assert_int_equal(get(0x10), 0x1afff);
	set(0x3f, ~0u);
	assert_int_equal(get(0x3f), 0xff000000);
	assert_int_equal(get(0x40), 0);
	assert_int_equal(get(0xff), 0);
}

static void edge(void **state)
{
	program(4, 2, 0x34);
	ioapic_set_irq(io, 4, true);
	ioapic_set_irq(io, 4, true);
	assert_int_equal(messages, 1);
	assert_int_equal(last_address, 0xfee02000);
	assert_int_equal(last_data, 0x34);
	assert_int_equal(ack(2), 0x34);
	eoi(2);
	assert_int_equal(messages, 1);
	ioapic_set_irq(io, 4, false);
	program(4, 2, 0x10034);
	ioapic_set_irq(io, 4, true); /* masked: lost */
	program(4, 2, 0x34);
	assert_int_equal(messages, 1);
	ioapic_set_irq(io, 99, true);
}

static void level(void **state)
{
	program(9, 0, 0x8059);
	ioapic_set_irq(io, 9, true);
	assert_int_equal(last_data, 0xc059);
	assert_int_equal(get(0x22), 0xc059);
	ioapic_set_irq(io, 9, false);
	ioapic_set_irq(io, 9, true);
	assert_int_equal(messages, 1); /* remote IRR holds */
	assert_int_equal(ack(0), 0x59);
	eoi(0); /* still asserted: at once again */
	assert_int_equal(messages, 2);
	assert_int_equal(ack(0), 0x59);
	ioapic_set_irq(io, 9, false);
	eoi(0);
	assert_int_equal(messages, 2);
	assert_int_equal(get(0x22), 0x8059);

	program(9, 0, 0x18059); /* a level waits behind the mask */
	ioapic_set_irq(io, 9, true);
	assert_int_equal(messages, 2);
	program(9, 0, 0x8059);
	assert_int_equal(messages, 3);
	program(9, 0, 0x10059); /* to edge and back clears remote IRR */
	assert_int_equal(get(0x22), 0x10059);
}

static void directed_eoi(void **state)
{
	wr(0, SVR, 0x11ff);
	program(9, 0, 0x8059);
	ioapic_set_irq(io, 9, true);
	ack(0);
	ioapic_set_irq(io, 9, false);
	eoi(0);
	assert_int_equal(get(0x22), 0xc059);
	ioapic_class.write(io, 0, 0x40, 4, 0x58);
	assert_int_equal(get(0x22), 0xc059);
	ioapic_class.write(io, 0, 0x40, 4, 0x59);
	assert_int_equal(get(0x22), 0x8059);
}

static void logical_and_modes(void **state)
{
	wr(3, LDR, 0x08000000);
	program(1, 0x08, 0x931); /* logical, lowest priority */
	ioapic_set_irq(io, 1, true);
	assert_int_equal(last_address, 0xfee08004);
	assert_int_equal(ack(3), 0x31);
	program(2, 5, 0x8400); /* NMI is an edge even when programmed as a level */
	ioapic_set_irq(io, 2, true);
	assert_int_equal(rig.notes[5].nmi, 1);
	assert_int_equal(get(0x14), 0x8400);
	rig.notes[0].pic_vector = 0x20;
	program(0, 0, 0x700);
	ioapic_set_irq(io, 0, true);
	assert_int_equal(ack(0), 0x20);
}

static void save_and_load(void **state)
{
	struct device_env env = { 0 };
	struct blob saved = { 0 };
	struct err err = { 0 };
	char text[64];
	size_t used;
	struct device *copy = device_new(&ioapic_class, "copy", &env, &err);

	program(9, 1, 0x8059);
	ioapic_set_irq(io, 9, true);
	set(0, 0x02000000);
	assert_int_equal(state_save(&saved, ioapic_class.state, io), 0);
	assert_int_equal(state_load(saved.data, saved.len, &used, ioapic_class.state, copy,
				 ioapic_class.size, &err),
		0);
	assert_null(state_diff(ioapic_class.state, io, copy, text, sizeof(text)));
	blob_free(&saved);
	device_free(copy);
}

static struct {
	unsigned calls, pin;
	u64 address;
	u32 data;
} told;

static void note_route(void *ctx, unsigned pin, u64 address, u32 data)
{
	told.calls++;
	if (pin == 9) {
		told.pin = pin;
		told.address = address;
		told.data = data;
	}
}

static void watcher_is_told_before_the_message(void **state)
{
	told.calls = 0;
	ioapic_watch(io, note_route, NULL);
	assert_int_equal(told.calls, IOAPIC_PINS);
	ioapic_set_irq(io, 9, true);
	last_address = 0;
	program(9, 3, 0x8059);
	assert_int_equal(told.address, 0xfee03000);
	assert_int_equal(told.data, 0xc059);
	assert_int_equal(last_address, told.address);
	told.calls = 0;
	ioapic_class.reset(io);
	assert_int_equal(told.calls, IOAPIC_PINS);
	assert_int_equal(told.data, 0);
	ioapic_watch(io, NULL, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, up, down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(registers),
		TEST(edge),
		TEST(level),
		TEST(directed_eoi),
		TEST(logical_and_modes),
		TEST(watcher_is_told_before_the_message),
		TEST(save_and_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
