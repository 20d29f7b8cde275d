/* DHCP's messages, as RFC 2131 and 2132 have them, and messages that nobody should send. */
#include "guest/dhcp.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* needs the above */

static const struct dhcp_client client = { .mac = { 2, 3, 4, 5, 6, 7 }, .id = { 9, 8, 7, 6 } };

/* What a server answers to the client, with options behind the cookie. */
static size_t answer(u8 *message, const u8 *options, size_t len)
{
	memset(message, 0, DHCP_SIZE);
	message[0] = 2;
	memcpy(message + 4, client.id, 4);
	memcpy(message + 16, (const u8[]){ 10, 0, 2, 15 }, 4);
	memcpy(message + 28, client.mac, 6);
	memcpy(message + 236, (const u8[]){ 99, 130, 83, 99 }, 4);
	memcpy(message + 240, options, len);
	return 240 + len;
}

#define ANSWER(message, ...) \
	answer(message, (const u8[]){ __VA_ARGS__ }, sizeof((const u8[]){ __VA_ARGS__ }))
#define OFFER 53, 1, 2

static void a_request_names_what_was_offered(void **state)
{
	const struct dhcp_lease offered = { .address = { 10, 0, 2, 15 },
		.server = { 10, 0, 2, 2 } };
	const u8 options[] = { 99, 130, 83, 99, 53, 1, 3, 55, 3, 1, 3, 6, 50, 4, 10, 0, 2, 15, 54,
		4, 10, 0, 2, 2, 255 };
	u8 m[DHCP_SIZE];

	dhcp_write(m, &client, DHCP_REQUEST, &offered);
	assert_memory_equal(m, ((const u8[]){ 1, 1, 6, 0, 9, 8, 7, 6, 0, 0, 0x80, 0 }), 12);
	assert_memory_equal(m + 28, client.mac, 6);
	assert_memory_equal(m + 236, options, sizeof(options));
}

static void a_question_names_nothing(void **state)
{
	const struct dhcp_lease none = { 0 };
	const u8 options[] = { 53, 1, 1, 55, 3, 1, 3, 6, 255, 0 };
	u8 m[DHCP_SIZE];

	dhcp_write(m, &client, DHCP_DISCOVER, &none);
	assert_memory_equal(m + 240, options, sizeof(options));
}

static void an_answer_is_all_that_it_says(void **state)
{
	struct dhcp_lease l;
	u8 m[DHCP_SIZE];
	size_t len = ANSWER(m, 0, OFFER, 1, 4, 255, 255, 255, 0, 3, 8, 10, 0, 2, 2, 1, 1, 1, 1, 6,
		16, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 54, 4, 10, 0, 2, 2, 255, 1, 4,
		0);
	const struct dhcp_lease wanted = { { 10, 0, 2, 15 }, { 255, 255, 255, 0 }, { 10, 0, 2, 2 },
		{ 10, 0, 2, 2 }, { { 1, 1, 1, 1 }, { 2, 2, 2, 2 }, { 3, 3, 3, 3 } } };

	assert_true(dhcp_read(m, len, &client, DHCP_OFFER, &l));
	assert_memory_equal(&l, &wanted, sizeof(l));
	assert_false(dhcp_read(m, len, &client, DHCP_ACK, &l));
}

static void what_is_for_others_is_no_answer(void **state)
{
	static const unsigned tells[] = { 0, 4, 7, 28, 33, 236, 239 };
	struct dhcp_lease l;
	u8 m[DHCP_SIZE];

	for (unsigned i = 0; i < ARRAY_LEN(tells); i++) {
		size_t len = ANSWER(m, OFFER, 255);

		assert_true(dhcp_read(m, len, &client, DHCP_OFFER, &l));
		m[tells[i]] ^= 1;
		assert_false(dhcp_read(m, len, &client, DHCP_OFFER, &l));
	}
}

static void an_answer_without_an_address_is_none(void **state)
{
	struct dhcp_lease l;
	u8 m[DHCP_SIZE];
	size_t len = ANSWER(m, OFFER, 255);

	memset(m + 16, 0, 4);
	assert_false(dhcp_read(m, len, &client, DHCP_OFFER, &l));
}

static void an_option_that_goes_past_the_end_is_no_answer(void **state)
{
	struct dhcp_lease l;
	u8 m[DHCP_SIZE];

	assert_false(dhcp_read(m, ANSWER(m, OFFER, 1), &client, DHCP_OFFER, &l));
	assert_false(dhcp_read(m, ANSWER(m, OFFER, 1, 4, 255, 255, 255), &client, DHCP_OFFER, &l));
	assert_true(dhcp_read(m, ANSWER(m, OFFER), &client, DHCP_OFFER, &l));
	/* One that is too short says nothing. */
	assert_true(dhcp_read(
		m, ANSWER(m, OFFER, 1, 2, 255, 255, 6, 3, 1, 1, 1), &client, DHCP_OFFER, &l));
	assert_int_equal(l.mask[0] + l.name_servers[0][0], 0);
	for (size_t len = 0; len < 240; len++)
		assert_false(dhcp_read(m, len, &client, DHCP_OFFER, &l));
}

static unsigned dice(unsigned below)
{
	static u64 state = 1;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(state >> 33) % below;
}

/* Each message ends where its memory does. */
static void any_options_come_to_their_end(void **state)
{
	unsigned taken = 0;

	for (unsigned n = 0; n < 20000; n++) {
		u8 whole[DHCP_SIZE], options[40] = { OFFER };
		size_t len = answer(whole, options, 3 + dice(37));
		u8 *m = malloc(len);
		struct dhcp_lease l;

		assert_non_null(m);
		for (size_t i = 243; i < len; i++)
			whole[i] = (u8)dice(dice(2) ? 8 : 256);
		memcpy(m, whole, len);
		taken += dhcp_read(m, len, &client, DHCP_OFFER, &l);
		free(m);
	}
	assert_true(taken > 100 && taken < 19900); /* both are tried */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_names_what_was_offered),
		cmocka_unit_test(a_question_names_nothing),
		cmocka_unit_test(an_answer_is_all_that_it_says),
		cmocka_unit_test(what_is_for_others_is_no_answer),
		cmocka_unit_test(an_answer_without_an_address_is_none),
		cmocka_unit_test(an_option_that_goes_past_the_end_is_no_answer),
		cmocka_unit_test(any_options_come_to_their_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
