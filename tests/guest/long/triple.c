/* Expected failure: a triple fault. The monitor must end and say where. */
#include "guest.h"

static void triple(void)
{
	struct {
		u16 limit;
		u64 base;
	} __attribute__((packed)) none = { 0, 0 };

	print("about to triple fault\n");
	__asm__ volatile("lidt %0\n\tud2" ::"m"(none));
	print("still here\n");
}

const struct test tests[] = { { "triple fault", triple, 1 }, { 0 } };
