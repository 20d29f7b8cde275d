/* Processors of several sockets: their APIC ids in the devices, and whose part of memory is whose.
 */
#include "fake_engine.h"
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h> /* needs the above */

static struct machine *machine_of(struct x86_topology topology, u64 memory, bool numa)
{
	struct machine_config config = fake_config();
	struct err err = { 0 };

	config.cpus = x86_topology_count(&topology);
	config.topology = topology;
	config.memory = memory;
	config.numa = numa;
	struct machine *m = machine_new(&config, &err);
	assert_non_null(m);
	return m;
}

static void ids_reach_the_local_apics(void **state)
{
	static const u32 ids[] = { 0, 1, 2, 4, 5, 6 };
	struct machine *m = machine_of((struct x86_topology){ 2, 3, 1 }, 16 * MiB, false);

	for (unsigned i = 0; i < ARRAY_LEN(ids); i++) {
		assert_int_equal(m->cpus[i].v.apic_id, ids[i]);
		assert_int_equal(m->cpus[i].lapic->id >> 24, ids[i]);
	}
	machine_free(m);
}

static void no_arrangement_is_one_socket(void **state)
{
	struct machine_config config = fake_config();
	struct err err = { 0 };

	config.cpus = 3;
	struct machine *m = machine_new(&config, &err);
	assert_non_null(m);
	assert_int_equal(m->model.topology.sockets, 1);
	assert_int_equal(m->model.topology.cores, 3);
	machine_free(m);
}

/* Nothing is left out and nothing is there twice, in order, and the parts are equal but for what
 * large pages round away. */
static void memory_is_shared_out(void **state)
{
	static const struct {
		unsigned sockets;
		u64 memory;
	} cases[] = { { 2, 2 * MiB }, { 2, 512 * MiB }, { 3, 64 * MiB }, { 8, 17 * MiB },
		{ 2, 8 * GiB }, { 4, 5 * GiB } };

	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned sockets = cases[i].sockets;
		struct machine *m =
			machine_of((struct x86_topology){ sockets, 1, 1 }, cases[i].memory, true);
		struct acpi_near near[MACHINE_NEAR_MAX];
		unsigned count = numa_memory(m, near), slot = 0;
		u64 has[8] = { 0 }, done = 0;

		for (unsigned n = 0; n < count; n++) {
			const struct memory_slot *s = &m->memory.slots[slot];

			assert_int_equal(near[n].base, s->base + done);
			assert_true(near[n].size && near[n].socket < sockets);
			assert_true(!n || near[n].socket >= near[n - 1].socket);
			has[near[n].socket] += near[n].size;
			done += near[n].size;
			assert_true(done <= s->size);
			slot += done == s->size;
			done = done == s->size ? 0 : done;
		}
		assert_int_equal(slot, m->memory.slot_count);
		for (unsigned n = 0; n < sockets; n++)
			assert_true(has[n] + 2 * MiB * sockets >= cases[i].memory / sockets);
		machine_free(m);
	}
}

static void without_numa_there_are_no_parts(void **state)
{
	struct acpi_near near[MACHINE_NEAR_MAX];
	struct machine *m = machine_of((struct x86_topology){ 2, 1, 1 }, 16 * MiB, false);

	assert_int_equal(numa_memory(m, near), 0);
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_reach_the_local_apics),
		cmocka_unit_test(no_arrangement_is_one_socket),
		cmocka_unit_test(memory_is_shared_out),
		cmocka_unit_test(without_numa_there_are_no_parts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
