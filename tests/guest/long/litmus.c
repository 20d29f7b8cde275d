/*
 * What processors may see of each other's stores (SDM 3A 8.2.2, 8.2.3: the names and numbers of its
 * examples), on two to four of them. Each thread of a test goes through an array of independent
 * instances, all threads in the same order, from a common start; afterwards the first processor
 * looks for outcomes that must not be. Outcomes that may be are not asked for: whether they come
 * depends on the host.
 */
#include "apic.h"

#define CPUS_MAX  4u
#define INSTANCES 2500u
#define ROUNDS	  2u
#define STACK	  8192u
#define AP_START  0x8000u /* a page below 1 MiB, for the start-up IPI */

/* ---- the other processors ---- */

/* From real mode to where the first processor is. Copied to AP_START; what it needs is in absolute
 * places. */
extern char ap_start[], ap_end[];
u32 ap_cr0, ap_cr3, ap_cr4, ap_efer;
u8 ap_stacks[CPUS_MAX][STACK] ALIGNED(16);
volatile u32 ap_count;
void ap_main(u32 thread);

#define AT(label) "0x8000 + " label " - ap_start"
__asm__(".section .text\n"
	".globl ap_start, ap_end\n"
	".code16\n"
	"ap_start:\n"
	"	cli\n"
	"	xor %ax, %ax\n"
	"	mov %ax, %ds\n"
	"	lgdtl " AT(
		"ap_gdt") "\n"
			  "	mov %cr0, %eax\n"
			  "	or $1, %al\n"
			  "	mov %eax, %cr0\n"
			  "	ljmpl $0x38, $" AT(
				  "ap_32") "\n" /* KCODE32 */
					   "ap_gdt:	.word 128 * 8 - 1\n"
					   "	.long gdt\n"
					   ".code32\n"
					   "ap_32:	mov $0x10, %ax\n" /* KDATA */
					   "	mov %ax, %ds\n"
					   "	mov %ax, %es\n"
					   "	mov %ax, %ss\n"
					   "	mov ap_cr4, %eax\n"
					   "	mov %eax, %cr4\n"
					   "	mov ap_cr3, %eax\n"
					   "	mov %eax, %cr3\n"
					   "	mov $0xc0000080, %ecx\n" /* EFER, without LMA */
					   "	mov ap_efer, %eax\n"
					   "	xor %edx, %edx\n"
					   "	wrmsr\n"
					   "	mov ap_cr0, %eax\n"
					   "	mov %eax, %cr0\n"
					   "	ljmp $0x08, $ap_64\n" /* KCODE */
					   "ap_end:\n"
					   ".code64\n"
					   "ap_64:	mov $1, %edi\n"
					   "	lock xadd %edi, ap_count\n"
					   "	inc %edi\n"
					   "	mov %edi, %eax\n"
					   "	shl $13, %eax\n"
					   "	lea ap_stacks(%rax), %rsp\n" /* the end of the one
										before: number 0 is
										nobody's */
					   "	call ap_main\n"
					   "1:	hlt\n"
					   "	jmp 1b\n");

static void send(u32 command)
{
	lapic_write(APIC_ICR, command);
	for (unsigned i = 0; i < 1000000 && (lapic_read(APIC_ICR) & 0x1000); i++)
		__asm__ volatile("pause");
}

/* To all others: INIT, then two start-up messages (SDM 3A 8.4.4.1). */
static void wake_others(void)
{
	ap_cr0 = (u32)read_cr0();
	ap_cr3 = (u32)read_cr3();
	ap_cr4 = (u32)read_cr4();
	ap_efer = (u32)rdmsr(MSR_EFER) & ~(u32)BIT(10);
	memcpy((void *)(ulong)AP_START, ap_start, (size_t)(ap_end - ap_start));
	lapic_enable();
	send(0xc4500);
	for (unsigned i = 0; i < 2; i++) {
		send(0xc4600 | AP_START >> 12);
		wait_for(&ap_count, CPUS_MAX - 1);
	}
}

/* ---- running a test ---- */

/* Each variable in a line of its own; two variables and four observations an instance. */
struct instance {
	volatile u32 x ALIGNED(64);
	volatile u32 y ALIGNED(64);
	u32 r[4] ALIGNED(64);
};
static struct instance instances[INSTANCES];

typedef void thread_fn(struct instance *v);
static thread_fn *volatile threads[CPUS_MAX]; /* of the test under way */
static volatile u32 generation, arrived;

static void meet(u32 count)
{
	u32 mine = generation;

	if (__atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST) == count) {
		arrived = 0;
		generation = mine + 1;
	}
	while (generation == mine)
		__asm__ volatile("pause");
}

/* How many meet: those that were there when the first processor had waited for the others. Nobody
 * meets before, when the number may still change, and who comes later never does. */
static volatile u32 taking_part;
static u32 cpus(void) { return taking_part; }

static void work(u32 thread)
{
	thread_fn *fn = threads[thread];

	for (u32 i = 0; fn && i < INSTANCES; i++)
		fn(&instances[i]);
}

void ap_main(u32 thread)
{
	while (!taking_part)
		__asm__ volatile("pause");
	if (thread >= taking_part)
		return;
	for (;;) {
		meet(cpus());
		work(thread);
		meet(cpus());
	}
}

static void run(thread_fn *a, thread_fn *b, thread_fn *c, thread_fn *d, bool (*wrong)(const u32 *r))
{
	thread_fn *const fns[CPUS_MAX] = { a, b, c, d };
	u32 bad = 0, needed = d ? 4 : c ? 3 : 2;

	if (!taking_part) {
		wake_others();
		taking_part = ap_count + 1;
	}
	if (cpus() < needed) {
		test_skip("too few processors");
		return;
	}
	for (u32 i = 0; i < CPUS_MAX; i++)
		threads[i] = fns[i];
	for (u32 round = 0; round < ROUNDS; round++) {
		memset(instances, 0, sizeof(instances));
		meet(cpus());
		work(0);
		meet(cpus());
		for (u32 i = 0; wrong && i < INSTANCES; i++)
			bad += wrong(instances[i].r);
	}
	CHECK_EQ(bad, 0);
}

/* A compiler may not move these: they are volatile, and what is between them is a barrier for it.
 */
#define BARRIER __asm__ volatile("" ::: "memory")
#define FENCE	__asm__ volatile("mfence" ::: "memory")

static void store_xy(struct instance *v)
{
	v->x = 1;
	BARRIER;
	v->y = 1;
}
static void load_yx(struct instance *v)
{
	v->r[0] = v->y;
	BARRIER;
	v->r[1] = v->x;
}
static bool mp_wrong(const u32 *r) { return r[0] && !r[1]; }
/* 8.2.3.2: neither loads nor stores are reordered with like operations. */
static void message_passing(void) { run(store_xy, load_yx, NULL, NULL, mp_wrong); }

static void load_x_store_y(struct instance *v)
{
	v->r[0] = v->x;
	BARRIER;
	v->y = 1;
}
static void load_y_store_x(struct instance *v)
{
	v->r[1] = v->y;
	BARRIER;
	v->x = 1;
}
static bool lb_wrong(const u32 *r) { return r[0] && r[1]; }
/* 8.2.3.3: stores are not reordered with earlier loads. */
static void load_buffering(void) { run(load_x_store_y, load_y_store_x, NULL, NULL, lb_wrong); }

static void sb_fence_x(struct instance *v)
{
	v->x = 1;
	FENCE;
	v->r[0] = v->y;
}
static void sb_fence_y(struct instance *v)
{
	v->y = 1;
	FENCE;
	v->r[1] = v->x;
}
static bool sb_wrong(const u32 *r) { return !r[0] && !r[1]; }
/* 8.2.3.4 allows both to miss the other's store; not with a fence between (8.2.2). */
static void store_buffering_fenced(void) { run(sb_fence_x, sb_fence_y, NULL, NULL, sb_wrong); }

static u32 swap(volatile u32 *p, u32 v)
{
	__asm__ volatile("xchg %0, %1" : "+r"(v), "+m"(*p)::"memory");
	return v;
}
static void sb_xchg_x(struct instance *v)
{
	swap(&v->x, 1);
	v->r[0] = v->y;
}
static void sb_xchg_y(struct instance *v)
{
	swap(&v->y, 1);
	v->r[1] = v->x;
}
/* 8.2.3.9: loads and stores are not reordered with locked instructions. */
static void store_buffering_locked(void) { run(sb_xchg_x, sb_xchg_y, NULL, NULL, sb_wrong); }

static void forward_x(struct instance *v)
{
	v->x = 1;
	BARRIER;
	v->r[0] = v->x;
	BARRIER;
	v->r[1] = v->y;
}
static void forward_y(struct instance *v)
{
	v->y = 1;
	BARRIER;
	v->r[2] = v->y;
	BARRIER;
	v->r[3] = v->x;
}
static bool forward_wrong(const u32 *r) { return !r[0] || !r[2]; }
/* 8.2.3.5: a processor sees its own store at once, whatever the other sees. */
static void own_stores(void) { run(forward_x, forward_y, NULL, NULL, forward_wrong); }

static void store_x(struct instance *v) { v->x = 1; }
static void store_y(struct instance *v) { v->y = 1; }
static void wrc_middle(struct instance *v)
{
	v->r[0] = v->x;
	BARRIER;
	v->y = 1;
}
static void wrc_last(struct instance *v)
{
	v->r[1] = v->y;
	BARRIER;
	v->r[2] = v->x;
}
static bool wrc_wrong(const u32 *r) { return r[0] && r[1] && !r[2]; }
/* 8.2.3.6: stores are transitively visible. */
static void transitivity(void) { run(store_x, wrc_middle, wrc_last, NULL, wrc_wrong); }

static void read_xy(struct instance *v)
{
	v->r[0] = v->x;
	BARRIER;
	v->r[1] = v->y;
}
static void read_yx(struct instance *v)
{
	v->r[2] = v->y;
	BARRIER;
	v->r[3] = v->x;
}
static bool iriw_wrong(const u32 *r) { return r[0] && !r[1] && r[2] && !r[3]; }
/* 8.2.3.7: two stores are seen in one order by all other processors. */
static void independent_reads(void) { run(store_x, store_y, read_xy, read_yx, iriw_wrong); }

static void store_twice(struct instance *v)
{
	v->x = 1;
	BARRIER;
	v->x = 2;
}
static void load_twice(struct instance *v)
{
	v->r[0] = v->x;
	BARRIER;
	v->r[1] = v->x;
}
static void load_twice_too(struct instance *v)
{
	v->r[2] = v->x;
	BARRIER;
	v->r[3] = v->x;
}
static bool coherence_wrong(const u32 *r) { return r[0] > r[1] || r[2] > r[3]; }
/* 8.2.3.1, 8.2.2: what has been seen is not unseen. */
static void coherence(void) { run(store_twice, load_twice, load_twice_too, NULL, coherence_wrong); }

/* ---- locked operations (8.1.2.2): nothing is lost ---- */

static volatile u64 total[6] ALIGNED(64);
static volatile u32 lock;
static u64 guarded;

static void count_all(struct instance *v)
{
	u64 one = 1, old = total[2];

	__asm__ volatile("lock addq $1, %0" : "+m"(total[0])::"memory", "cc");
	__asm__ volatile("lock xaddq %0, %1" : "+r"(one), "+m"(total[1])::"memory", "cc");
	for (bool done = false; !done;)
		__asm__ volatile("lock cmpxchgq %3, %1\n\tsete %2"
				 : "+a"(old), "+m"(total[2]), "=q"(done)
				 : "r"(old + 1)
				 : "memory", "cc");
	__asm__ volatile("lock incw %0" : "+m"(*(volatile u16 *)&total[3])::"memory", "cc");
	__asm__ volatile("lock decl %0" : "+m"(*(volatile u32 *)&total[4])::"memory", "cc");
}

static void count_guarded(struct instance *v)
{
	while (swap(&lock, 1))
		__asm__ volatile("pause");
	guarded++;
	BARRIER;
	lock = 0; /* 8.2.2: a store is not reordered with earlier ones */
}

static void locked_sums(void)
{
	u64 want = 0;

	memset((void *)total, 0, sizeof(total));
	run(count_all, count_all, count_all, count_all, NULL);
	want = (u64)INSTANCES * ROUNDS * CPUS_MAX;
	if (cpus() < CPUS_MAX)
		return;
	CHECK_EQ(total[0], want);
	CHECK_EQ(total[1], want);
	CHECK_EQ(total[2], want);
	CHECK_EQ((u16)total[3], (u16)want);
	CHECK_EQ((u32)total[4], (u32)-want);
}

static void exclusion(void)
{
	guarded = 0;
	run(count_guarded, count_guarded, NULL, NULL, NULL);
	if (cpus() >= 2)
		CHECK_EQ(guarded, (u64)INSTANCES * ROUNDS * 2);
}

const struct test tests[] = {
	{ "message passing", message_passing, 1 },
	{ "load buffering", load_buffering, 1 },
	{ "store buffering, fenced", store_buffering_fenced, 1 },
	{ "store buffering, locked", store_buffering_locked, 1 },
	{ "own stores", own_stores, 1 },
	{ "transitivity", transitivity, 1 },
	{ "independent reads", independent_reads, 1 },
	{ "coherence", coherence, 1 },
	{ "locked sums", locked_sums, 1 },
	{ "exclusion", exclusion, 1 },
	{ 0 },
};
