/* REP string instructions that fault midway: RCX, RSI and RDI tell how far they came (SDM 2 REP).
 */
#include "paging.h"

static u8 frames[2][4096] ALIGNED(4096);

#define EDGE (TEST_VA + 0x1000)

struct string {
	ulong si, di, cx;
};

static struct string at_fault;

static void on_fault(struct frame *f)
{
	at_fault = (struct string){ f->rsi, f->rdi, f->rcx };
	trap.vector = V_PF;
	trap.error = (u32)f->error;
	trap.cr2 = read_cr2();
	pt_map(EDGE, (ulong)frames[1], PTE_P | PTE_W);
}

static void start(void)
{
	for (unsigned i = 0; i < 4096; i++) {
		frames[0][i] = (u8)i;
		frames[1][i] = (u8)(i * 3);
	}
	pt_map(TEST_VA, (ulong)frames[0], PTE_P | PTE_W);
	pt_map(EDGE, 0, 0);
	trap.vector = NO_TRAP;
	trap_hook[V_PF] = on_fault;
}

#define RUN(insn, s) \
	__asm__ volatile(insn : "+S"((s).si), "+D"((s).di), "+c"((s).cx) : : "memory", "cc")

static void movs_source(void)
{
	static u8 to[64];
	struct string s = { EDGE - 5, (ulong)to, 20 };

	start();
	RUN("rep movsb", s);
	CHECK_EQ(trap.cr2, EDGE);
	CHECK_EQ(trap.error, 0);
	CHECK_EQ(at_fault.cx, 15);
	CHECK_EQ(at_fault.si, EDGE);
	CHECK_EQ(at_fault.di, to + 5);
	CHECK_EQ(s.cx, 0);
	CHECK_EQ(s.si, EDGE + 15);
	for (unsigned i = 0; i < 20; i++)
		CHECK_EQ(to[i], i < 5 ? frames[0][4091 + i] : frames[1][i - 5]);
}

static void movs_quad_split(void)
{
	static u64 to[8];
	struct string s = { EDGE - 20, (ulong)to, 5 };

	/* The third quadword lies across the edge: it has not been copied at all. */
	start();
	RUN("rep movsq", s);
	CHECK_EQ(at_fault.cx, 3);
	CHECK_EQ(at_fault.si, EDGE - 4);
	CHECK_EQ(s.si, EDGE + 20);
}

static void stos(void)
{
	struct string s = { 0, EDGE - 8, 6 };

	start();
	__asm__ volatile("rep stosl" : "+D"(s.di), "+c"(s.cx) : "a"(0x01020304) : "memory");
	CHECK_EQ(trap.error, PF_W);
	CHECK_EQ(at_fault.cx, 4);
	CHECK_EQ(at_fault.di, EDGE);
	CHECK_EQ(s.di, EDGE + 16);
	CHECK_EQ(frames[0][4095], 1);
	CHECK_EQ(frames[1][15], 1);
	CHECK_EQ(frames[1][16], 48);
}

static void scas(void)
{
	struct string s = { 0, EDGE - 4, 100 };

	start();
	__asm__ volatile("repne scasb" : "+D"(s.di), "+c"(s.cx) : "a"(30) : "memory", "cc");
	CHECK_EQ(at_fault.cx, 96);
	CHECK_EQ(s.di, EDGE + 11); /* frames[1][10] is 30 */
	CHECK_EQ(s.cx, 85);
}

static void cmps(void)
{
	static u8 same[64];
	struct string s = { EDGE - 4, (ulong)same, 32 };
	u8 equal;

	start();
	memcpy(same, &frames[0][4092], 4);
	memcpy(same + 4, frames[1], 28);
	same[20]++;
	__asm__ volatile("repe cmpsb\n\tsete %0"
			 : "=q"(equal), "+S"(s.si), "+D"(s.di), "+c"(s.cx)::"memory", "cc");
	CHECK_EQ(at_fault.cx, 28);
	CHECK_EQ(equal, 0);
	CHECK_EQ(s.cx, 32 - 21);
	CHECK_EQ(s.di, same + 21);
}

static void lods(void)
{
	struct string s = { EDGE - 2, 0, 4 };
	u8 last = 0;

	start();
	__asm__ volatile("rep lodsb" : "+a"(last), "+S"(s.si), "+c"(s.cx)::"memory");
	CHECK_EQ(at_fault.cx, 2);
	CHECK_EQ(last, frames[1][1]);
}

static void backwards(void)
{
	static u8 to[64];
	struct string s = { EDGE + 3, (ulong)to + 40, 8 };

	/* Downwards from the second page, which is there, into the first, which is not. */
	start();
	pt_map(EDGE, (ulong)frames[1], PTE_P | PTE_W);
	pt_map(TEST_VA, 0, 0);
	trap_hook[V_PF] = NULL;
	trap.vector = NO_TRAP;
	__asm__ volatile("std\n\tmovq $1f, trap_resume\n\trep movsb\n1:\tcld"
			 : "+S"(s.si), "+D"(s.di), "+c"(s.cx)::"memory");
	CHECK_EQ(trap.vector, V_PF);
	CHECK_EQ(trap.cr2, EDGE - 1);
	CHECK_EQ(s.cx, 4);
	CHECK_EQ(s.si, EDGE - 1);
	CHECK_EQ(s.di, to + 36);
	CHECK(trap.flags & FLAG_DF);
}

static void zero_count(void)
{
	struct string s = { 0x8000000000000000, 0x8000000000000000, 0 };

	/* Nothing is accessed, nothing changes. */
	RUN("rep movsb", s);
	RUN("rep stosq", s);
	RUN("repe cmpsb", s);
	CHECK_EQ(s.si, 0x8000000000000000);
	CHECK_EQ(s.di, 0x8000000000000000);
}

static void non_canonical(void)
{
	struct string s = { (ulong)frames, 0x7ffffffffffe, 8 };

	start();
	pt_map(0x7ffffffff000, (ulong)frames[1], PTE_P | PTE_W);
	trap_hook[V_PF] = NULL;
	trap.vector = NO_TRAP;
	__asm__ volatile("movq $1f, trap_resume\n\trep movsb\n1:"
			 : "+S"(s.si), "+D"(s.di), "+c"(s.cx)::"memory");
	CHECK_EQ(trap.vector, V_GP);
	CHECK_EQ(s.cx, 6);
	CHECK_EQ(s.di, 0x800000000000);
}

const struct test tests[] = {
	{ "movs source", movs_source, CHEAP },
	{ "movs of split quadwords", movs_quad_split, CHEAP },
	{ "stos", stos, CHEAP },
	{ "scas", scas, CHEAP },
	{ "cmps", cmps, CHEAP },
	{ "lods", lods, CHEAP },
	{ "backwards", backwards, CHEAP },
	{ "count zero", zero_count, CHEAP },
	{ "non-canonical", non_canonical, CHEAP },
	{ 0 },
};
