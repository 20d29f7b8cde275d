/*
 * One page of code at many addresses, as the pages of libraries are in the processes that use them.
 * What the code finds near itself, where it returns to, and what it is when it has been changed
 * must be those of the address it runs at.
 */
#include "paging.h"

#define USER_RWX (PTE_P | PTE_W | PTE_U)
#define COUNT	 20u

/* What the code leaves behind it, one page on. */
struct found {
	u64 here, returns[3], in, sum, vector[2], x87, shared;
};
static u8 pages[2][4096] ALIGNED(4096);

/* Of the page's first instruction: where it is; returns the sum of all that was counted. */
extern u8 moving[4096], moving_here[], moving_return[], moving_second[], moving_third[],
	moving_constant[], moving_pointer[], moving_target[];

/* clang-format off */
#define AT(member) " moving + 4096 + " #member "(%rip)"
__asm__(
	".pushsection .text\n"
	".balign 4096\n"
	".globl moving, moving_here, moving_return, moving_second, moving_third, moving_constant\n"
	".globl moving_pointer, moving_target\n"
	"moving:\n"
	"	lea moving_here(%rip), %rax\n"
	"moving_here:\n"
	"	mov %rax," AT(0) "\n"
	"	call 1f\n"
	"moving_return:\n"
	"	lea 2f(%rip), %r11\n"
	"	call *%r11\n"
	"moving_second:\n"
	"	push %rbx\n"
	"	xor %eax, %eax\n"
	"	cpuid\n" /* the interpreter's */
	"	pop %rbx\n"
	"	xor %eax, %eax\n"
	"	xor %ecx, %ecx\n"
	"3:	add" AT(32) ", %rax\n"
	"	inc %ecx\n"
	"	cmp $20, %ecx\n"
	"	jne 3b\n"
	"	test %rax, %rax\n"
	"	jz 4f\n"
	"	.byte 0x48, 0x05\n" /* add $7, %rax */
	"moving_constant:\n"
	"	.long 7\n"
	"4:	mov %rax," AT(40) "\n"
	"	movdqu" AT(0) ", %xmm0\n"
	"	movdqu %xmm0," AT(48) "\n"
	"	fildll" AT(32) "\n"
	"	fistpll" AT(64) "\n"
	"	lock incq" AT(72) "\n"
	"	call *moving_pointer(%rip)\n"
	"moving_third:\n"
	"	mov" AT(40) ", %rax\n"
	"	ret\n"
	"1:	mov (%rsp), %rcx\n"
	"	mov %rcx," AT(8) "\n"
	"	ret\n"
	"2:	mov (%rsp), %r15\n"
	"	mov %r15," AT(16) "\n"
	"	ret\n"
	"moving_pointer:\n"
	"	.quad 0\n" /* the address of what follows, wherever it is now */
	"moving_target:\n"
	"	mov (%rsp), %r10\n"
	"	mov %r10," AT(24) "\n"
	"	ret\n"
	".balign 4096\n"
	".popsection\n");
/* clang-format on */

static ulong offset(const u8 *of) { return (ulong)(of - moving); }

/* Stored through the program's own mapping: each time, as a linker would. */
static void place(ulong at, u8 *page)
{
	struct found *its = (struct found *)(void *)page;
	u64 target = at + offset(moving_target);

	memset(its, 0, sizeof(*its));
	its->in = at >> 12 & 0xff;
	memcpy(moving_pointer, &target, sizeof(target));
	pt_map(at, (ulong)moving, USER_RWX);
	pt_map(at + PAGE, (ulong)page, USER_RWX);
}

static void run_at(ulong at, u8 *page, ulong constant)
{
	const volatile struct found *its = (struct found *)(void *)page;

	place(at, page);
	const u64 in = its->in, sum = COUNT * in + (in ? constant : 0);

	for (unsigned round = 1; round < 4; round++) {
		ulong got = user_call((ulong(*)(ulong))at, 0);

		CHECK_EQ(got, sum);
		CHECK_EQ(its->sum, sum);
		CHECK_EQ(its->here, at + offset(moving_here));
		CHECK_EQ(its->returns[0], at + offset(moving_return));
		CHECK_EQ(its->returns[1], at + offset(moving_second));
		CHECK_EQ(its->returns[2], at + offset(moving_third));
		CHECK_EQ(its->vector[0], its->here);
		CHECK_EQ(its->vector[1], its->returns[0]);
		CHECK_EQ(its->x87, in);
		CHECK_EQ(its->shared, round);
	}
}

/* Also where a part of the window begins and ends, and where addresses are short. */
static const ulong places[] = { 0x7f0000000000, 0x7f0000203000, 0x7f1234567000, 0x7c0000000000,
	0x7bfffffff000, 0x7ffffff00000, 0x555555554000, 0x561234561000, 0x540000000000,
	0x8000000000, 0x80fffff000, 0x9000000000, 0x7f7fffff0000, 0x7eff80000000 };

static void use_vectors(void) { write_cr4(read_cr4() | 0x600); }

static void everywhere(void)
{
	use_vectors();
	for (unsigned i = 0; i < ARRAY_LEN(places); i++)
		run_at(places[i], pages[i % 2], 7);
	for (unsigned i = ARRAY_LEN(places); i--;)
		run_at(places[i], pages[i % 2], 7);
}

/* What is changed in one place is changed in all. */
static void changed(void)
{
	use_vectors();
	for (u32 i = 0; i < 30; i++) {
		u32 constant = 7 + i;

		memcpy(moving_constant, &constant, sizeof(constant));
		run_at(0x7f0000000000 + i % 3 * 0x5000000, pages[i % 2], constant);
		run_at(0x7f2000001000 + i * 0x5000, pages[i % 2], constant);
	}
}

/* ---- neighbours ---- */

/*
 * Code that goes on in the next page, which is another one in each place, in all the ways that
 * there are. Where it goes to in there says what it returns, and which page it is.
 */
static u8 front[4096] ALIGNED(4096), next[2][4096] ALIGNED(4096);

static void put_code(u8 *at, const char *bytes, unsigned len) { memcpy(at, bytes, len); }
#define CODE(at, bytes) put_code(at, bytes, sizeof(bytes) - 1)

static void put_rel32(u8 *page, unsigned at, unsigned target)
{
	u32 rel = target - (at + 4);

	memcpy(page + at, &rel, sizeof(rel));
}

/* At `at`: mov eax, value; ret */
static void put_return(u8 *page, unsigned at, u32 value)
{
	CODE(page + at, "\xb8....\xc3");
	memcpy(page + at + 1, &value, sizeof(value));
}

static const struct way {
	unsigned enter;
	u32 value; /* of the first of the two pages */
	u32 step;  /* more of the second */
} ways[] = {
	{ 0x000, 0x20, 1 },		/* jmp */
	{ 0x100, 0x30, 1 },		/* jz, taken */
	{ 0x200, 0x40, 1 },		/* jz, not taken, then jmp */
	{ 0x300, 0x51, 1 },		/* call, and back */
	{ 0xfc0, 0x10, 1 },		/* loop */
	{ 0xfe0, 0x60, 1 },		/* jrcxz */
	{ 0xffd, 0x00105544, 0x10000 }, /* an instruction on both pages */
};

static void make_neighbours(void)
{
	CODE(front, "\xe9");
	put_rel32(front, 1, PAGE + 0x10);
	CODE(front + 0x100, "\x31\xc0\x0f\x84");
	put_rel32(front, 0x104, PAGE + 0x20);
	CODE(front + 0x200, "\x31\xc0\xff\xc0\x0f\x84");
	put_rel32(front, 0x206, PAGE + 0x20);
	CODE(front + 0x20a, "\xe9");
	put_rel32(front, 0x20b, PAGE + 0x30);
	CODE(front + 0x300, "\xe8....\x83\xc0\x01\xc3"); /* call; add eax, 1; ret */
	put_rel32(front, 0x301, PAGE + 0x40);
	CODE(front + 0xfc0, "\xb9\x02\0\0\0\xe2\x41\xc3"); /* mov ecx, 2; loop next + 8 */
	CODE(front + 0xfe0, "\xb9\0\0\0\0\xe3\x69\xc3");   /* mov ecx, 0; jrcxz next + 0x50 */
	CODE(front + 0xffd, "\xb8\x44\x55");		   /* mov eax, .... */
	for (u32 k = 0; k < 2; k++) {
		next[k][0] = (u8)(0x10 + k);
		next[k][1] = 0;
		next[k][2] = 0xc3;
		put_return(next[k], 0x08, 0x10 + k);
		for (u32 at = 0x10; at <= 0x50; at += 0x10)
			put_return(next[k], at, at + 0x10 + k);
	}
}

static void call_ways(ulong at, u32 k)
{
	for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
		ulong got = user_call((ulong(*)(ulong))(at + ways[i].enter), 0);

		CHECK_EQ((u32)got, ways[i].value + k * ways[i].step);
	}
}

static void neighbours(void)
{
	static const ulong spots[] = { 0x7f0000000000, 0x7f5555555000, 0x555555554000,
		0x7f0008000000 };

	make_neighbours();
	for (unsigned swap = 0; swap < 6; swap++) {
		for (unsigned i = 0; i < ARRAY_LEN(spots); i++) {
			pt_map(spots[i], (ulong)front, USER_RWX);
			pt_map(spots[i] + PAGE, (ulong)next[(i + swap) % 2], USER_RWX);
		}
		for (unsigned round = 0; round < 5; round++)
			for (unsigned i = 0; i < ARRAY_LEN(spots); i++)
				call_ways(spots[i], (i + swap) % 2);
	}
}

/* The same page twice, side by side: its code goes on in itself. */
static void own_neighbour(void)
{
	make_neighbours();
	put_return(front, 0x10, 0x99);
	pt_map(0x7f0000000000, (ulong)front, USER_RWX);
	pt_map(0x7f0000001000, (ulong)front, USER_RWX);
	for (unsigned round = 0; round < 5; round++)
		CHECK_EQ((u32)user_call((ulong(*)(ulong))0x7f0000000000, 0), 0x99);
}

/* What is rewritten is so in all places, also where it has just run and nothing was mapped since.
 */
static void rewritten(void)
{
	static const ulong spots[] = { 0x7f0000000000, 0x7f5555555000, 0x555555554000 };

	for (unsigned i = 0; i < ARRAY_LEN(spots); i++)
		pt_map(spots[i], (ulong)front, USER_RWX);
	for (u32 value = 1; value < 40; value++) {
		put_return(front, 0x10, value);
		for (unsigned i = 0; i < 3 * ARRAY_LEN(spots); i++) {
			ulong at = spots[i % ARRAY_LEN(spots)] + 0x10;

			CHECK_EQ((u32)user_call((ulong(*)(ulong))at, 0), value);
		}
	}
}

const struct test tests[] = {
	{ "everywhere", everywhere, 2 },
	{ "changed", changed, 1 },
	{ "neighbours", neighbours, 2 },
	{ "own neighbour", own_neighbour, 1 },
	{ "rewritten", rewritten, 1 },
	{ 0 },
};
