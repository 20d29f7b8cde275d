/* Hardware task switches: JMP, CALL, IRET, task gates in the IDT, errors (SDM 3A 7). */
#include "guest.h"

#define SLOT(n) (FREE0 / 8 + (n))
#define SEL(n)	(FREE0 + (n)*8)

struct tss32 {
	u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp,
		esi, edi;
	u32 es, cs, ss, ds, fs, gs, ldt;
	u16 trap, iomap;
};

static struct tss32 here, there;
static u8 stack[4096] ALIGNED(16);
static struct {
	u32 offset;
	u16 selector;
} __attribute__((packed)) to_there = { 0, SEL(1) }, to_here = { 0, SEL(0) };

u32 task_seen[8];
extern char task_jumped[], task_called[];
/* Each task's loop goes round again when it is entered the next time. */
__asm__("task_jumped:\n1:\tmov %eax, task_seen\n\tpushf\n\t"
	"pop task_seen + 4\n\tstr task_seen + 8\n\tmov $0x99, %eax\n\t"
	"ljmp *to_here_m\n\tjmp 1b\ntask_called:\n"
	"2:\tmov %eax, task_seen\n\tpushf\n\tpop task_seen + 4\n\t"
	"str task_seen + 8\n\tiretl\n\tjmp 2b\n.data\nto_here_m:\n\t"
	".long 0\n\t.word 0x60\n\t.text\n"); /* SEL(0) */

static void setup(char *entry)
{
	memset(&there, 0, sizeof there);
	memset((void *)task_seen, 0, sizeof task_seen);
	there.eip = (u32)entry;
	there.eflags = 2 | FLAG_CF;
	there.eax = 0x1234;
	there.esp = (u32)stack + sizeof stack;
	there.ss = there.ds = there.es = there.fs = there.gs = KDATA;
	there.cs = KCODE;
	there.iomap = sizeof there;
	gdt[SLOT(0)] = descriptor((u32)&here, sizeof here - 1, 0x89, 0);
	gdt[SLOT(1)] = descriptor((u32)&there, sizeof there - 1, 0x89, 0);
	gdt[TSS_SEL / 8] = descriptor((u32)&tss, sizeof tss - 1, 0x89, 0);
	__asm__ volatile("ltr %w0" ::"r"(SEL(0)));
}

static void leave(void)
{
	gdt[TSS_SEL / 8] = descriptor((u32)&tss, sizeof tss - 1, 0x89, 0);
	__asm__ volatile("ltr %w0" ::"r"(TSS_SEL));
	write_cr0(read_cr0() & ~CR0_TS);
}

static u8 type(unsigned slot) { return gdt[slot] >> 40 & 15; }

static void jump(void)
{
	u32 a = 0x55;

	setup(task_jumped);
	__asm__ volatile("ljmp *%1" : "+a"(a) : "m"(to_there) : "memory", "cc");
	CHECK_EQ(a, 0x55); /* restored from our TSS */
	CHECK_EQ(task_seen[0], 0x1234);
	CHECK_EQ(task_seen[1] & (FLAG_CF | FLAG_NT | 2), FLAG_CF | 2);
	CHECK_EQ(task_seen[2] & 0xffff, SEL(1));
	CHECK_EQ(there.eax, 0x99); /* saved when it left */
	CHECK_EQ(type(SLOT(0)), 11);
	CHECK_EQ(type(SLOT(1)), 9);
	CHECK(read_cr0() & CR0_TS);
	/* And once more: it goes on after its jump. */
	__asm__ volatile("ljmp *%0" ::"m"(to_there) : "memory", "cc");
	CHECK_EQ(task_seen[0], 0x99);
	leave();
}

static void call(void)
{
	setup(task_called);
	__asm__ volatile("lcall *%0" ::"m"(to_there) : "memory", "cc");
	CHECK_EQ(task_seen[0], 0x1234);
	CHECK_EQ(task_seen[1] & FLAG_NT, FLAG_NT);
	CHECK_EQ(there.link & 0xffff, SEL(0));
	CHECK_EQ(type(SLOT(0)), 11);
	CHECK_EQ(type(SLOT(1)), 9); /* IRET frees it */
	CHECK_EQ(there.eflags & FLAG_NT, 0);
	CHECK(!(read_flags() & FLAG_NT));
	leave();
}

static void interrupt_gate(void)
{
	setup(task_called);
	idt[0x70] = gate(SEL(1), 0, 0x85, 0);
	__asm__ volatile("int $0x70" ::: "memory", "cc");
	CHECK_EQ(task_seen[0], 0x1234);
	CHECK_EQ(task_seen[1] & FLAG_NT, FLAG_NT);
	leave();
}

static void gate_in_gdt(void)
{
	struct {
		u32 offset;
		u16 selector;
	} __attribute__((packed)) through = { 0xffffffff, SEL(2) };

	setup(task_called);
	gdt[SLOT(2)] = gate(SEL(1), 0, 0x85, 0);
	__asm__ volatile("lcall *%0" ::"m"(through) : "memory", "cc");
	CHECK_EQ(task_seen[0], 0x1234);
	leave();
}

static void refusals(void)
{
	setup(task_called);
	EXPECT(V_GP, SEL(0), "ljmp *%0", : : "m"(to_here)); /* busy */
	gdt[SLOT(1)] = descriptor((u32)&there, sizeof there - 1, 0x09, 0);
	EXPECT(V_NP, SEL(1), "ljmp *%0", : : "m"(to_there));
	gdt[SLOT(1)] = descriptor((u32)&there, 0x66, 0x89, 0);
	EXPECT(V_TS, SEL(1), "ljmp *%0", : : "m"(to_there)); /* limit below 0x67 */
	CHECK_EQ(type(SLOT(0)), 11);
	leave();
}

static struct frame ts_frame;

/* The new task's DS selector is the bad one: the trap's way back must not load it. */
static void on_bad_segment(struct frame *f)
{
	ts_frame = *f;
	f->ds = f->es = f->fs = f->gs = KDATA;
	f->ip = trap_resume;
}

static void bad_segment(void)
{
	/* A bad selector in the new TSS is found after the switch: #TS in the new task's context.
	 */
	setup(task_called);
	there.eip = (u32)task_called;
	there.ds = 0xfff8;
	ts_frame.vector = 0;
	trap_hook[V_TS] = on_bad_segment;
	__asm__ volatile("push %%ebp\n\tpush %%ebx\n\tmov %%esp, task_seen + 28\n\t"
			 "movl $1f, trap_resume\n\tljmp *%0\n"
			 "1:\tmov task_seen + 28, %%esp\n\tpop %%ebx\n\tpop %%ebp" ::"m"(to_there)
			 : "eax", "ecx", "edx", "esi", "edi", "memory", "cc");
	trap_hook[V_TS] = NULL;
	CHECK_EQ(ts_frame.vector, V_TS);
	CHECK_EQ(ts_frame.error, 0xfff8);
	CHECK_EQ(ts_frame.ip, (ulong)task_called);
	u32 tr;
	__asm__ volatile("str %0" : "=r"(tr));
	CHECK_EQ(tr & 0xffff, SEL(1));
	__asm__ volatile(
		"mov %0, %%ds\n\tmov %0, %%es\n\tmov %0, %%fs\n\tmov %0, %%gs" ::"r"(KDATA));
	leave();
}

const struct test tests[] = {
	{ "jmp", jump, CHEAP },
	{ "call and iret", call, CHEAP },
	{ "task gate in the IDT", interrupt_gate, CHEAP },
	{ "task gate in the GDT", gate_in_gdt, CHEAP },
	{ "refusals", refusals, CHEAP },
	{ "bad segment in the new task", bad_segment, CHEAP },
	{ 0 },
};
