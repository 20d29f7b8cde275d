/* Far jumps, calls and returns between rings, and IRET with NT off (SDM 2 JMP, CALL, RET, IRET). */
#include "guest.h"

struct far {
	u32 offset;
	u16 selector;
} __attribute__((packed));

ulong far_sp, far_back, far_seen[8];
extern char far_same[];
__asm__("far_same:\n\tmov %cs, %eax\n\tlret\n");

static void direct(void)
{
	ulong cs, before, after;

	__asm__ volatile("mov %%esp, %1\n\tlcall %3, $far_same\n\tmov %%esp, %2"
			 : "=&a"(cs), "=&r"(before), "=&r"(after)
			 : "i"(KCODE32)
			 : "memory");
	CHECK_EQ(cs & 0xffff, KCODE32);
	CHECK_EQ(before, after);
	__asm__ volatile("ljmp %0, $1f\n1:\tljmp %1, $2f\n2:" ::"i"(KCODE32), "i"(KCODE));
}

static void on_back(struct frame *f)
{
	u32 ds, es, fs, gs;

	__asm__ volatile("mov %%fs, %0\n\tmov %%gs, %1" : "=r"(fs), "=r"(gs));
	ds = f->ds;
	es = f->es;
	far_seen[0] = ds & 0xffff;
	far_seen[1] = es & 0xffff;
	far_seen[2] = fs & 0xffff;
	far_seen[3] = gs & 0xffff;
	far_seen[4] = f->cs;
	far_seen[5] = f->ss;
	far_seen[6] = f->sp;
	f->ds = f->es = f->fs = f->gs = KDATA;
	f->cs = KCODE;
	f->ip = far_back;
	f->flags = 2;
	/* Back to ring 0: IRET within the ring pops no stack, so it is set by hand after it. */
}

extern char far_enter3[];
__asm__("far_enter3:\n\tint $0x41\n");

static void enter(bool by_iret, ulong gs)
{
	trap_hook[0x41] = on_back;
	idt_set(0x41, trap_stubs + 0x41 * 16, 0xee);
	__asm__ volatile("push %%ebp\n\tpush %%ebx\n\tpush %%esi\n\tpush %%edi\n\t"
			 "mov %%esp, far_sp\n\tmovl $2f, far_back\n\tmov %1, %%gs\n\t"
			 "mov %3, %%edx\n\tmov %%edx, %%es\n\tpush %3\n\t"
			 "push $user_stack + 4096\n\ttest %0, %0\n\tjz 1f\n\tpush $2\n\t"
			 "push %2\n\tpush $far_enter3\n\tiretl\n1:\tpush %2\n\t"
			 "push $far_enter3\n\tlret\n2:\tmov far_sp, %%esp\n\t"
			 "pop %%edi\n\tpop %%esi\n\tpop %%ebx\n\tpop %%ebp" ::"a"((u32)by_iret),
			 "c"(gs), "i"(UCODE32 | 3), "i"(UDATA | 3)
			 : "edx", "memory", "cc");
	CHECK_EQ(far_seen[4], UCODE32 | 3);
	CHECK_EQ(far_seen[5] & 0xffff, UDATA | 3);
	CHECK_EQ(far_seen[6], (ulong)user_stack + 4096);
	CHECK_EQ(far_seen[0], 0);	  /* DS of ring 0: nulled */
	CHECK_EQ(far_seen[1], UDATA | 3); /* ES of ring 3: kept */
	CHECK_EQ(far_seen[3], 0);
}

static void return_outer(void) { enter(false, KDATA); }
static void iret_outer(void) { enter(true, KDATA); }

static void refusals(void)
{
	struct far f = { 0, 0 };
	static const struct {
		u16 selector;
		u8 vector;
		u16 error;
	} cases[] = {
		{ 0, V_GP, 0 },
		{ KDATA, V_GP, KDATA },
		{ UCODE32 | 3, V_GP, UCODE32 },
		{ 0xfff8, V_GP, 0xfff8 },
		{ FREE0, V_NP, FREE0 },
	};

	gdt[FREE0 / 8] = descriptor(0, 0xfffff, 0x1b, 0xc);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		f.selector = cases[i].selector;
		EXPECT(cases[i].vector, cases[i].error, "ljmp *%0", : : "m"(f));
		EXPECT(cases[i].vector, cases[i].error, "lcall *%0", : : "m"(f));
	}
	/* RET and IRET look at the selector on the stack; it stays there. */
	trap.vector = NO_TRAP;
	__asm__ volatile("mov %%esp, %%ebx\n\tmovl $1f, trap_resume\n\tpush %0\n\t"
			 "push $0\n\tlret\n1:\tmov %%ebx, %%esp" ::"i"(KDATA)
			 : "ebx", "memory");
	CHECK_EQ(trap.vector, V_GP);
	CHECK_EQ(trap.error, KDATA);
	trap.vector = NO_TRAP;
	__asm__ volatile("mov %%esp, %%ebx\n\tmovl $1f, trap_resume\n\tpush $2\n\t"
			 "push %0\n\tpush $0\n\tiretl\n1:\tmov %%ebx, %%esp" ::"i"(UCODE32)
			 : "ebx", "memory");
	CHECK_EQ(trap.vector, V_GP);
	CHECK_EQ(trap.error, UCODE32);
}

static void iret_flags(void)
{
	ulong f;

	/* IRET at ring 0 loads everything but VM games; IRETW only the low word. */
	__asm__ volatile("push %1\n\tpush %2\n\tpush $1f\n\tiretl\n1:\tpushf\n\t"
			 "pop %0\n\tpush $2\n\tpopf"
			 : "=r"(f)
			 : "i"(FLAG_AC | FLAG_ID | FLAG_CF | FLAG_DF | FLAG_IOPL | 2), "i"(KCODE)
			 : "memory", "cc");
	CHECK_EQ(f, FLAG_AC | FLAG_ID | FLAG_CF | FLAG_DF | FLAG_IOPL | 2);
}

static void sixteen_bit_iret(void)
{
	extern char iretw_target[];
	ulong before, after;

	/* IRETW pops 16-bit slots: it needs a target below 64 KiB of its segment. */
	gdt[FREE0 / 8] = descriptor((u32)iretw_target, 0xfffff, 0x9b, 0xc);
	__asm__ volatile("mov %%esp, %0\n\tpushw $2\n\tpushw %2\n\tpushw $0\n\tiretw\n\t"
			 ".globl iretw_target\niretw_target:\n\tljmp %3, $1f\n"
			 "1:\tmov %%esp, %1"
			 : "=&r"(before), "=&r"(after)
			 : "i"(FREE0), "i"(KCODE)
			 : "memory", "cc");
	CHECK_EQ(before, after);
}

const struct test tests[] = {
	{ "direct", direct, CHEAP },
	{ "ret to ring 3", return_outer, CHEAP },
	{ "iret to ring 3", iret_outer, CHEAP },
	{ "refusals", refusals, CHEAP },
	{ "iret and flags", iret_flags, CHEAP },
	{ "16-bit iret", sixteen_bit_iret, CHEAP },
	{ 0 },
};
