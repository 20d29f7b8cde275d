/* Images' folders and their locks. */
#include "store/images.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

static char root[64];

static void names_have_colons(void **state)
{
	static const char *const bad[] = { "", ":12", ".a", "a/b", "a b", "a\n" };
	struct err err;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(images_check_name(bad[i], &err), -EINVAL);
	assert_int_equal(images_check_name("debian:12", &err), 0);
}

static void make(const char *name)
{
	struct store_config facts = { 0 };
	struct images_image i;
	struct err err = { 0 };

	assert_int_equal(store_config_add(&facts, "bus", "nvme", 0, &err), 0);
	assert_int_equal(images_begin(&i, &err), 0);
	assert_int_equal(images_write(&i, &facts, &err), 0);
	assert_int_equal(images_finish(&i, name, &err), 0);
	images_close(&i);
	store_config_free(&facts);
}

static unsigned entries(void)
{
	struct err err = { 0 };
	unsigned count;
	char **names;

	assert_int_equal(images_list(&names, &count, &err), 0);
	for (unsigned i = 0; i < count; i++)
		free(names[i]);
	free(names);
	return count;
}

static void one_comes_and_goes(void **state)
{
	struct images_image i, other;
	struct store_config facts;
	struct err err = { 0 };

	make("debian:12");
	assert_int_equal(images_open(&i, "debian:12", &err), 0);
	assert_int_equal(images_read(&i, &facts, &err), 0);
	assert_string_equal(store_config_get(&facts, "bus"), "nvme");
	store_config_free(&facts);

	/* A second one of that name: nothing is left of it. */
	assert_int_equal(images_begin(&other, &err), 0);
	assert_int_equal(images_finish(&other, "debian:12", &err), -EEXIST);
	assert_non_null(strstr(err.text, "strata image rm debian:12"));
	images_abandon(&other);
	assert_int_equal(entries(), 1);

	/* Who makes machines of it shares it; who removes it does not. */
	assert_int_equal(images_open(&other, "debian:12", &err), 0);
	assert_int_equal(images_lock(&i, true, &err), 0);
	assert_int_equal(images_lock(&other, true, &err), 0);
	images_close(&other);
	assert_int_equal(images_open(&other, "debian:12", &err), 0);
	assert_int_equal(images_lock(&other, false, &err), -EBUSY);
	images_close(&i);
	assert_int_equal(images_lock(&other, false, &err), 0);
	assert_int_equal(images_open(&i, "debian:12", &err), 0);
	assert_int_equal(images_remove(&other, &err), 0);
	images_close(&other);
	assert_int_equal(images_lock(&i, true, &err), -ENOENT);
	images_close(&i);
	assert_int_equal(images_open(&i, "debian:12", &err), -ENOENT);
}

/* A process that is killed in the middle, with what it had put there: folders, too. */
static void left_overs_go_once_nobody_works_in_them(void **state)
{
	int ready[2];
	char byte, path[128];

	assert_int_equal(pipe(ready), 0);
	pid_t child = fork();

	if (!child) {
		struct images_image i;
		struct err err;

		if (images_begin(&i, &err) || mkdirat(i.folder, "tree", 0700) ||
			mkdirat(i.folder, "tree/etc", 0) || write(ready[1], "", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	images_sweep();
	snprintf(path, sizeof(path), "%s/strata/images/.new-%d/tree", root, (int)child);
	assert_int_equal(access(path, F_OK), 0);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	images_sweep();
	assert_int_equal(access(path, F_OK), -1);
	close(ready[0]);
	close(ready[1]);
}

static int set_up(void **state)
{
	strcpy(root, "/tmp/strata-images-XXXXXX");
	return mkdtemp(root) && !setenv("XDG_DATA_HOME", root, 1) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_have_colons),
		cmocka_unit_test(one_comes_and_goes),
		cmocka_unit_test(left_overs_go_once_nobody_works_in_them),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
