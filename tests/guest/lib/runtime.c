/* The part of the runtime that is the same in every mode: console, test loop, trap recorder. */
#include "guest.h"

#define COM1 0x3f8

volatile struct trap trap;
volatile ulong trap_at, trap_resume;
volatile u32 trap_counts[256];
trap_hook_fn trap_hook[256];
bool test_failed;

static struct {
	int line;
	const char *what;
	u64 got, want;
} first_failure;
static const char *skip_reason;

void arch_init(void);
void trap_dispatch(struct frame *f);
void guest_main(void);

/* The compiler may call the next three even in freestanding code. */
void *memset(void *to, int c, size_t n)
{
	for (volatile u8 *p = to; n; n--)
		*p++ = (u8)c;
	return to;
}

void *memcpy(void *to, const void *from, size_t n)
{
	volatile u8 *p = to;

	for (const u8 *q = from; n; n--)
		*p++ = *q++;
	return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
	for (const u8 *p = a, *q = b; n; n--, p++, q++)
		if (*p != *q)
			return *p - *q;
	return 0;
}

void print(const char *text)
{
	for (; *text; text++) {
		while (!(inb(COM1 + 5) & 0x20))
			;
		outb(COM1, (u8)*text);
	}
}

void print_hex(u64 value)
{
	char text[19], *p = text + sizeof text;

	*--p = 0;
	do {
		*--p = "0123456789abcdef"[value & 15];
		value >>= 4;
	} while (value);
	*--p = 'x';
	*--p = '0';
	print(p);
}

_Noreturn void guest_exit(u8 value)
{
	while (!(inb(COM1 + 5) & 0x40))
		;
	for (;;) {
		outb(EXIT_PORT, value);
		__asm__ volatile("cli\n\thlt");
	}
}

void check_fail(int line, const char *what, u64 got, u64 want)
{
	if (!test_failed) {
		first_failure.line = line;
		first_failure.what = what;
		first_failure.got = got;
		first_failure.want = want;
	}
	test_failed = true;
}

void check_trap(int line, const char *what, u32 vector, u32 error, ulong offset)
{
	if (trap.vector != vector)
		check_fail(line, what, trap.vector, vector);
	else if (trap.error != error)
		check_fail(line, what, 0xee00000000 | trap.error, 0xee00000000 | error);
	else if (vector != NO_TRAP && trap.ip != trap_at + offset)
		check_fail(line, what, trap.ip - trap_at, offset);
}

void test_skip(const char *why) { skip_reason = why; }

static _Noreturn void unexpected(struct frame *f)
{
	print("FAIL unexpected trap ");
	print_hex(f->vector);
	print(" error ");
	print_hex(trap.error);
	print(" at ");
	print_hex(f->cs);
	print(":");
	print_hex(f->ip);
	print(" cr2 ");
	print_hex(trap.cr2);
	print("\nFAIL\n");
	guest_exit(EXIT_FAIL);
}

void trap_dispatch(struct frame *f)
{
	u8 vector = (u8)f->vector;

	trap_counts[vector]++;
	if (trap_hook[vector]) {
		trap_hook[vector](f);
		return;
	}
	trap.vector = vector;
	trap.cs = (u16)f->cs;
	trap.ip = f->ip;
	trap.flags = f->flags;
	trap.cr2 = read_cr2();
	trap.frame = f;
	trap.count++;
#ifndef GUEST16
	trap.error = (u32)f->error;
#endif
	if (!trap_resume)
		unexpected(f);
	f->ip = (typeof(f->ip))trap_resume;
	f->flags &= (typeof(f->flags))~(FLAG_TF | FLAG_RF);
	trap_resume = 0;
}

static void report(const char *name)
{
	if (!test_failed) {
		print(skip_reason ? "skip " : "ok ");
		print(name);
		if (skip_reason) {
			print(": ");
			print(skip_reason);
		}
		print("\n");
		return;
	}
	print("FAIL ");
	print(name);
	print(": line ");
	print_hex((u64)first_failure.line);
	print(": ");
	print(first_failure.what);
	print(": got ");
	print_hex(first_failure.got);
	print(", want ");
	print_hex(first_failure.want);
	print("\n");
}

void guest_main(void)
{
	bool failed = false;

	outb(COM1 + 1, 0);
	outb(COM1 + 3, 0x80); /* 115200 8N1 */
	outb(COM1, 1);
	outb(COM1 + 1, 0);
	outb(COM1 + 3, 3);
	outb(COM1 + 2, 7);
	arch_init();
	for (const struct test *t = tests; t->name; t++) {
		test_failed = false;
		skip_reason = NULL;
		for (unsigned i = 0; i < t->times && !test_failed && !skip_reason; i++)
			t->run();
		report(t->name);
		failed |= test_failed;
	}
	print(failed ? "FAIL\n" : "PASS\n");
	guest_exit(failed ? EXIT_FAIL : EXIT_PASS);
}
