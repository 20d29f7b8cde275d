/* Which files a module is made of, by depmod's tables; and tables that are no such thing. */
#include "guest/modules.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

static const char dep[] = "kernel/net/core/failover.ko:\n"
			  "kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko "
			  "kernel/net/core/failover.ko\n"
			  "kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko\n"
			  "kernel/drivers/char/hw_random/virtio-rng.ko.xz:\n"
			  "kernel/fs/fat/fat.ko";

static const char aliases[] = "# Aliases\n"
			      "alias fs-vfat vfat\n"
			      "alias char-major-10-229 fuse\n"
			      "options fs-vfat no\n"
			      "alias char-major-10-* misc\n"
			      "alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n"
			      "alias pci:v*d*sv*sd*bc01sc08i02* nvme\n"
			      "alias fs-vfat other";

static struct text text(const char *s) { return (struct text){ s, strlen(s) }; }

/* The files of a module, in the order in which they are loaded; "-": there is no such module. */
static const char *files_of(const char *module)
{
	static char all[512];
	struct text line, file;

	if (!modules_find(text(dep), text(module), &line))
		return "-";
	all[0] = '\0';
	while (modules_next(&line, &file))
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%.*s;", (int)file.len,
			file.at);
	return all;
}

static void a_module_comes_after_what_it_needs(void **state)
{
	assert_string_equal(files_of("virtio_net"),
		"kernel/net/core/failover.ko;kernel/drivers/net/net_failover.ko;"
		"kernel/drivers/net/virtio_net.ko;");
	assert_string_equal(files_of("failover"), "kernel/net/core/failover.ko;");
}

static void a_name_may_have_either_stroke_and_a_file_be_packed(void **state)
{
	assert_string_equal(
		files_of("virtio_rng"), "kernel/drivers/char/hw_random/virtio-rng.ko.xz;");
	assert_string_equal(files_of("virtio-net"), files_of("virtio_net"));
}

static void the_last_line_needs_no_end(void **state)
{
	assert_string_equal(files_of("fat"), "kernel/fs/fat/fat.ko;");
}

static void what_only_begins_so_is_another_module(void **state)
{
	assert_string_equal(files_of("virtio"), "-");
	assert_string_equal(files_of("failover.ko"), "-");
	assert_string_equal(files_of(""), "-");
}

static const char *modules_of(const char *alias)
{
	static char all[128];
	struct text rest = text(aliases), module;

	all[0] = '\0';
	while (modules_alias(&rest, text(alias), &module))
		snprintf(all + strlen(all), sizeof(all) - strlen(all), "%.*s;", (int)module.len,
			module.at);
	return all;
}

static void all_modules_with_an_alias_are_found(void **state)
{
	assert_string_equal(modules_of("fs-vfat"), "vfat;other;");
	assert_string_equal(modules_of("char-major-10-229"), "fuse;misc;");
	assert_string_equal(modules_of("char-major-10-1"), "misc;");
	assert_string_equal(modules_of("char-major-10"), "");
	assert_string_equal(modules_of("fs-ext2"), "");
}

static void a_star_is_any_text(void **state)
{
	assert_string_equal(
		modules_of("pci:v00001AF4d00001041sv00001AF4sd00000040bc02sc00i00"), "virtio_pci;");
	assert_string_equal(
		modules_of("pci:v000015ADd000007F0sv000015ADsd000007F0bc01sc08i02"), "nvme;");
	assert_string_equal(modules_of("pci:v00001AF4dsvsdbc01sc08i02"), "virtio_pci;nvme;");
	assert_string_equal(
		modules_of("pci:v00001AF5d00001041sv00001AF4sd00000040bc02sc00i00"), "");
	assert_string_equal(modules_of("pci:v00001AF4d00001041sv00001AF4sd00000040bc02sc00"), "");
}

static unsigned dice(unsigned below)
{
	static u64 state = 1;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(state >> 33) % below;
}

/* Of what is no table either; each text ends where its memory does. */
static void any_text_comes_to_its_end(void **state)
{
	static const char letters[] = "a.:/ \n-_*ko";

	for (unsigned n = 0; n < 20000; n++) {
		size_t len = dice(60);
		char *some = malloc(len ? len : 1);
		struct text rest = { some, len }, name = { some, dice((unsigned)len + 1) }, line,
			    found;

		assert_non_null(some);
		for (size_t i = 0; i < len; i++)
			some[i] = letters[dice(sizeof(letters) - 1)];
		if (len > 6 && dice(2))
			memcpy(some, "alias ", 6);
		if (modules_find(rest, name, &line))
			while (modules_next(&line, &found))
				assert_true(found.at >= some && found.at + found.len <= some + len);
		while (modules_alias(&rest, name, &found))
			assert_true(found.at >= some && found.at + found.len <= some + len);
		free(some);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_module_comes_after_what_it_needs),
		cmocka_unit_test(a_name_may_have_either_stroke_and_a_file_be_packed),
		cmocka_unit_test(the_last_line_needs_no_end),
		cmocka_unit_test(what_only_begins_so_is_another_module),
		cmocka_unit_test(all_modules_with_an_alias_are_found),
		cmocka_unit_test(a_star_is_any_text),
		cmocka_unit_test(any_text_comes_to_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
