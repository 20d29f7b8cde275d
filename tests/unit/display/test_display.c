/* Addresses, and viewers that come, type and go. */
#include "display/display.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h> /* needs the above */

static const u32 pixels[16 * 8] = { 0x0000ff };

struct person {
	_Atomic unsigned draws;
	_Atomic u32 key; /* the last one */
	_Atomic int x, y;
	_Atomic unsigned buttons;
};

static bool draw(void *ctx, void (*changed)(void *to, unsigned first, unsigned count), void *to,
	struct display_picture *picture)
{
	struct person *p = ctx;

	*picture = (struct display_picture){ pixels, 16, 8 };
	return atomic_fetch_add(&p->draws, 1) == 0;
}

static void key(void *ctx, u16 code, bool down)
{
	atomic_store(&((struct person *)ctx)->key, code | (u32)down << 16);
}

static void pointer(void *ctx, int x, int y, unsigned buttons)
{
	struct person *p = ctx;

	atomic_store(&p->x, x);
	atomic_store(&p->y, y);
	atomic_store(&p->buttons, buttons);
}

static void addresses_are_numbers_or_paths(void **state)
{
	struct display_address a;

	assert_int_equal(display_address_parse("127.0.0.1", &a, NULL), 0);
	assert_string_equal(a.host, "127.0.0.1");
	assert_int_equal(a.port, DISPLAY_PORT);
	assert_int_equal(display_address_parse("localhost:5901", &a, NULL), 0);
	assert_string_equal(a.host, "127.0.0.1");
	assert_int_equal(a.port, 5901);
	assert_int_equal(display_address_parse("[::1]:7", &a, NULL), 0);
	assert_string_equal(a.host, "::1");
	assert_int_equal(a.port, 7);
	assert_int_equal(display_address_parse("::1", &a, NULL), 0);
	assert_int_equal(display_address_parse("./screen", &a, NULL), 0);
	assert_string_equal(a.path, "./screen");
}

static void nonsense_is_refused_in_words(void **state)
{
	static const char *const bad[] = { "", ":", "5900", "127.0.0.1:", "127.0.0.1:0",
		"127.0.0.1:65536", "127.0.0.1:5900x", "[::1", "[::1]5900", "example.org:5900",
		"1.2.3.4.5" };
	struct display_address a;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct err err = { 0 };

		assert_true(display_address_parse(bad[i], &a, &err) < 0);
		assert_non_null(strstr(err.text, "must be an address"));
	}
}

static void only_this_host_is_local(void **state)
{
	static const struct {
		const char *text;
		bool local;
	} rows[] = { { "127.0.0.1", true }, { "127.9.9.9:1", true }, { "[::1]:1", true },
		{ "/tmp/x", true }, { "0.0.0.0", false }, { "::", false }, { "10.0.0.1", false } };
	struct display_address a;

	for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(display_address_parse(rows[i].text, &a, NULL), 0);
		assert_int_equal(display_is_local(&a), rows[i].local);
	}
}

/* ---- a viewer ---- */

static void path_of(struct display_config *c, const char *name)
{
	snprintf(c->address.path, sizeof(c->address.path), "/tmp/test-display-%d-%s", getpid(),
		name);
}

static int call(const struct display_config *c)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", c->address.path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void take(int fd, u8 *to, size_t len)
{
	for (ssize_t n; len; to += n, len -= (size_t)n) {
		n = read(fd, to, len);
		assert_true(n > 0);
	}
}

static void give(int fd, const void *data, size_t len)
{
	assert_int_equal(write(fd, data, len), len);
}

/* RFC 6143 7.1 to 7.3, without a password; the size of the picture */
static void greet(int fd, u8 init[24])
{
	u8 buf[64];

	take(fd, buf, 12);
	assert_memory_equal(buf, "RFB 003.008\n", 12);
	give(fd, buf, 12);
	take(fd, buf, 1);
	take(fd, buf + 1, buf[0]);
	assert_non_null(memchr(buf + 1, 1, buf[0]));
	give(fd, "\1", 1);
	take(fd, buf, 4);
	give(fd, "\1", 1);
	take(fd, init, 24);
	take(fd, buf, init[23]);
	assert_memory_equal(buf, "Strata", 6);
}

static void a_viewer_sees_types_and_points(void **state)
{
	static struct person p;
	const struct display_source source = { draw, key, pointer, &p };
	struct display_config config = { 0 };
	struct display *d = NULL;
	u8 init[24], buf[16 + 16 * 8 * 4];
	struct stat st;

	path_of(&config, "a");
	assert_int_equal(display_open(&d, &config, &source, NULL), 0);
	assert_int_equal(stat(config.address.path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	int fd = call(&config);
	greet(fd, init);
	assert_memory_equal(init, "\0\x10\0\x08", 4);
	/* Red in the lowest byte, as it lies in memory: shifts 0, 8, 16 */
	assert_memory_equal(init + 14, "\0\x08\x10", 3);
	give(fd, "\3\0\0\0\0\0\0\x10\0\x08", 10);
	take(fd, buf, 16 + 16 * 8 * 4);
	assert_memory_equal(buf, "\0\0\0\1\0\0\0\0\0\x10\0\x08\0\0\0\0", 16);
	assert_memory_equal(buf + 16, pixels, sizeof(pixels));
	give(fd, "\4\1\0\0\0\0\xff\x0d", 8);
	give(fd, "\5\1\0\5\0\6", 6);
	while (!atomic_load(&p.buttons))
		usleep(1000);
	assert_int_equal(p.key, 0x5a | 1 << 16);
	assert_int_equal(p.x, 5);
	assert_int_equal(p.y, 6);
	close(fd);
	/* Also while one is there, and another has said nothing yet */
	fd = call(&config);
	int other = call(&config);
	greet(fd, init);
	display_close(d);
	assert_int_equal(read(fd, buf, 1), 0);
	close(fd);
	close(other);
	unlink(config.address.path);
}

static void sockets_in_the_way(void **state)
{
	static struct person p;
	const struct display_source source = { draw, key, pointer, &p };
	struct display_config config = { 0 };
	struct display *d = NULL, *second = NULL;
	struct err err = { 0 };

	path_of(&config, "b");
	assert_int_equal(display_open(&d, &config, &source, NULL), 0);
	assert_true(display_open(&second, &config, &source, &err) < 0);
	assert_non_null(strstr(err.text, config.address.path));
	display_close(d);
	/* What was left behind is not. */
	assert_int_equal(display_open(&d, &config, &source, NULL), 0);
	display_close(d);
	unlink(config.address.path);
}

static void a_password_is_asked_for(void **state)
{
	static struct person p;
	const struct display_source source = { draw, key, pointer, &p };
	struct display_config config = { .password = "secret" };
	struct display *d = NULL;
	u8 buf[64];

	path_of(&config, "c");
	assert_int_equal(display_open(&d, &config, &source, NULL), 0);
	int fd = call(&config);
	take(fd, buf, 12);
	give(fd, "RFB 003.008\n", 12);
	take(fd, buf, 1);
	take(fd, buf + 1, buf[0]);
	assert_null(memchr(buf + 1, 1, buf[0]));
	assert_non_null(memchr(buf + 1, 2, buf[0]));
	give(fd, "\2", 1);
	take(fd, buf, 16);
	give(fd, buf, 16); /* the challenge itself is no answer */
	take(fd, buf, 4);
	assert_memory_equal(buf, "\0\0\0\1", 4);
	close(fd);
	display_close(d);
	unlink(config.address.path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(addresses_are_numbers_or_paths),
		cmocka_unit_test(nonsense_is_refused_in_words),
		cmocka_unit_test(only_this_host_is_local),
		cmocka_unit_test(a_viewer_sees_types_and_points),
		cmocka_unit_test(sockets_in_the_way),
		cmocka_unit_test(a_password_is_asked_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
