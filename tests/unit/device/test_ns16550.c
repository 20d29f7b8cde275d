/* The UART: both directions with slow backends, interrupts by priority, loopback. */
#include "device/legacy/legacy.h"
#include "rig.h"

enum { DATA = 0x3f8, IER, IIR, LCR, MCR, LSR, MSR, SCR };

static size_t feed(struct rig *r, const char *text, size_t len)
{
	return r->dev->class->input(r->dev, (const u8 *)text, len);
}

static void open_fifo(struct rig *r, u8 fcr)
{
	rig_open(r, &uart_class);
	out8(r, LCR, 0x03);
	out8(r, IIR, fcr);
}

static void registers_after_reset(void **state)
{
	struct rig r;

	rig_open(&r, &uart_class);
	assert_int_equal(in8(&r, IER), 0);
	assert_int_equal(in8(&r, IIR), 0x01);
	assert_int_equal(in8(&r, LSR), 0x60);
	assert_int_equal(in8(&r, MSR), 0xb0);
	out8(&r, SCR, 0x5a);
	assert_int_equal(in8(&r, SCR), 0x5a);
	out8(&r, IER, 0xff);
	assert_int_equal(in8(&r, IER), 0x0f);
	out8(&r, LCR, 0x83);
	out16(&r, DATA, 0x0180);
	assert_int_equal(in16(&r, DATA), 0x0180);
	out8(&r, LCR, 0x03);
	assert_int_equal(in8(&r, IER), 0x0f);
	out8(&r, IIR, 0x01);
	assert_int_equal(in8(&r, IIR) & 0xc0, 0xc0);
	rig_close(&r);
}

static void output_reaches_the_backend_in_order(void **state)
{
	struct rig r;

	open_fifo(&r, 1);
	for (const char *p = "hello"; *p; p++)
		out8(&r, DATA, (u8)*p);
	assert_int_equal(r.console_len, 5);
	assert_memory_equal(r.console, "hello", 5);
	assert_int_equal(in8(&r, LSR), 0x60);
	rig_close(&r);
}

static void slow_backend_holds_the_guest_up_and_loses_nothing(void **state)
{
	struct rig r;

	open_fifo(&r, 1);
	out8(&r, IER, 0x02);
	in8(&r, IIR);
	r.console_room = 3;
	for (unsigned i = 0; i < 16; i++)
		out8(&r, DATA, (u8)('a' + i));
	assert_int_equal(r.console_len, 3);
	assert_int_equal(in8(&r, LSR), 0);
	in8(&r, IIR); /* THRE fell with the fourth byte */
	assert_false(r.level[0]);
	clock_advance(&r.clock, 10000000);
	assert_int_equal(r.console_len, 3);
	r.console_room = 5;
	clock_advance(&r.clock, 1000000);
	assert_int_equal(r.console_len, 8);
	assert_false(r.level[0]);
	r.console_room = 100;
	clock_advance(&r.clock, 1000000);
	assert_memory_equal(r.console, "abcdefghijklmnop", 16);
	assert_true(r.level[0]);
	assert_int_equal(in8(&r, LSR), 0x60);
	assert_int_equal(in8(&r, IIR), 0xc2);
	assert_null(r.clock.timers);
	rig_close(&r);
}

static void input_takes_what_fits_and_announces_room(void **state)
{
	struct rig r;

	open_fifo(&r, 1);
	assert_int_equal(feed(&r, "0123456789abcdefXY", 18), 16);
	assert_int_equal(feed(&r, "XY", 2), 0);
	assert_int_equal(r.rooms, 0);
	assert_int_equal(in8(&r, DATA), '0');
	assert_int_equal(r.rooms, 1);
	assert_int_equal(feed(&r, "X", 1), 1);
	for (unsigned i = 1; i < 16; i++)
		assert_int_equal(in8(&r, DATA), "0123456789abcdef"[i]);
	assert_int_equal(r.rooms, 1);
	assert_int_equal(in8(&r, LSR) & 1, 1);
	assert_int_equal(in8(&r, DATA), 'X');
	assert_int_equal(in8(&r, LSR) & 1, 0);
	rig_close(&r);
}

static void without_fifo_one_byte_is_held(void **state)
{
	struct rig r;

	rig_open(&r, &uart_class);
	out8(&r, IER, 1);
	assert_int_equal(feed(&r, "ab", 2), 1);
	assert_int_equal(in8(&r, IIR), 0x04);
	assert_int_equal(in8(&r, DATA), 'a');
	assert_int_equal(in8(&r, IIR), 0x01);
	assert_int_equal(r.rooms, 1);
	rig_close(&r);
}

static void trigger_level_and_timeout_interrupt(void **state)
{
	struct rig r;
	/* 8N1 at divisor 1: four characters of 10 bits at 115200. */
	const u64 timeout = 4 * clock_ns(160, 1843200);

	open_fifo(&r, 0x81); /* trigger 8 */
	out8(&r, LCR, 0x83);
	out16(&r, DATA, 1);
	out8(&r, LCR, 0x03);
	out8(&r, IER, 1);
	feed(&r, "1234567", 7);
	assert_false(r.level[0]);
	clock_advance(&r.clock, timeout - 1);
	assert_false(r.level[0]);
	clock_advance(&r.clock, 1);
	assert_true(r.level[0]);
	assert_int_equal(in8(&r, IIR), 0xcc);
	in8(&r, DATA);
	assert_false(r.level[0]);
	feed(&r, "89", 2);
	assert_int_equal(in8(&r, IIR), 0xc4);
	in8(&r, DATA);
	assert_int_equal(in8(&r, IIR), 0xc1);
	clock_advance(&r.clock, timeout);
	assert_int_equal(in8(&r, IIR), 0xcc);
	while (in8(&r, LSR) & 1)
		in8(&r, DATA);
	assert_false(r.level[0]);
	assert_null(r.clock.timers);
	rig_close(&r);
}

static void transmitter_interrupt_is_withdrawn_by_iir(void **state)
{
	struct rig r;

	open_fifo(&r, 1);
	out8(&r, IER, 2); /* already empty: at once */
	assert_true(r.level[0]);
	assert_int_equal(in8(&r, IIR), 0xc2);
	assert_false(r.level[0]);
	assert_int_equal(in8(&r, IIR), 0xc1);
	out8(&r, DATA, 'x');
	assert_true(r.level[0]);
	assert_int_equal(r.rises[0], 2);
	out8(&r, DATA, 'y'); /* an edge for each emptying */
	assert_int_equal(r.rises[0], 3);
	rig_close(&r);
}

static void interrupts_have_their_priorities(void **state)
{
	static const u8 order[] = { 0x06, 0x04, 0x02, 0x00, 0x01 };
	struct rig r;

	rig_open(&r, &uart_class);
	out8(&r, MCR, 0x10);
	out8(&r, IER, 0x0f);
	out8(&r, DATA, 1);
	out8(&r, DATA, 2); /* overrun */
	out8(&r, MCR, 0x12);
	assert_int_equal(in8(&r, IIR), order[0]);
	assert_int_equal(in8(&r, LSR) & 0x03, 0x03);
	assert_int_equal(in8(&r, IIR), order[1]);
	in8(&r, DATA);
	assert_int_equal(in8(&r, IIR), order[2]);
	assert_int_equal(in8(&r, IIR), order[3]);
	assert_true(in8(&r, MSR) & 1);
	assert_int_equal(in8(&r, IIR), order[4]);
	rig_close(&r);
}

static void loopback_connects_the_uart_to_itself(void **state)
{
	struct rig r;

	open_fifo(&r, 1);
	out8(&r, MCR, 0x1a); /* as drivers probe: RTS and OUT2 */
	assert_int_equal(in8(&r, MSR) & 0xf0, 0x90);
	assert_int_equal(in8(&r, MSR) & 0x0f, 0);
	out8(&r, MCR, 0x15);
	assert_int_equal(in8(&r, MSR), 0x60 | 0x0b);
	out8(&r, MCR, 0x10); /* RI falls: trailing edge */
	assert_int_equal(in8(&r, MSR), 0x06);
	out8(&r, DATA, 0x77);
	assert_int_equal(r.console_len, 0);
	assert_int_equal(in8(&r, DATA), 0x77);
	assert_int_equal(feed(&r, "a", 1), 0);
	out8(&r, MCR, 0);
	assert_int_equal(r.rooms, 1);
	assert_int_equal(in8(&r, MSR) & 0xf0, 0xb0);
	rig_close(&r);
}

static void fifo_control_clears(void **state)
{
	struct rig r;

	open_fifo(&r, 1);
	feed(&r, "abc", 3);
	r.console_room = 0;
	out8(&r, DATA, 'x');
	out8(&r, IIR, 0x07);
	assert_int_equal(in8(&r, LSR), 0x60);
	assert_int_equal(in8(&r, DATA), 0);
	assert_null(r.clock.timers);
	out8(&r, IIR, 0xc0); /* off: the other bits are not taken */
	assert_int_equal(in8(&r, IIR), 0x01);
	rig_close(&r);
}

static void window_can_be_moved(void **state)
{
	struct rig r;
	struct device *com2;
	struct err err;

	rig_open(&r, &uart_class);
	com2 = device_new(&uart_class, "uart1", &r.dev->env, &err);
	assert_true(device_attach(com2, &r.bus, &err) < 0);
	device_move(com2, 0, 0x2f8);
	assert_int_equal(device_attach(com2, &r.bus, &err), 0);
	assert_int_equal(in8(&r, 0x2fd), 0x60);
	device_free(com2);
	assert_int_equal(in8(&r, 0x2fd), 0xff);
	rig_close(&r);
}

static void script(struct rig *r)
{
	clock_advance(&r->clock, 100000000);
	in8(r, IIR);
	in8(r, DATA);
	in8(r, LSR);
	feed(r, "0123456789abcdefgh", 18);
	out8(r, DATA, '!');
	clock_advance(&r->clock, 100000000);
	in8(r, IIR);
	in8(r, MSR);
}

static void state_survives_migration(void **state)
{
	struct rig r;

	open_fifo(&r, 0x41);
	out8(&r, IER, 0x0f);
	feed(&r, "abc", 3);
	r.console_room = 2;
	for (unsigned i = 0; i < 9; i++)
		out8(&r, DATA, (u8)('0' + i));
	rig_check_migration(&r, script);
	assert_memory_equal(r.console, "2345678!", 8);
	rig_close(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(registers_after_reset),
		cmocka_unit_test(output_reaches_the_backend_in_order),
		cmocka_unit_test(slow_backend_holds_the_guest_up_and_loses_nothing),
		cmocka_unit_test(input_takes_what_fits_and_announces_room),
		cmocka_unit_test(without_fifo_one_byte_is_held),
		cmocka_unit_test(trigger_level_and_timeout_interrupt),
		cmocka_unit_test(transmitter_interrupt_is_withdrawn_by_iir),
		cmocka_unit_test(interrupts_have_their_priorities),
		cmocka_unit_test(loopback_connects_the_uart_to_itself),
		cmocka_unit_test(fifo_control_clears),
		cmocka_unit_test(window_can_be_moved),
		cmocka_unit_test(state_survives_migration),
	};

	return cmocka_run_group_tests_name("ns16550", tests, NULL, NULL);
}
