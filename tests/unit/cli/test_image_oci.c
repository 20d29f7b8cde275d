/*
 * What an OCI image's documents say, which are whoever's made them: what it runs is quoted for a
 * shell, whatever it is, and what is broken is refused with words.
 */
#include "cli/image_oci.h"
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

#define EDITS  1500u
#define LENGTH 2048u
#define ZEROS  "0000000000000000000000000000000000000000000000000000000000000000"
#define ONES   "1111111111111111111111111111111111111111111111111111111111111111"

enum { INDEX, MANIFEST, CONFIG, DOCUMENTS };

static const char *const files[DOCUMENTS] = { "index.json", "blobs/sha256/" ZEROS,
	"blobs/sha256/" ONES };

static const char *const good[DOCUMENTS] = {
	"{\"manifests\":[{\"digest\":\"sha256:" ZEROS "\",\"annotations\":{"
	"\"org.opencontainers.image.ref.name\":\"a\"}}]}",
	"{\"config\":{\"digest\":\"sha256:" ONES "\"}}",
	"{\"architecture\":\"amd64\",\"config\":{\"Env\":[\"A=it's\",\"B;x=1\",\"=\",\"C\",7],"
	"\"WorkingDir\":\"/a'b\",\"Entrypoint\":[\"e\",\"$(x)\\n\"],\"Cmd\":[\"'\"],\"User\":"
	"\"u'v:g\"}}",
};

static char root[64];
static struct images_image at;

static void put(const char *file, const char *text, size_t len)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", root, file);
	unlink(path); /* what is cut short and written anew, ext4 writes to the disk at once */
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	fclose(f);
}

static int begin(struct err *err)
{
	struct oci o;
	char from[96];

	unlinkat(at.folder, OCI_RUN, 0);
	snprintf(from, sizeof(from), "oci:%s", root);
	return image_oci_begin(&o, from, &at, err);
}

static void what_it_runs_is_quoted(void **state)
{
	char text[1024] = "";
	struct err err = { 0 };

	for (unsigned i = 0; i < DOCUMENTS; i++)
		put(files[i], good[i], strlen(good[i]));
	assert_int_equal(begin(&err), 0);
	int fd = openat(at.folder, OCI_RUN, O_RDONLY);

	assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	assert_string_equal(text,
		"#!/bin/sh\n# What the image runs, of its configuration.\n"
		"export A='it'\\''s'\ncd '/a'\\''b' || exit\nset -- 'e' '$(x)\n' ''\\'''\n"
		"set -- su -s /bin/sh 'u'\\''v' -c 'exec \"$0\" \"$@\"' \"$@\"\nexec \"$@\"\n");
}

static unsigned dice(unsigned below)
{
	static u64 state = 1;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(state >> 33) % below;
}

/* A piece goes, is doubled, or is replaced by what may mean something. */
static size_t edit(char *text, size_t len)
{
	static const char *const words[] = { "{", "}", "[", "]", "\"", ",", ":", "null", "-1", "{}",
		"[]", "\"manifests\":[", "\"config\":", "sha256:", "../", "\\u0000", "\xff", "\\" };
	size_t from = dice((unsigned)len), some = dice((unsigned)(len - from)) / (1 + dice(8));
	const char *word = words[dice(ARRAY_LEN(words))];

	if (dice(3) == 0 && len + some < LENGTH) {
		memmove(text + from + some, text + from, len - from);
		return len + some;
	}
	if (dice(2) && some < 24) {
		memmove(text + from, text + from + some, len - from - some);
		len -= some;
	}
	if (len + strlen(word) < LENGTH) {
		memmove(text + from + strlen(word), text + from, len - from);
		memcpy(text + from, word, strlen(word));
		len += strlen(word);
	}
	return len;
}

static void what_is_broken_is_refused_with_words(void **state)
{
	unsigned taken = 0;

	for (unsigned n = 0; n < EDITS; n++) {
		struct err err = { 0 };

		for (unsigned i = 0; i < DOCUMENTS; i++) {
			char text[LENGTH + 64];
			size_t len = strlen(good[i]);

			memcpy(text, good[i], len);
			for (unsigned k = dice(3); i == n % DOCUMENTS && k < 3 && len; k++)
				len = edit(text, len);
			put(files[i], text, len);
		}
		int rc = begin(&err);

		if (rc)
			assert_true(rc == err.code && err.text[0]);
		else
			assert_int_equal(faccessat(at.folder, OCI_RUN, R_OK, 0), 0);
		taken += !rc;
	}
	assert_true(taken > EDITS / 100 && taken < EDITS); /* both are tried */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_runs_is_quoted),
		cmocka_unit_test(what_is_broken_is_refused_with_words),
	};
	char command[128];

	strcpy(root, "/tmp/strata-oci-XXXXXX");
	if (!mkdtemp(root))
		return 1;
	snprintf(command, sizeof(command), "mkdir -p %s/blobs/sha256 && touch %s/oci-layout", root,
		root);
	if (system(command))
		return 1;
	at.folder = open(root, O_RDONLY | O_DIRECTORY);
	snprintf(at.path, sizeof(at.path), "%s", root);
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	close(at.folder);
	snprintf(command, sizeof(command), "rm -rf %s", root);
	return system(command) ? 1 : rc;
}
