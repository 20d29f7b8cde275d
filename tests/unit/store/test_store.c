/* Machines' folders, their locks, and their configuration's file. */
#include "store/store.h"
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

static struct store_config config(void)
{
	struct store_config c = { 0 };
	struct err err = { 0 };

	assert_int_equal(store_config_add(&c, "kernel", "vmlinuz", 0, &err), 0);
	assert_int_equal(store_config_add(&c, "disk", "a: b", 0, &err), 0);
	assert_int_equal(store_config_add(&c, "disk", "- # 'c'\n\t\"", 0, &err), 0);
	assert_int_equal(store_config_add(&c, "append", "", 0, &err), 0);
	return c;
}

static void make(struct store_machine *m, const char *name, bool ephemeral)
{
	struct store_config c = config();
	struct err err = { 0 };

	assert_int_equal(store_create(m, name,
				 &(struct store_new){ .config = &c, .ephemeral = ephemeral }, &err),
		0);
	store_config_free(&c);
}

static void names_are_plain(void **state)
{
	static const char *const bad[] = { "", ".", "..", ".a", "-a", "a/b", "a b", "\xc3\xa4",
		"a\n" };
	char longest[STORE_NAME_MAX + 2];
	struct err err;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(store_check_name(bad[i], &err), -EINVAL);
	memset(longest, 'a', sizeof(longest));
	longest[STORE_NAME_MAX + 1] = '\0';
	assert_int_equal(store_check_name(longest, &err), -EINVAL);
	longest[STORE_NAME_MAX] = '\0';
	assert_int_equal(store_check_name(longest, &err), 0);
	assert_int_equal(store_check_name("9.web_1-x", &err), 0);
}

static void configuration_comes_back_as_it_was(void **state)
{
	struct store_config before = config(), after;
	struct err err = { 0 };
	char *text;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	assert_int_equal(store_config_write(&before, f, &err), 0);
	fclose(f);
	assert_int_equal(store_config_parse(&after, text, len, &err), 0);
	assert_int_equal(after.count, before.count);
	for (unsigned i = 0; i < after.count; i++) {
		assert_string_equal(after.items[i].name, before.items[i].name);
		assert_string_equal(after.items[i].value, before.items[i].value);
	}
	store_config_free(&after);
	store_config_free(&before);
	free(text);
}

static void mistakes_are_told_with_their_line(void **state)
{
	static const char *const texts[][2] = {
		{ "a: 1\nb: [\n", "line 3: no YAML" },
		{ "a: 1\na: 2\n", "line 2: a is there twice" },
		{ "- a\n", "line 1: a list" },
		{ "just text\n", "line 1: expected" },
		{ "a:\n  b: c\n", "line 2: a value is text" },
		{ "a: [[1]]\n", "line 1: a list" },
		{ "a: &x 1\nb: *x\n", "line 2: no aliases" },
		{ "a: 1\n---\nb: 2\n", "line 2: more than one document" },
		{ "a: \"\\0\"\n", "line 1: a value has a zero byte" },
	};
	struct store_config c;
	struct err err;

	for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
		err = (struct err){ 0 };
		assert_int_equal(
			store_config_parse(&c, texts[i][0], strlen(texts[i][0]), &err), -EINVAL);
		assert_ptr_equal(strstr(err.text, texts[i][1]), err.text);
		assert_int_equal(c.count, 0);
	}
	assert_int_equal(store_config_parse(&c, "", 0, &err), 0);
	assert_int_equal(c.count, 0);
}

static void a_machine_lives_and_goes(void **state)
{
	struct store_machine m, other;
	struct store_outcome o = { .pid = 7, .since = 9, .text = "power off" };
	struct store_config c;
	struct err err = { 0 };

	make(&m, "web", false);
	assert_int_equal(store_open(&other, "web", &err), 0);
	assert_int_equal(store_state(&other, &o), STORE_RUNNING); /* so it seems from outside */
	assert_int_equal(store_lock(&other, &err), -EBUSY);
	assert_int_equal(store_state(&m, &o), STORE_NEW);
	assert_int_equal(store_read_config(&other, &c, &err), 0);
	assert_string_equal(store_config_get(&c, "kernel"), "vmlinuz");
	store_config_free(&c);

	int fd = store_outcome_open(&m, &err);

	o = (struct store_outcome){ .pid = 7, .since = 9, .text = "power off" };
	store_outcome_write(fd, true, &o);
	store_close(&m);
	assert_int_equal(store_state(&other, &o), STORE_CRASHED);
	assert_int_equal(o.pid, 7);
	o.status = 3;
	snprintf(o.text, sizeof(o.text), "power off");
	store_outcome_write(fd, false, &o);
	close(fd);
	assert_int_equal(store_state(&other, &o), STORE_ENDED);
	assert_int_equal(o.status, 3);
	assert_string_equal(o.text, "power off");

	assert_int_equal(store_lock(&other, &err), 0);
	assert_int_equal(store_remove(&other, &err), 0);
	store_close(&other);
	assert_int_equal(store_open(&m, "web", &err), -ENOENT);
}

static void names_are_taken_once(void **state)
{
	struct store_config c = config();
	struct store_machine m, other;
	struct err err = { 0 };

	make(&m, "web", false);
	assert_int_equal(
		store_create(&other, "web", &(struct store_new){ .config = &c }, &err), -EEXIST);
	assert_non_null(strstr(err.text, "strata start web"));
	assert_int_equal(store_remove(&m, &err), 0);
	/* A new one of that name is not the old one. */
	make(&other, "web", false);
	store_unlock(&m);
	assert_int_equal(store_lock(&m, &err), -ENOENT);
	store_close(&m);
	assert_int_equal(store_remove(&other, &err), 0);
	store_close(&other);
	store_config_free(&c);
}

static unsigned entries(void)
{
	char **names;
	unsigned count;
	struct err err = { 0 };

	assert_int_equal(store_list(&names, &count, &err), 0);
	for (unsigned i = 0; i < count; i++)
		free(names[i]);
	free(names);
	return count;
}

static void sweeping_takes_what_is_dead_only(void **state)
{
	struct store_machine kept, running, ended;
	struct err err = { 0 };
	char path[128];

	make(&kept, "kept", false);
	store_unlock(&kept);
	make(&running, "running", true);
	make(&ended, "ended", true);
	store_close(&ended);
	/* What somebody left who was killed. */
	snprintf(path, sizeof(path), "%s/strata/machines/.new-1", root);
	assert_int_equal(mkdir(path, 0700), 0);
	snprintf(path, sizeof(path), "%s/strata/machines/.new-1/lock", root);
	close(open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
	store_sweep();
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(entries(), 2);
	store_close(&running);
	store_sweep();
	assert_int_equal(entries(), 1);
	assert_int_equal(store_lock(&kept, &err), 0);
	assert_int_equal(store_remove(&kept, &err), 0);
	store_close(&kept);
}

/* Several processes make, lock and remove the same name for a while. Each may only ever see whole
 * machines, and be alone where it has the lock. */
static void race(unsigned rounds)
{
	struct store_config c = config(), read;
	struct store_machine m;
	struct err err;

	for (unsigned i = 0; i < rounds; i++) {
		err = (struct err){ 0 };
		if (!store_create(&m, "race", &(struct store_new){ .config = &c }, &err) ||
			(!store_open(&m, "race", &err) && !store_lock(&m, &err))) {
			int fd = openat(m.folder, "alone", O_CREAT | O_EXCL | O_CLOEXEC, 0600);

			if (fd < 0 || store_read_config(&m, &read, &err))
				_exit(1);
			store_config_free(&read);
			close(fd);
			unlinkat(m.folder, "alone", 0);
			if (i % 2 && store_remove(&m, &err))
				_exit(2);
			store_close(&m);
		} else if (err.code != -EBUSY && err.code != -ENOENT && err.code != -EEXIST) {
			_exit(3);
		}
		if (m.folder >= 0)
			store_close(&m);
		store_sweep();
	}
	_exit(0);
}

static void commands_at_once_corrupt_nothing(void **state)
{
	struct store_machine m;
	struct err err = { 0 };
	int status;

	for (unsigned i = 0; i < 4; i++)
		if (!fork())
			race(100);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	if (!store_open(&m, "race", &err)) {
		assert_int_equal(store_lock(&m, &err), 0);
		assert_int_equal(store_remove(&m, &err), 0);
		store_close(&m);
	}
	assert_int_equal(entries(), 0);
}

static void a_promise_ends_with_its_run(void **state)
{
	struct store_machine m, other;
	struct err err = { 0 };

	make(&m, "web", false);
	assert_int_equal(store_open(&other, "web", &err), 0);
	assert_true(store_promised(&other) == 0);
	assert_int_equal(store_promise(&m, 1ull << 40, &err), 0);
	assert_true(store_promised(&other) == 1ull << 40);
	store_unlock(&m);
	assert_true(store_promised(&other) == 0);
	/* Nor is what an earlier run was promised the next one's. */
	assert_int_equal(store_lock(&m, &err), 0);
	assert_true(store_promised(&other) == 0);
	assert_int_equal(store_lock(&other, &err), -EBUSY);
	store_close(&other);
	assert_int_equal(store_remove(&m, &err), 0);
	store_close(&m);
}

/* Any folder does for a group. */
static void a_group_goes_with_its_machine(void **state)
{
	struct store_machine m;
	struct err err = { 0 };
	char group[128], text[128];

	snprintf(group, sizeof(group), "%s/group", root);
	for (unsigned how = 0; how < 4; how++) {
		make(&m, "web", how == 3);
		assert_false(store_group(&m, text, sizeof(text)));
		assert_int_equal(store_group_set(&m, group, &err), 0);
		assert_true(store_group(&m, text, sizeof(text)));
		assert_string_equal(text, group);
		assert_int_equal(mkdir(group, 0700), 0);
		store_sweep(); /* the lock is taken: it runs */
		assert_int_equal(access(group, F_OK), 0);
		if (how == 0)
			assert_int_equal(store_group_drop(&m, &err), 0);
		if (how == 1 || how == 3)
			store_unlock(&m);
		if (how == 1)
			store_group_tidy(&m);
		if (how == 3)
			store_sweep();
		else
			assert_int_equal(store_remove(&m, &err), 0);
		assert_int_equal(access(group, F_OK), -1);
		store_close(&m);
	}
	assert_int_equal(entries(), 0);
}

static int set_up(void **state)
{
	strcpy(root, "/tmp/strata-store-XXXXXX");
	return mkdtemp(root) && !setenv("XDG_STATE_HOME", root, 1) ? 0 : -1;
}

static int tear_down(void **state)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/strata/machines", root);
	rmdir(path);
	snprintf(path, sizeof(path), "%s/strata", root);
	rmdir(path);
	return rmdir(root); /* nothing is left */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_are_plain),
		cmocka_unit_test(configuration_comes_back_as_it_was),
		cmocka_unit_test(mistakes_are_told_with_their_line),
		cmocka_unit_test(a_machine_lives_and_goes),
		cmocka_unit_test(names_are_taken_once),
		cmocka_unit_test(sweeping_takes_what_is_dead_only),
		cmocka_unit_test(commands_at_once_corrupt_nothing),
		cmocka_unit_test(a_promise_ends_with_its_run),
		cmocka_unit_test(a_group_goes_with_its_machine),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
