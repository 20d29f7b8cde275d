/* Control groups: where one may be made, as the kernel's files say it. tests/cli/limits.py has the
 * kernel itself. */
#include "os/cgroup.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

#define OTHER "25 1 8:1 / / rw - ext4 /dev/root rw\n"
#define V1    "30 25 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
#define V2    "31 25 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"

static const struct {
	const char *name, *mounts, *groups, *top, *path; /* path NULL: refused */
} texts[] = {
	{ "alone", OTHER V2, "0::/user.slice/a.scope\n", "/sys/fs/cgroup",
		"/sys/fs/cgroup/user.slice/a.scope" },
	{ "beside version 1", V1 V2 OTHER, "8:pids:/x\n0::/y\n", "/sys/fs/cgroup",
		"/sys/fs/cgroup/y" },
	{ "the root", V2, "0::/\n", "/sys/fs/cgroup", "/sys/fs/cgroup" },
	{ "a part of the tree", "31 25 0:27 /docker/1 /cg rw - cgroup2 c rw\n", "0::/docker/1/x\n",
		"/cg", "/cg/x" },
	{ "that part itself", "31 25 0:27 /docker/1 /cg rw - cgroup2 c rw\n", "0::/docker/1\n",
		"/cg", "/cg" },
	{ "another part", "31 25 0:27 /docker/1 /cg rw - cgroup2 c rw\n", "0::/docker/12\n", NULL,
		NULL },
	{ "outside of the name space", V2, "0::/../x\n", NULL, NULL },
	{ "version 1 only", V1 OTHER, "8:pids:/x\n", NULL, NULL },
	{ "a name with blanks", "31 25 0:27 / /a\\040b rw - cgroup2 c rw\n", "0::/x\n", NULL,
		NULL },
	{ "nothing", "", "", NULL, NULL },
	{ "not in any", V2, "8:pids:/x\n", NULL, NULL },
};

static void a_process_is_found(void **state)
{
	for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
		char top[CGROUP_PATH_MAX], path[CGROUP_PATH_MAX];
		char *mounts = strdup(texts[i].mounts), *groups = strdup(texts[i].groups);
		struct err err = { 0 };
		int rc = cgroup_from_text(mounts, groups, top, path, &err);

		if ((rc == 0) != (texts[i].path != NULL))
			fail_msg("%s: %d, %s", texts[i].name, rc, err.text);
		if (!rc) {
			assert_string_equal(top, texts[i].top);
			assert_string_equal(path, texts[i].path);
		}
		free(mounts);
		free(groups);
	}
}

/* ---- folders that look like groups ---- */

static char root[64];

static void put(const char *group, const char *file, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s%s/%s", root, group, file);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void make(const char *group, const char *controllers, const char *handed_down)
{
	char path[256];

	snprintf(path, sizeof(path), "%s%s", root, group);
	assert_int_equal(mkdir(path, 0755) && errno != EEXIST, 0);
	put(group, "cgroup.controllers", controllers);
	put(group, "cgroup.subtree_control", handed_down);
	put(group, "cgroup.procs", "");
}

static const struct cgroup_value wanted[] = { { "cpu", "cpu.max", "1 2" },
	{ "pids", "pids.max", "3" } };

static int find(const char *own, char path[CGROUP_PATH_MAX], struct err *err)
{
	char at[256];

	snprintf(at, sizeof(at), "%s%s", root, own);
	return cgroup_parent_among(wanted, ARRAY_LEN(wanted), root, at, path, err);
}

static void the_nearest_that_hands_down_is_taken(void **state)
{
	char path[CGROUP_PATH_MAX], text[64];
	struct err err = { 0 };

	make("", "cpuset cpu io pids\n", "cpu pids\n");
	make("/a", "cpu pids", "");
	make("/a/b", "pids", "");
	make("/a/b/c", "", "");
	/* What only begins like it is another one. */
	put("/a/b", "cgroup.controllers", "cpuset pids");
	assert_int_equal(find("/a/b/c", path, &err), 0);
	assert_string_equal(path + strlen(root), "/a");
	/* It is told to. */
	assert_int_equal(cgroup_read(path, "cgroup.subtree_control", text, sizeof(text)), 0);
	assert_string_equal(text, "+pids");
	/* Nowhere. */
	make("", "cpuset pids", "");
	make("/a", "pids", "");
	assert_int_equal(find("/a/b/c", path, &err), -ENOTSUP);
	assert_non_null(strstr(err.text, "no controller cpu"));
	assert_null(strstr(err.text, "/a")); /* the root's word counts */
	/* Beyond the root nobody looks. */
	assert_int_equal(find("", path, &err), -ENOTSUP);
}

static void a_group_is_entered_and_goes(void **state)
{
	char path[256], text[64];
	struct err err = { 0 };

	snprintf(path, sizeof(path), "%s/a/new", root);
	make("/a/new", "", "");
	put("/a/new", "cpu.max", "");
	put("/a/new", "pids.max", "");
	assert_int_equal(cgroup_enter(path, wanted, ARRAY_LEN(wanted), &err), 0);
	assert_int_equal(cgroup_read(path, "cpu.max", text, sizeof(text)), 0);
	assert_string_equal(text, "1 2");
	assert_int_equal(cgroup_read(path, "cgroup.procs", text, sizeof(text)), 0);
	assert_string_equal(text, "0");
	assert_int_equal(cgroup_read(path, "none", text, sizeof(text)), -ENOENT);
	put("/a/new", "memory.events", "max 5\noom 2\noom_kill 1\noom_group_kill 7\n");
	assert_int_equal(cgroup_count(path, "memory.events", "oom_kill"), 1);
	assert_int_equal(cgroup_count(path, "memory.events", "oom"), 2);
	assert_int_equal(cgroup_count(path, "memory.events", "kill"), 0);
	assert_int_equal(cgroup_count(path, "none", "oom"), 0);
	assert_string_equal(text, "");
	/* A folder of another kind lacks the files, again and again, and nothing stays of it. */
	snprintf(path, sizeof(path), "%s/a/plain", root);
	assert_int_equal(cgroup_enter(path, wanted, ARRAY_LEN(wanted), &err), -ENOENT);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(cgroup_remove(path), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_process_is_found),
		cmocka_unit_test(the_nearest_that_hands_down_is_taken),
		cmocka_unit_test(a_group_is_entered_and_goes),
	};
	char command[96];

	snprintf(root, sizeof(root), "/tmp/strata-cgroup-%d", (int)getpid());
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command) ? 1 : rc;
}
