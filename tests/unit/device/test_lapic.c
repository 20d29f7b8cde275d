/* Local APIC: priorities, EOI, destinations, modes, errors, and its two faces. */
#include "apic_fixture.h"

struct rig rig;

static void fixed(unsigned cpu, u8 vector, bool level)
{
	struct apic_message msg = { .dest = cpu, .vector = vector, .level = level };

	assert_true(lapic_bus_send(&rig.bus, &msg));
}

static void reset_values(void **state)
{
	lapic_class.reset(&rig.cpu[3]->dev);
	assert_int_equal(rd(3, ID), 3u << 24);
	assert_int_equal(rd(3, SVR), 0xff);
	assert_int_equal(rd(3, DFR), ~0u);
	assert_int_equal(rd(3, VERSION) & 0xff00ff, 0x050014);
	for (unsigned lvt = LVT_T; lvt <= LVT_E; lvt += 0x10)
		assert_int_equal(rd(3, lvt), 0x10000);
	assert_int_equal(rig.cpu[0]->base, 0xfee00900);
	assert_int_equal(rig.cpu[3]->base, 0xfee00800);
}

static void higher_class_preempts(void **state)
{
	fixed(0, 0x35, false);
	fixed(0, 0x31, false);
	assert_int_equal(ack(0), 0x35);
	assert_int_equal(rd(0, PPR), 0x30);
	assert_int_equal(ack(0), -1); /* same class waits */
	fixed(0, 0x41, false);
	assert_int_equal(ack(0), 0x41);
	assert_int_equal(rd(0, ISR + 0x10), 0x00200000);
	assert_int_equal(rd(0, ISR + 0x20), 0x00000002);
	eoi(0); /* ends 0x41 */
	assert_false(lapic_pending(rig.cpu[0]));
	unsigned before = rig.notes[0].intr;
	eoi(0); /* ends 0x35: 0x31 may go, and the vcpu hears of it */
	assert_int_equal(rig.notes[0].intr, before + 1);
	assert_int_equal(ack(0), 0x31);
	eoi(0);
	assert_int_equal(ack(0), -1);
	eoi(0);			       /* one too many: nothing */
	assert_int_equal(rig.eois, 0); /* all were edges */
}

static void task_priority_holds_back(void **state)
{
	lapic_set_cr8(rig.cpu[0], 5);
	assert_int_equal(rd(0, TPR), 0x50);
	fixed(0, 0x5f, false);
	assert_false(lapic_pending(rig.cpu[0]));
	fixed(0, 0x60, false);
	assert_int_equal(ack(0), 0x60);
	eoi(0);
	wr(0, TPR, 0x4f);
	assert_int_equal(lapic_cr8(rig.cpu[0]), 4);
	assert_int_equal(rd(0, PPR), 0x4f);
	assert_int_equal(ack(0), 0x5f);
}

static void level_eoi_is_broadcast(void **state)
{
	fixed(0, 0x51, true);
	assert_int_equal(rd(0, TMR + 0x20), 0x00020000);
	assert_int_equal(ack(0), 0x51);
	eoi(0);
	assert_int_equal(rig.eois, 1);
	assert_int_equal(rig.last_eoi, 0x51);

	fixed(0, 0x51, false); /* as an edge the trigger mode bit goes */
	assert_int_equal(rd(0, TMR + 0x20), 0);
	ack(0);
	eoi(0);
	assert_int_equal(rig.eois, 1);

	wr(0, SVR, 0x11ff); /* directed EOI: software tells the I/O APIC */
	fixed(0, 0x51, true);
	ack(0);
	eoi(0);
	assert_int_equal(rig.eois, 1);
}

static void physical_and_broadcast(void **state)
{
	send_ipi(0, 7, 0x44);
	assert_int_equal(pending_set(), BIT(7));
	send_ipi(0, 0xff, 0x44);
	assert_int_equal(pending_set(), BIT(CPUS) - 1);
	send_ipi(0, 200, 0x44); /* nobody */
}

static void shorthands(void **state)
{
	wr(2, ICR, 0x44 | 1u << 18);
	assert_int_equal(pending_set(), BIT(2));
	wr(2, ICR, 0x44 | 3u << 18);
	assert_int_equal(pending_set(), BIT(CPUS) - 1);
	assert_int_equal(ack(2), 0x44);
	wr(2, ICR, 0x45 | 2u << 18);
	assert_int_equal(ack(5), 0x45);
	wr(2, ICR, 0x400 | 1u << 18); /* NMI to self is not valid */
	assert_int_equal(rig.notes[2].nmi, 0);
	wr(2, ICR, 0x400 | 3u << 18);
	assert_int_equal(rig.notes[2].nmi, 0);
	assert_int_equal(rig.notes[0].nmi, 1);
}

static void logical_flat_and_cluster(void **state)
{
	for (unsigned i = 0; i < 8; i++)
		wr(i, LDR, BIT(24 + i));
	send_ipi(0, 0x86, 0x844);
	assert_int_equal(pending_set(), 0x86);
	for (unsigned i = 0; i < 8; i++) {
		ack(i);
		eoi(i);
		wr(i, DFR, 0);
		wr(i, LDR, (i / 4) << 28 | BIT(24 + i % 4));
	}
	assert_int_equal(rd(1, DFR), 0x0fffffff);
	send_ipi(0, 0x16, 0x844); /* cluster 1, members 1 and 2 */
	assert_int_equal(pending_set(), BIT(5) | BIT(6));
}

static void x2apic_logical(void **state)
{
	for (unsigned i = 0; i < CPUS; i++)
		to_x2apic(i);
	assert_int_equal(rdmsr(18, LDR), 0x10004);
	assert_int_equal(rdmsr(18, ID), 18);
	assert_true(wrmsr(0, ICR, 0x0001000cull << 32 | 0x844));
	assert_int_equal(pending_set(), BIT(18) | BIT(19));
	assert_true(wrmsr(0, ICR, 0xffffffffull << 32 | 0x45));
	assert_int_equal(pending_set(), BIT(CPUS) - 1);
	assert_true(wrmsr(4, 0x3f0, 0x77)); /* SELF IPI */
	assert_int_equal(ack(4), 0x77);
	assert_int_equal(rdmsr(0, ICR), 0xffffffff00000045);
}

static void lowest_priority_takes_turns(void **state)
{
	unsigned hits[3] = { 0 };

	for (unsigned i = 0; i < 3; i++)
		wr(i, LDR, BIT(24 + i));
	wr(1, TPR, 0x20);
	for (unsigned i = 0; i < 40; i++) {
		send_ipi(5, 0x7, 0x944);
		for (unsigned c = 0; c < 3; c++)
			if (ack(c) == 0x44) {
				hits[c]++;
				eoi(c);
			}
	}
	assert_int_equal(hits[0] + hits[2], 40);
	assert_int_equal(hits[1], 0);
	assert_true(hits[0] > 0 && hits[2] > 0);
}

static void init_sipi_nmi(void **state)
{
	wr(1, TPR, 0x30);
	send_ipi(0, 1, 0x4500); /* INIT, assert */
	assert_int_equal(rig.notes[1].init, 1);
	assert_int_equal(rd(1, TPR), 0);
	assert_int_equal(rd(1, ID), 1u << 24);
	send_ipi(0, 1, 0x8500); /* level de-assert: nothing */
	assert_int_equal(rig.notes[1].init, 1);
	send_ipi(0, 1, 0x469a);
	assert_int_equal(rig.notes[1].sipi, 1);
	assert_int_equal(rig.notes[1].sipi_vector, 0x9a);
	send_ipi(0, 1, 0x400); /* although INIT left it software-disabled */
	assert_int_equal(rig.notes[1].nmi, 1);
	send_ipi(0, 1, 0x44);
	assert_false(lapic_pending(rig.cpu[1]));
	wr(0, ICR, 0x44500 | 3u << 18); /* INIT to all others */
	assert_int_equal(rig.notes[0].init, 0);
	assert_int_equal(rig.notes[9].init, 1);
}

static void software_disable(void **state)
{
	struct apic_message msg = { .dest = 0, .vector = 0x40 };

	wr(0, LVT_T, 0x30);
	fixed(0, 0x41, false);
	wr(0, SVR, 0xff);
	assert_int_equal(rd(0, LVT_T), 0x10030);
	wr(0, LVT_T, 0x31); /* the mask cannot be cleared */
	assert_int_equal(rd(0, LVT_T), 0x10031);
	assert_false(lapic_bus_send(&rig.bus, &msg));
	assert_int_equal(ack(0), 0x41); /* what was accepted stays */
	assert_int_equal(ack(0), -1);
}

static void errors(void **state)
{
	wr(0, LVT_E, 0x52);
	send_ipi(0, 1, 0x0f);
	assert_int_equal(rd(0, ESR), 0); /* shown only after a write */
	wr(0, ESR, 0);
	assert_int_equal(rd(0, ESR), 0x20);
	assert_int_equal(ack(0), 0x52);
	eoi(0);
	wr(0, ESR, 0);
	assert_int_equal(rd(0, ESR), 0);

	rd(0, 0x40); /* no register there */
	wr(0, ESR, 0);
	assert_int_equal(rd(0, ESR), 0x80);

	wr(0, LVT_E, 0x05); /* an illegal vector in the error entry itself */
	rd(0, 0x40);
	wr(0, ESR, 0);
	assert_int_equal(rd(0, ESR), 0xc0);
}

static void base_msr_transitions(void **state)
{
	struct lapic *l = rig.cpu[0];
	u64 on = 0xfee00900, v;

	assert_false(lapic_msr_write(l, 0x1b, 0xfee00500)); /* EXTD without EN */
	assert_false(lapic_msr_write(l, 0x1b, on | 1));
	assert_false(lapic_msr_write(l, 0x1b, on | BIT64(46)));
	assert_false(lapic_msr_read(l, 0x802, &v)); /* not yet x2APIC */
	assert_true(lapic_decodes(l, gpa(0xfee00fff)));
	assert_true(lapic_msr_write(l, 0x1b, 0xabcd00900));
	assert_true(lapic_decodes(l, gpa(0xabcd00000)));
	assert_false(lapic_decodes(l, gpa(0xfee00000)));

	assert_true(lapic_msr_write(l, 0x1b, on | APIC_BASE_EXTD));
	assert_false(lapic_decodes(l, gpa(0xfee00000)));
	assert_false(lapic_msr_write(l, 0x1b, on)); /* back only through disabled */
	assert_true(lapic_msr_write(l, 0x1b, 0xfee00100));
	assert_false(lapic_msr_write(l, 0x1b, on | APIC_BASE_EXTD)); /* not from disabled */
	assert_false(lapic_bus_send(&rig.bus, &(struct apic_message){ .vector = 0x40 }));
	assert_true(lapic_msr_write(l, 0x1b, on));
	assert_int_equal(rd(0, SVR), 0xff);
	assert_true(lapic_msr_read(l, 0x1b, &v));
	assert_int_equal(v, on);
}

static void x2apic_refuses(void **state)
{
	u64 v;

	to_x2apic(0);
	assert_false(wrmsr(0, EOI, 1));
	assert_true(wrmsr(0, EOI, 0));
	assert_false(wrmsr(0, ESR, 1));
	assert_false(wrmsr(0, ID, 0));
	assert_false(wrmsr(0, LDR, 0));
	assert_false(wrmsr(0, DFR, 0));
	assert_false(wrmsr(0, ICR_HIGH, 0));
	assert_false(wrmsr(0, TPR, 0x100));
	assert_false(wrmsr(0, TPR, BIT64(32)));
	assert_false(wrmsr(0, LVT_T, BIT(11)));
	assert_false(wrmsr(0, ICR, BIT(13)));
	assert_false(wrmsr(0, 0x3f0, 0x100));
	assert_false(lapic_msr_read(rig.cpu[0], 0x80b, &v));
	assert_false(lapic_msr_read(rig.cpu[0], 0x83f, &v));
	assert_false(lapic_msr_read(rig.cpu[0], 0x8ff, &v));
	assert_false(lapic_msr_read(rig.cpu[0], 0x831, &v));
}

static void extint_ways(void **state)
{
	rig.notes[0].pic_vector = 0x08;
	lapic_class.reset(&rig.cpu[0]->dev);
	lapic_set_lint(rig.cpu[0], 0, true);
	assert_false(lapic_pending(rig.cpu[0])); /* LINT0 is masked after reset */
	lapic_virtual_wire(rig.cpu[0]);
	assert_true(lapic_pending(rig.cpu[0]));
	fixed(0, 0x20, false);
	assert_int_equal(ack(0), 0x20);
	assert_int_equal(ack(0), 0x08); /* whatever is in service */
	lapic_set_lint(rig.cpu[0], 0, false);
	assert_int_equal(ack(0), -1);

	wr(0, LVT_L0, 0x10000);
	assert_true(lapic_bus_msi(&rig.bus, 0xfee00000, 0x700)); /* the I/O APIC's ExtINT */
	assert_int_equal(ack(0), 0x08);
	assert_int_equal(ack(0), -1);

	assert_true(lapic_msr_write(
		rig.cpu[0], 0x1b, 0xfee00100)); /* disabled: the pins are INTR, NMI */
	lapic_set_lint(rig.cpu[0], 0, true);
	assert_int_equal(ack(0), 0x08);
	lapic_set_lint(rig.cpu[0], 1, true);
	lapic_set_lint(rig.cpu[0], 1, true);
	assert_int_equal(rig.notes[0].nmi, 1);
}

static void lint_fixed_level(void **state)
{
	wr(0, LVT_L0, 0x8000 | 0x61);
	lapic_set_lint(rig.cpu[0], 0, true);
	assert_int_equal(rd(0, LVT_L0), 0xc061);
	assert_int_equal(ack(0), 0x61);
	assert_int_equal(ack(0), -1);
	eoi(0); /* still asserted: again */
	assert_int_equal(ack(0), 0x61);
	lapic_set_lint(rig.cpu[0], 0, false);
	eoi(0);
	assert_int_equal(rd(0, LVT_L0), 0x8061);
	assert_int_equal(ack(0), -1);
	wr(0, LVT_L1, 0x400);
	lapic_set_lint(rig.cpu[0], 1, true);
	assert_int_equal(rig.notes[0].nmi, 1);
}

static void msi_forms(void **state)
{
	assert_true(lapic_bus_msi(&rig.bus, 0xfee03000, 0x41));
	assert_int_equal(pending_set(), BIT(3));
	wr(6, LDR, BIT(30));
	assert_true(lapic_bus_msi(&rig.bus, 0xfee4000c, 0x8042)); /* logical, redirected, level */
	assert_int_equal(ack(6), 0x42);
	eoi(6);
	assert_int_equal(rig.last_eoi, 0x42);
	assert_false(lapic_bus_msi(&rig.bus, 0xfed00000, 0x41));
	assert_false(lapic_bus_msi(&rig.bus, 0xfee00000, 0x641));
	assert_false(lapic_bus_msi(&rig.bus, 0xfee50000, 0x41)); /* no such processor */
	assert_true(lapic_bus_msi(&rig.bus, 0xfee02000, 0x400));
	assert_int_equal(rig.notes[2].nmi, 1);
}

static void odd_accesses(void **state)
{
	wr(0, TPR, 0x5a);
	assert_int_equal(lapic_mmio_read(rig.cpu[0], TPR, 1), 0x5a);
	assert_int_equal(lapic_mmio_read(rig.cpu[0], TPR + 4, 4), 0);
	assert_int_equal(lapic_mmio_read(rig.cpu[0], TPR + 3, 2), 0);
	lapic_mmio_write(rig.cpu[0], TPR, 1, 0x77);
	lapic_mmio_write(rig.cpu[0], TPR + 1, 4, 0x77);
	assert_int_equal(rd(0, TPR), 0x5a);
	for (unsigned at = 0; at < 0x1000; at++)
		for (unsigned size = 1; size <= 8; size *= 2) {
			lapic_mmio_read(rig.cpu[1], at, size);
			lapic_mmio_write(rig.cpu[1], at, size, 0x5a5a5a5a5a5a5a5a);
		}
}

static void save_and_load(void **state)
{
	struct blob saved = { 0 };
	struct err err = { 0 };
	char text[64];
	size_t used;
	struct lapic *a = rig.cpu[0], *b = rig.cpu[1];

	wr(0, LVT_T, 0x20030);
	wr(0, DIVIDE, 3);
	wr(0, COUNT_INIT, 100000);
	wr(0, LVT_L0, 0x8061);
	lapic_set_lint(a, 0, true);
	fixed(0, 0x91, true);
	ack(0);
	fixed(0, 0x33, false);
	clock_advance(&rig.clock, 12345);

	assert_int_equal(state_save(&saved, lapic_class.state, a), 0);
	assert_int_equal(
		state_load(saved.data, saved.len, &used, lapic_class.state, b, sizeof(*b), &err),
		0);
	lapic_class.loaded(&b->dev);
	assert_null(state_diff(lapic_class.state, a, b, text, sizeof(text)));
	clock_advance(&rig.clock, 10 * 1000 * 1000); /* both timers run on alike */
	assert_int_equal(rd(0, COUNT_NOW), rd(1, COUNT_NOW));
	eoi(0);
	eoi(1);
	assert_int_equal(ack(0), 0x61);
	assert_int_equal(ack(1), 0x61);
	assert_null(state_diff(lapic_class.state, a, b, text, sizeof(text)));
	blob_free(&saved);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		RIG_TEST(reset_values),
		RIG_TEST(higher_class_preempts),
		RIG_TEST(task_priority_holds_back),
		RIG_TEST(level_eoi_is_broadcast),
		RIG_TEST(physical_and_broadcast),
		RIG_TEST(shorthands),
		RIG_TEST(logical_flat_and_cluster),
		RIG_TEST(x2apic_logical),
		RIG_TEST(lowest_priority_takes_turns),
		RIG_TEST(init_sipi_nmi),
		RIG_TEST(software_disable),
		RIG_TEST(errors),
		RIG_TEST(base_msr_transitions),
		RIG_TEST(x2apic_refuses),
		RIG_TEST(extint_ways),
		RIG_TEST(lint_fixed_level),
		RIG_TEST(msi_forms),
		RIG_TEST(odd_accesses),
		RIG_TEST(save_and_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
