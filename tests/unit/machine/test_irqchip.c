/* A machine whose engine keeps the local APICs: what goes to it, what comes back, what is saved. */
#include "fake_engine.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

#define LEVEL	0xc000u
#define TPR_REG 0x08
#define SVR_REG 0x0f

static struct {
	unsigned sends, level_routes;
	u64 address;
	u32 data;
	struct irqchip_lapic kept[2];
} chip;

static void chip_send(struct vcpu *v, u64 address, u32 data)
{
	chip.sends++;
	chip.address = address;
	chip.data = data;
}

static void chip_route(struct vcpu *v, unsigned pin, u64 address, u32 data)
{
	chip.level_routes += !!(data & LEVEL);
}

static int chip_pull(struct vcpu *v, struct irqchip_lapic *l)
{
	*l = chip.kept[v->index];
	return 0;
}

static int chip_push(struct vcpu *v, const struct irqchip_lapic *l)
{
	chip.kept[v->index] = *l;
	return 0;
}

static const struct cpu_irqchip fake_chip = { chip_send, chip_route, chip_pull, chip_push };

static int open_with_chip(struct vcpu *v, struct err *err)
{
	v->irqchip = &fake_chip;
	return fake_open(v, err);
}

static struct cpu_engine engine;

static struct machine *machine(void)
{
	struct machine_config config = fake_config();
	struct err err = { 0 };

	engine = fake_engine;
	engine.open = open_with_chip;
	memset(&chip, 0, sizeof(chip));
	config.engine = &engine;
	config.cpus = 2;
	struct machine *m = machine_new(&config, &err);
	assert_non_null(m);
	return m;
}

static void store(struct machine *m, u64 at, u32 value)
{
	struct vcpu *v = &m->cpus[0].v;

	v->ops->mmio_write(v->ops_ctx, v, gpa(at), 4, value);
}

static u32 load(struct machine *m, u64 at)
{
	struct vcpu *v = &m->cpus[0].v;

	return (u32)v->ops->mmio_read(v->ops_ctx, v, gpa(at), 4);
}

static void set_pin(struct machine *m, unsigned pin, u32 entry)
{
	store(m, 0xfec00000, 0x10 + 2 * pin);
	store(m, 0xfec00010, entry);
}

static void power_on_gives_the_virtual_wire(void **state)
{
	struct machine *m = machine();

	assert_int_equal(chip.kept[0].base, 0xfee00900);
	assert_int_equal(chip.kept[1].base, 0xfee00800);
	assert_int_equal(chip.kept[1].reg[0x02], 1u << 24);
	assert_int_equal(chip.kept[0].reg[SVR_REG], 0x1ff);
	assert_int_equal(chip.kept[0].reg[0x35], 0x700);
	machine_free(m);
}

static void level_pin_waits_for_the_eoi(void **state)
{
	struct machine *m = machine();
	struct vcpu *v = &m->cpus[1].v;

	set_pin(m, 4, 0x8061); /* COM1 */
	assert_int_equal(chip.level_routes, 1);
	fake_out(v, 0x3fc, 8);
	fake_out(v, 0x3f9, 2); /* the transmitter is empty */
	assert_int_equal(chip.sends, 1);
	assert_int_equal(chip.address, 0xfee00000);
	assert_int_equal(chip.data, LEVEL | 0x61);
	v->ops->eoi(v->ops_ctx, v, 0x60); /* another one's */
	assert_int_equal(chip.sends, 1);
	v->ops->eoi(v->ops_ctx, v, 0x61);
	assert_int_equal(chip.sends, 2); /* still up */
	fake_out(v, 0x3f9, 0);
	v->ops->eoi(v->ops_ctx, v, 0x61);
	assert_int_equal(chip.sends, 2);
	machine_free(m);
}

static void output_of_the_8259_is_posted_to_processor_0(void **state)
{
	struct machine *m = machine();
	struct vcpu *v = &m->cpus[0].v;
	static const u16 init[][2] = { { 0x20, 0x11 }, { 0x21, 0x20 }, { 0x21, 4 }, { 0x21, 1 },
		{ 0x21, 0xef } };

	for (unsigned i = 0; i < ARRAY_LEN(init); i++)
		fake_out(v, init[i][0], (u8)init[i][1]);
	assert_int_equal(v->ops->interrupt(v->ops_ctx, v), -1); /* not even a spurious one */
	fake_out(v, 0x3fc, 8);
	fake_out(v, 0x3f9, 2);
	assert_true(atomic_load(&v->attention) & ATTN_INTR);
	assert_int_equal(v->ops->interrupt(v->ops_ctx, v), 0x24);
	assert_int_equal(v->ops->interrupt(v->ops_ctx, v), -1);
	machine_free(m);
}

static void page_and_registers_are_nobodys_here(void **state)
{
	struct machine *m = machine();
	struct vcpu *v = &m->cpus[0].v;
	u64 value;

	assert_int_equal(load(m, 0xfee00030), 0xffffffff);
	assert_false(v->ops->msr_read(v->ops_ctx, v, 0x1b, &value));
	machine_free(m);
}

static void saving_takes_and_loading_gives(void **state)
{
	struct machine *m = machine();
	struct blob b = { 0 }, again = { 0 };
	struct err err = { 0 };

	chip.kept[1].reg[TPR_REG] = 0x50;
	chip.kept[1].base = 0xfee00c00;
	chip.kept[1].reg[0x02] = 1;
	chip.kept[1].tsc_deadline = 77;
	chip.kept[1].reg[0x32] = 0x40033; /* TSC-deadline mode */
	struct irqchip_lapic before = chip.kept[1];
	assert_int_equal(machine_save(m, &b, &err), 0);
	memset(&chip.kept, 0, sizeof(chip.kept));
	chip.kept[0].reg[SVR_REG] = chip.kept[1].reg[SVR_REG] = 0xff;
	assert_int_equal(machine_load(m, b.data, b.len, &err), 0);
	assert_int_equal(chip.kept[1].base, before.base);
	assert_int_equal(chip.kept[1].tsc_deadline, before.tsc_deadline);
	assert_int_equal(chip.kept[1].reg[TPR_REG], 0x50);
	assert_int_equal(chip.kept[1].reg[0x32], 0x40033);
	assert_int_equal(m->cpus[1].v.x86.s.apic_base, 0xfee00c00);
	assert_int_equal(machine_save(m, &again, &err), 0);
	assert_int_equal(again.len, b.len);
	assert_memory_equal(again.data, b.data, b.len);
	/* A refused stream leaves the engine with what it had. */
	assert_int_not_equal(machine_load(m, b.data, b.len - 1, &err), 0);
	assert_int_equal(chip.kept[1].reg[TPR_REG], 0x50);
	blob_free(&b);
	blob_free(&again);
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(power_on_gives_the_virtual_wire),
		cmocka_unit_test(level_pin_waits_for_the_eoi),
		cmocka_unit_test(output_of_the_8259_is_posted_to_processor_0),
		cmocka_unit_test(page_and_registers_are_nobodys_here),
		cmocka_unit_test(saving_takes_and_loading_gives),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
