/* Debug registers: execution, data and I/O breakpoints, GD, RF (SDM 3B 17.2, 17.3). */
#include "guest.h"

static volatile unsigned count;
static volatile ulong ip, dr6;
static u64 data[4] ALIGNED(64);

static void on_debug(struct frame *f)
{
	count++;
	ip = f->ip;
	dr6 = read_dr6();
	write_dr6(0xffff0ff0);
	f->flags |= FLAG_RF; /* past an execution breakpoint */
}

/* len as DR7 encodes it: 0 one byte, 1 two, 3 four, 2 eight. */
static void arm(unsigned n, ulong address, unsigned kind, unsigned len)
{
	count = 0;
	trap_hook[V_DB] = on_debug;
	switch (n) {
	case 0: write_dr0(address); break;
	case 1: write_dr1(address); break;
	case 2: write_dr2(address); break;
	default: write_dr3(address);
	}
	write_dr7(0x400 | 2u << (n * 2) | (ulong)(kind | len << 2) << (16 + n * 4));
}

static void disarm(void) { write_dr7(0x400); }

static void execution(void)
{
	extern char bp_here[];

	/* A fault: before the instruction runs, RIP its own; RF in the saved flags lets it go on.
	 */
	u32 v = 0;
	arm(0, (ulong)bp_here, 0, 0);
	__asm__ volatile("nop\n\t.globl bp_here\nbp_here:\tinc %0\n\tnop" : "+r"(v));
	CHECK_EQ(count, 1);
	CHECK_EQ(ip, bp_here);
	CHECK_EQ(dr6 & 0xf, 1);
	CHECK_EQ(v, 1);
	disarm();
	__asm__ volatile("jmp bp_again\n\t.globl bp_again\nbp_again:\tnop");
	CHECK_EQ(count, 1);
}

static void data_write(void)
{
	extern char after_write[];

	/* A trap: after the access, with the next instruction's RIP. Reads do not match. */
	arm(1, (ulong)&data[1], 1, 2);
	*(volatile u64 *)&data[1];
	CHECK_EQ(count, 0);
	__asm__ volatile("movq $5, %0\n\t.globl after_write\nafter_write:\tnop" : "=m"(data[1]));
	CHECK_EQ(count, 1);
	CHECK_EQ(ip, after_write);
	CHECK_EQ(dr6 & 0xf, 2);
	CHECK_EQ(data[1], 5);
	disarm();
}

static void data_read(void)
{
	arm(2, (ulong)&data[2], 3, 3);
	*(volatile u32 *)&data[2];
	CHECK_EQ(count, 1);
	*(volatile u32 *)&data[2] = 1;
	CHECK_EQ(count, 2);
	CHECK_EQ(dr6 & 0xf, 4);
	disarm();
}

static void overlap(void)
{
	/* Any byte in common is a match; the neighbours are not. */
	u8 *b = (u8 *)data;

	arm(3, (ulong)(b + 4), 1, 1);
	*(volatile u8 *)(b + 3) = 0;
	*(volatile u8 *)(b + 6) = 0;
	CHECK_EQ(count, 0);
	*(volatile u8 *)(b + 5) = 0;
	CHECK_EQ(count, 1);
	*(volatile u64 *)b = 0;
	CHECK_EQ(count, 2);
	*(volatile u16 *)(b + 3) = 0;
	CHECK_EQ(count, 3);
	CHECK_EQ(dr6 & 0xf, 8);
	disarm();
}

static void rep_data(void)
{
	static u8 from[64];
	void *s = from, *d = (u8 *)data + 8;
	ulong n = 16;

	/* Reported within the run of a REP, at the latest after it. */
	arm(0, (ulong)data + 12, 1, 0);
	__asm__ volatile("rep movsb" : "+S"(s), "+D"(d), "+c"(n)::"memory");
	CHECK_EQ(n, 0);
	CHECK_EQ(count, 1);
	disarm();
}

static void io(void)
{
	extern char after_io[];

	/* Needs CR4.DE. */
	write_cr4(read_cr4() | CR4_DE);
	arm(0, 0x80, 2, 0);
	__asm__ volatile("outb %%al, $0x80\n\t.globl after_io\nafter_io:\tnop" ::"a"(0));
	CHECK_EQ(count, 1);
	CHECK_EQ(ip, after_io);
	__asm__ volatile("outb %%al, $0x81" ::"a"(0));
	CHECK_EQ(count, 1);
	disarm();
	write_cr4(read_cr4() & ~CR4_DE);
}

static void general_detect(void)
{
	ulong v;

	/* GD: any access to a debug register is a #DB fault, which clears GD itself. */
	trap_hook[V_DB] = NULL;
	write_dr6(0xffff0ff0);
	write_dr7(0x400 | 1 << 13);
	EXPECT(V_DB, 0, "mov %%dr0, %0", : "=r"(v));
	CHECK_EQ(read_dr7(), 0x400);
	CHECK_EQ(read_dr6() & 0x2000, 0x2000);
	write_dr6(0xffff0ff0);
}

static void fixed_bits(void)
{
	write_dr6(0);
	CHECK_EQ(read_dr6() & ~(1ul << 16 | 1ul << 11), 0xffff0ff0 & ~(1ul << 16 | 1ul << 11));
	write_dr6(0xffff0ff0);
	write_dr7(0);
	CHECK_EQ(read_dr7(), 0x400);
	write_dr0(0x123456789ab);
	CHECK_EQ(read_dr0(), 0x123456789ab);
}

static void not_armed(void)
{
	/* Addresses without an enable bit never match. */
	count = 0;
	trap_hook[V_DB] = on_debug;
	write_dr0((ulong)&data[0]);
	write_dr7(0x400 | 0xdul << 16);
	*(volatile u64 *)&data[0] = 1;
	CHECK_EQ(count, 0);
	disarm();
}

const struct test tests[] = {
	{ "execution", execution, CHEAP },
	{ "data write", data_write, CHEAP },
	{ "data read or write", data_read, CHEAP },
	{ "overlap", overlap, CHEAP },
	{ "rep", rep_data, CHEAP },
	{ "input and output", io, CHEAP },
	{ "general detect", general_detect, CHEAP },
	{ "fixed bits", fixed_bits, CHEAP },
	{ "not enabled", not_armed, CHEAP },
	{ 0 },
};
