/* Devices that come and go while a machine runs, as the guest's side of it: ports, and PCI's
 * configuration space. */
#include "fake_engine.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

#define CAME	   0x640
#define LEAVE	   0x644
#define EJECT	   0x648
#define GPE_STATUS 0x620
#define SLOT	   24u
#define SIZE	   MiB

static char image[] = "/tmp/strata-hot-XXXXXX";
static char events[256];

static void on_event(void *ctx, enum machine_event what, const char *text)
{
	size_t used = strlen(events);

	snprintf(events + used, sizeof(events) - used, "%d:%s ", (int)what, text);
}

static struct machine *machine(void)
{
	struct machine_config config = fake_config();
	struct err err = { 0 };

	config.hotplug = true;
	config.event = on_event;
	events[0] = 0;
	struct machine *m = machine_new(&config, &err);
	assert_non_null(m);
	return m;
}

static u32 in32(struct machine *m, u16 port)
{
	struct vcpu *v = &m->cpus[0].v;

	return (u32)v->ops->port_in(v->ops_ctx, v, port, 4);
}

static void out32(struct machine *m, u16 port, u32 value)
{
	struct vcpu *v = &m->cpus[0].v;

	v->ops->port_out(v->ops_ctx, v, port, 4, value);
}

/* Vendor and device of a slot's function. */
static u32 who(struct machine *m, unsigned slot)
{
	out32(m, 0xcf8, 0x80000000 | slot << 11);
	return in32(m, 0xcfc);
}

static const struct machine_disk_config disk = { .options = { .format = "raw" }, .queues = 1 };

static int attach(
	struct machine *m, const struct machine_disk_config *c, char *name, struct err *err)
{
	struct machine_disk_config with_path = *c;
	struct block_files f;

	with_path.path = image;
	if (block_files_open(&f, image, &with_path.options, err))
		return err->code;
	int rc = machine_attach_disk(m, &with_path, &f, "the image", name, err);

	block_files_close(&f);
	return rc;
}

static void a_disk_comes_and_goes(void **state)
{
	char name[MACHINE_NAME_MAX];
	struct machine *m = machine();
	struct machine_attached a;
	struct err err = { 0 };

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(who(m, SLOT), ~0u);
		if (attach(m, &disk, name, &err))
			fail_msg("%s", err.text);
		assert_string_equal(name, "disk0");
		assert_true(machine_attached(m, 0, &a));
		assert_string_equal(a.about, "the image");
		assert_false(a.leaving);
		assert_int_equal(who(m, SLOT), 0x10421af4);
		assert_int_equal(in32(m, CAME), BIT(SLOT));
		assert_int_equal(in32(m, GPE_STATUS) & 0xffff, BIT(1));
		out32(m, GPE_STATUS, BIT(1));
		out32(m, CAME, BIT(SLOT));

		assert_int_equal(machine_detach(m, name, &err), 0);
		assert_true(machine_attached(m, 0, &a) && a.leaving);
		assert_int_equal(in32(m, LEAVE), BIT(SLOT));
		assert_int_equal(in32(m, GPE_STATUS) & 0xffff, BIT(1));
		out32(m, GPE_STATUS, BIT(1));
		out32(m, EJECT, BIT(SLOT));
		assert_int_equal(who(m, SLOT), ~0u);
		assert_false(machine_attached(m, 0, &a));
		assert_int_equal(in32(m, LEAVE), 0);
		hot_turn(m);
		assert_string_equal(events, "3:disk0 ");
		events[0] = 0;
	}
	machine_free(m);
}

static void each_disk_needs_a_place(void **state)
{
	struct machine *m = machine();
	struct machine_disk_config readonly = disk;
	char name[MACHINE_NAME_MAX];
	struct err err = { 0 };

	readonly.options.readonly = true;
	readonly.bus = MACHINE_NVME;
	for (unsigned i = 0; i < MACHINE_HOT_DISKS; i++) {
		assert_int_equal(attach(m, &readonly, name, &err), 0);
		assert_int_equal(name[4], '0' + i);
		assert_int_not_equal(who(m, SLOT + i), ~0u);
	}
	assert_int_equal(attach(m, &readonly, name, &err), -ENOSPC);
	/* The guest lets go of one that nobody has asked for; the others stay where they are. */
	out32(m, EJECT, BIT(SLOT + 1));
	hot_turn(m);
	assert_int_equal(attach(m, &readonly, name, &err), 0);
	assert_string_equal(name, "disk1");
	assert_int_not_equal(who(m, SLOT + 1), ~0u);
	machine_free(m);
}

static void what_cannot_be_is_refused(void **state)
{
	struct machine *m = machine();
	struct machine_disk_config wrong = disk;
	char name[MACHINE_NAME_MAX];
	struct err err = { 0 };

	wrong.bus = MACHINE_IDE;
	assert_int_equal(attach(m, &wrong, name, &err), -EINVAL);
	wrong.bus = MACHINE_VIRTIO;
	wrong.transport = MACHINE_TRANSPORT_MMIO;
	assert_int_equal(attach(m, &wrong, name, &err), -EINVAL);
	wrong = disk;
	wrong.queues = 1000;
	assert_int_not_equal(attach(m, &wrong, name, &err), 0);
	assert_int_equal(who(m, SLOT), ~0u);
	assert_int_equal(machine_detach(m, "disk0", &err), -ENODEV);
	assert_non_null(strstr(err.text, "strata show"));
	assert_int_equal(machine_detach(m, "rng", &err), -ENODEV);
	assert_non_null(strstr(err.text, "was there when"));
	/* A slot with nothing in it. */
	out32(m, EJECT, 0xffffffff);
	/* What has failed left room. */
	assert_int_equal(attach(m, &disk, name, &err), 0);
	machine_free(m);

	struct machine_config config = fake_config();
	m = machine_new(&config, &err);
	assert_non_null(m);
	assert_int_equal(attach(m, &disk, name, &err), -ENOSYS);
	machine_free(m);
}

static int attach_net(struct machine *m, enum net_kind kind, char *name, struct err *err)
{
	const struct machine_net_config c = { .kind = kind, .name = "nowhere" };
	struct net_files none = { .count = 0 };

	return machine_attach_net(m, &c, &none, "a network", name, err);
}

static void a_network_comes_and_goes(void **state)
{
	static const struct machine_net_config user = { .kind = NET_USER };
	struct machine_config config = fake_config();
	char name[MACHINE_NAME_MAX];
	struct err err = { 0 };
	struct machine *m = machine();

	/* It may make no sockets; and nobody has opened anything for it. */
	assert_int_equal(attach_net(m, NET_USER, name, &err), -EPERM);
	assert_int_equal(attach_net(m, NET_TAP, name, &err), -EINVAL);
	assert_int_equal(attach_net(m, NET_SEGMENT, name, &err), -EINVAL);
	assert_int_equal(who(m, SLOT), ~0u);
	machine_free(m);

	config.hotplug = true;
	config.net = &user;
	config.event = on_event;
	events[0] = 0;
	m = machine_new(&config, &err);
	assert_non_null(m);
	for (unsigned i = 0; i < 3; i++) {
		err = (struct err){ 0 };
		if (attach_net(m, NET_USER, name, &err))
			fail_msg("%s", err.text);
		assert_string_equal(name, "net1");
		assert_int_equal(who(m, SLOT), 0x10411af4);
		assert_int_equal(attach_net(m, NET_USER, name, &err), -ENOSPC);
		out32(m, EJECT, BIT(SLOT));
		assert_int_equal(who(m, SLOT), ~0u);
		/* Not before the main thread has looked. */
		assert_int_equal(attach_net(m, NET_USER, name, &err), -ENOSPC);
		hot_turn(m);
	}
	assert_string_equal(events, "3:net1 3:net1 3:net1 ");
	machine_free(m);
}

/* Whoever starts again does not use what he was asked to let go of. */
static void a_reset_lets_go(void **state)
{
	struct machine *m = machine();
	struct machine_disk_config readonly = disk;
	char one[MACHINE_NAME_MAX], two[MACHINE_NAME_MAX];
	struct err err = { 0 };

	readonly.options.readonly = true;
	assert_int_equal(attach(m, &readonly, one, &err), 0);
	assert_int_equal(attach(m, &readonly, two, &err), 0);
	assert_int_equal(machine_detach(m, one, &err), 0);
	assert_int_equal(load_guest(m, &err), 0);
	assert_int_equal(who(m, SLOT), ~0u);
	assert_int_not_equal(who(m, SLOT + 1), ~0u);
	assert_int_equal(in32(m, CAME) | in32(m, LEAVE), 0);
	hot_turn(m);
	assert_string_equal(events, "3:disk0 ");
	machine_free(m);
}

static struct blob save(struct machine *m)
{
	struct blob b = { 0 };
	struct err err = { 0 };

	assert_int_equal(machine_save(m, &b, &err), 0);
	return b;
}

/* What was attached must be where it was when the state is loaded. */
static void attached_devices_are_saved(void **state)
{
	struct machine *a = machine(), *b = machine(), *bare = machine();
	struct machine_disk_config readonly = disk;
	char name[MACHINE_NAME_MAX];
	struct err err = { 0 };

	readonly.options.readonly = true;
	assert_int_equal(attach(a, &readonly, name, &err), 0);
	assert_int_equal(attach(b, &readonly, name, &err), 0);
	out32(a, 0xcf8, 0x80000000 | SLOT << 11 | 0x20);
	out32(a, 0xcfc, 0xd0000000);
	assert_int_equal(machine_detach(a, name, &err), 0);
	struct blob from = save(a);

	assert_int_not_equal(machine_load(bare, from.data, from.len, &err), 0);
	assert_string_equal(
		err.text, "disk0 was attached when the state was saved, and is not now");
	err = (struct err){ 0 };
	if (machine_load(b, from.data, from.len, &err))
		fail_msg("%s", err.text);
	struct blob loaded = save(b);

	assert_int_equal(from.len, loaded.len);
	assert_memory_equal(from.data, loaded.data, from.len);
	assert_int_equal(in32(b, LEAVE), BIT(SLOT));
	blob_free(&from);
	blob_free(&loaded);
	machine_free(a);
	machine_free(b);
	machine_free(bare);
}

static int make_image(void **state)
{
	int fd = mkstemp(image);

	return fd < 0 || ftruncate(fd, SIZE) || close(fd);
}

static int remove_image(void **state) { return unlink(image); }

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_disk_comes_and_goes),
		cmocka_unit_test(each_disk_needs_a_place),
		cmocka_unit_test(what_cannot_be_is_refused),
		cmocka_unit_test(a_network_comes_and_goes),
		cmocka_unit_test(a_reset_lets_go),
		cmocka_unit_test(attached_devices_are_saved),
	};

	return cmocka_run_group_tests(tests, make_image, remove_image);
}
