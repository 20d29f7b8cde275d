/* Expected not to end: spins with interrupts off. SIGTERM and --timeout must still end the monitor.
 */
#include "guest.h"

static void spin(void)
{
	print("spinning\n");
	for (;;)
		__asm__ volatile("cli\n\tjmp .");
}

const struct test tests[] = { { "spin", spin, 1 }, { 0 } };
