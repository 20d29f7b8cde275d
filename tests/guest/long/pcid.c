/*
 * Global pages, CR4.PGE, PCID and INVPCID (SDM 3A 4.10). What a processor may keep in its TLB it
 * need not keep, so these tests only check what must be forgotten, and what the instructions
 * refuse.
 */
#include "paging.h"

static u64 frames[2][512] ALIGNED(4096);
static u64 *pte;

struct invpcid_desc {
	u64 pcid, address;
};

#define INVPCID(type, desc) \
	__asm__ volatile("invpcid %0, %1" ::"m"(desc), "r"((ulong)(type)) : "memory")

static void start(u64 flags)
{
	frames[0][0] = 0xaaaa;
	frames[1][0] = 0xbbbb;
	pte = pt_entry(TEST_VA, 1);
	pt_set(pte, (ulong)frames[0] | PTE_P | flags, TEST_VA);
	CHECK_EQ(*(volatile u64 *)TEST_VA, 0xaaaa);
	*(volatile u64 *)pte = (ulong)frames[1] | PTE_P | flags;
}

static void expect_new(void) { CHECK_EQ(*(volatile u64 *)TEST_VA, 0xbbbb); }

static void global(void)
{
	write_cr4(read_cr4() | CR4_PGE);
	start(PTE_G);
	invlpg(TEST_VA); /* also forgets global translations */
	expect_new();
	start(PTE_G);
	write_cr4(read_cr4() & ~CR4_PGE);
	expect_new();
	start(PTE_G); /* without PGE the bit means nothing */
	flush_tlb();
	expect_new();
}

/* Where kernels are. Each page of `count` holds a constant and a function that returns it; after a
 * change of their entries and of CR3 it is another one. */
#define UPPER_VA 0xffffc90000000000ul

static u8 texts[2][4096] ALIGNED(4096);

static u32 call(ulong at)
{
	u32 v;

	__asm__ volatile("call *%1" : "=a"(v) : "r"(at) : "memory");
	return v;
}

static void expect_upper(unsigned count, const u8 *text)
{
	for (unsigned i = 0; i < count; i++) {
		CHECK_EQ(*(volatile u32 *)(UPPER_VA + i * PAGE + 1), *(const u32 *)(text + 1));
		CHECK_EQ(call(UPPER_VA + i * PAGE), *(const u32 *)(text + 1));
	}
}

static void write_texts(void)
{
	for (u32 i = 0; i < 2; i++) { /* mov $n, %eax; ret */
		memcpy(texts[i], "\xb8\0\0\0\0\xc3", 6);
		*(u32 *)(texts[i] + 1) = 0x100 + i;
	}
}

static void upper_pages(unsigned count)
{
	write_texts();
	write_cr4(read_cr4() | CR4_PGE);
	for (unsigned i = 0; i < count; i++)
		pt_map(UPPER_VA + i * PAGE, (ulong)texts[0], PTE_P | PTE_W);
	for (unsigned round = 0; round < 3; round++) {
		expect_upper(count, texts[0]);
		for (unsigned i = 0; i < count; i++)
			*(volatile u64 *)pt_entry(UPPER_VA + i * PAGE, 1) = (ulong)texts[1] | PTE_P;
		flush_tlb();
		expect_upper(count, texts[1]);
		for (unsigned i = 0; i < count; i++)
			*(volatile u64 *)pt_entry(UPPER_VA + i * PAGE, 1) = (ulong)texts[0] | PTE_P;
		flush_tlb();
	}
	write_cr4(read_cr4() & ~CR4_PGE);
}

static void upper_set(unsigned count, const u8 *text)
{
	for (unsigned i = 0; i < count; i++)
		*(volatile u64 *)pt_entry(UPPER_VA + i * PAGE, 1) = (ulong)text | PTE_P | PTE_G;
}

/* As a kernel has its code: a change of CR3 says nothing of it. */
static void upper_global(void)
{
	const unsigned count = 3;

	write_texts();
	write_cr4(read_cr4() | CR4_PGE);
	for (unsigned i = 0; i < count; i++)
		pt_map(UPPER_VA + i * PAGE, (ulong)texts[0], PTE_P | PTE_G);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned n = 0; n < 3; n++, flush_tlb())
			expect_upper(count, texts[0]);
		upper_set(count, texts[1]);
		for (unsigned i = 0; i < count; i++)
			invlpg(UPPER_VA + i * PAGE);
		for (unsigned n = 0; n < 3; n++)
			expect_upper(count, texts[1]);
		upper_set(count, texts[0]);
		write_cr4(read_cr4() & ~CR4_PGE);
		write_cr4(read_cr4() | CR4_PGE);
	}
	upper_set(count, texts[1]);
	write_cr4(read_cr4() & ~CR4_PGE);
	expect_upper(count, texts[1]);
}

static void upper_few(void) { upper_pages(3); }
static void upper_many(void) { upper_pages(40); }

static bool have_pcid(void)
{
	if (cpuid(1, 0).c & 1u << 17)
		return true;
	test_skip("no PCID");
	return false;
}

static void pcid(void)
{
	ulong cr3 = read_cr3();

	if (!have_pcid())
		return;
	write_cr4(read_cr4() | CR4_PCIDE);
	write_cr3(cr3 | 5);
	CHECK_EQ(read_cr3(), cr3 | 5);
	start(0);
	write_cr3(cr3 | 5); /* flushes PCID 5 */
	expect_new();
	start(0);
	invlpg(TEST_VA);
	expect_new();
	/* Bit 63 asks for no flush and is not stored. */
	write_cr3(cr3 | 6 | 1ul << 63);
	CHECK_EQ(read_cr3(), cr3 | 6);
	/* Clearing PCIDE forgets everything. */
	write_cr3(cr3);
	write_cr4(read_cr4() & ~CR4_PCIDE);
	expect_new();
}

static void pcid_refusals(void)
{
	ulong cr3 = read_cr3();

	if (!have_pcid())
		return;
	/* PCIDE may only be set while CR3[11:0] is 0 (SDM 3A 4.10.1). */
	write_cr3(cr3 | 0x18);
	EXPECT(V_GP, 0, "mov %0, %%cr4", : : "r"(read_cr4() | CR4_PCIDE));
	write_cr3(cr3);
	/* Without PCIDE bit 63 of CR3 is reserved. */
	EXPECT(V_GP, 0, "mov %0, %%cr3", : : "r"(cr3 | 1ul << 63));
}

static void invpcid(void)
{
	struct invpcid_desc d = { 0, TEST_VA };
	ulong cr3 = read_cr3();

	if (!(cpuid(7, 0).b & 1u << 10)) {
		test_skip("no INVPCID");
		return;
	}
	start(0);
	INVPCID(0, d);
	expect_new();
	start(0);
	INVPCID(1, d);
	expect_new();
	start(0);
	INVPCID(2, d);
	expect_new();
	start(0);
	INVPCID(3, d);
	expect_new();
	if (!have_pcid())
		return;
	write_cr4(read_cr4() | CR4_PCIDE);
	write_cr3(cr3 | 7);
	start(0);
	d.pcid = 7;
	INVPCID(0, d);
	expect_new();
	start(0);
	INVPCID(1, d);
	expect_new();
	/* Forgotten from another PCID. */
	start(0);
	write_cr3(cr3 | 8);
	INVPCID(1, d);
	write_cr3(cr3 | 7 | 1ul << 63);
	expect_new();
	write_cr3(cr3);
	write_cr4(read_cr4() & ~CR4_PCIDE);
}

/* A flush of another PCID says nothing about the present one's pages, which the next change of CR3
 * still forgets. */
static void upper_other_pcid(void)
{
	ulong cr3 = read_cr3();
	struct invpcid_desc other = { .pcid = 8 };

	if (!have_pcid() || !(cpuid(7, 0).b & 1u << 10)) {
		test_skip("no INVPCID");
		return;
	}
	write_cr4(read_cr4() | CR4_PGE | CR4_PCIDE);
	write_cr3(cr3 | 7);
	frames[0][0] = 0xaaaa;
	frames[1][0] = 0xbbbb;
	pt_map(UPPER_VA, (ulong)frames[0], PTE_P | PTE_W);
	for (unsigned i = 0; i < 100; i++)
		CHECK_EQ(*(volatile u64 *)UPPER_VA, 0xaaaa);
	INVPCID(1, other);
	*(volatile u64 *)pt_entry(UPPER_VA, 1) = (ulong)frames[1] | PTE_P | PTE_W;
	write_cr3(cr3 | 8);
	CHECK_EQ(*(volatile u64 *)UPPER_VA, 0xbbbb);
	write_cr3(cr3);
	write_cr4(read_cr4() & ~(CR4_PGE | CR4_PCIDE));
}

static void invpcid_refusals(void)
{
	struct invpcid_desc d = { 0, TEST_VA };
	struct invpcid_desc bad_pcid = { 0x1000, TEST_VA }, bad_va = { 0, 0x8000000000000000 },
			    no_pcide = { 1, TEST_VA };

	if (!(cpuid(7, 0).b & 1u << 10)) {
		test_skip("no INVPCID");
		return;
	}
	EXPECT(V_GP, 0, "invpcid %0, %1", : : "m"(d), "r"(4ul));
	EXPECT(V_GP, 0, "invpcid %0, %1", : : "m"(bad_pcid), "r"(0ul));
	EXPECT(V_GP, 0, "invpcid %0, %1", : : "m"(bad_va), "r"(0ul));
	EXPECT(V_GP, 0, "invpcid %0, %1", : : "m"(no_pcide), "r"(1ul));
}

/* Runs at UPPER_VA: to the space RDI and back to RSI, then the entry at RCX becomes RDX and R8 is
 * flushed. */
__asm__(".pushsection .rodata\n"
	"away: mov %rdi, %cr3\n\tmov %rsi, %cr3\n\tmov %rdx, (%rcx)\n\tinvlpg (%r8)\n\tret\n"
	"away_end:\n"
	".popsection");
extern const u8 away[], away_end[];

/*
 * Code of the lower half jumps to another page; then its space is left without a flush, comes back,
 * and the page becomes another one, all of it while code of the upper half runs.
 */
static void comes_back(void)
{
	static u64 other_root[512] ALIGNED(4096);
	static u8 jump[4096] ALIGNED(4096);
	const ulong from = TEST_VA + 16 * PAGE, to = from + PAGE, keep = 1ul << 63;
	ulong cr3 = read_cr3(), other = (ulong)other_root | 6 | keep, own = cr3 | 5 | keep;
	u64 *entry = pt_entry(to, 1);

	if (!have_pcid())
		return;
	memcpy(jump, "\xe9\xfb\x0f\0\0", 5); /* jmp, a page further */
	for (u32 i = 0; i < 2; i++) {	     /* mov $n, %eax; ret */
		memcpy(texts[i], "\xb8\0\0\0\0\xc3", 6);
		*(u32 *)(texts[i] + 1) = 0x200 + i;
	}
	memcpy(texts[0] + 64, away, (ulong)(away_end - away));
	write_cr4(read_cr4() | CR4_PGE);
	pt_map(UPPER_VA, (ulong)texts[0], PTE_P | PTE_G);
	pt_map(from, (ulong)jump, PTE_P);
	pt_map(to, (ulong)texts[0], PTE_P);
	memcpy(other_root, page_root, sizeof(other_root));
	write_cr4(read_cr4() | CR4_PCIDE);
	write_cr3(cr3 | 5);
	for (u32 turn = 1; turn < 7; turn++) {
		register ulong flushed __asm__("r8") = to;

		__asm__ volatile("call *%0"
				 :
				 : "r"(UPPER_VA + 64), "D"(other), "S"(own),
				 "d"((ulong)texts[turn & 1] | PTE_P | PTE_A), "c"(entry),
				 "r"(flushed)
				 : "memory");
		for (unsigned i = 0; i < 3; i++)
			CHECK_EQ(call(from), 0x200 + (turn & 1));
	}
	write_cr3(cr3);
	write_cr4(read_cr4() & ~(CR4_PCIDE | CR4_PGE));
}

/* Two address spaces that differ in what is at SPACES_VA. */
#define SPACES_VA 0x0000600000000000ul
static struct space {
	u64 root[512], pdpt[512], pd[512], pt[512];
} spaces[2] ALIGNED(4096);

static void space_build(struct space *s)
{
	memcpy(s->root, page_root, sizeof(s->root));
	s->root[SPACES_VA >> 39 & 511] = (ulong)s->pdpt | PTE_P | PTE_W;
	s->pdpt[SPACES_VA >> 30 & 511] = (ulong)s->pd | PTE_P | PTE_W;
	s->pd[SPACES_VA >> 21 & 511] = (ulong)s->pt | PTE_P | PTE_W;
}

/* Where code of both goes to another page, and is another one there: by a jump, by a jump that is
 * looked up, and in the middle of an instruction. */
static void spaces_expect(u32 what)
{
	static const ulong ways[] = { 0, 16, PAGE - 2 };

	/* Each way again, when it is known. */
	for (unsigned n = 0; n < 9; n++) {
		u32 a, d = what;

		__asm__ volatile("call *%2"
				 : "=a"(a), "+d"(d)
				 : "r"(SPACES_VA + ways[n % 3])
				 : "memory");
		CHECK_EQ(a, what);
		CHECK_EQ(d, what);
	}
}

static u32 spaces_answer(unsigned text) { return 0x5010 + (text << 16); }

static void spaces_show(unsigned space, unsigned text)
{
	*(volatile u64 *)&spaces[space].pt[1] = (ulong)texts[text] | PTE_P;
}

/* What is second there becomes another page and is this one again, while the space is in use. */
static void spaces_flush(unsigned space, unsigned text, unsigned pcid)
{
	struct invpcid_desc own = { pcid, 0 };

	spaces_show(space, !text);
	invlpg(SPACES_VA + PAGE);
	spaces_expect(spaces_answer(!text));
	spaces_show(space, text);
	if (pcid && cpuid(7, 0).b & 1u << 10)
		INVPCID(1, own);
	else
		flush_tlb();
	spaces_expect(spaces_answer(text));
}

static void spaces_turns(bool tagged)
{
	ulong cr3 = read_cr3();

	for (unsigned i = 0; i < 2; i++)
		spaces_show(i, i);
	if (tagged)
		write_cr4(read_cr4() | CR4_PCIDE);
	for (u32 turn = 0; turn < 40; turn++) {
		unsigned i = turn & 1, text = turn < 20 ? i : !i, pcid = tagged ? 5 + i : 0;
		bool changed = turn == 20 || turn == 21; /* each becomes the other */

		if (changed)
			spaces_show(i, text);
		write_cr3((ulong)spaces[i].root | pcid | (tagged && !changed ? 1ul << 63 : 0));
		spaces_expect(spaces_answer(text));
		if (turn == 30)
			spaces_flush(i, text, pcid);
	}
	write_cr3(cr3);
	if (tagged)
		write_cr4(read_cr4() & ~CR4_PCIDE);
}

static void two_spaces(void)
{
	static u8 from[4096] ALIGNED(4096);

	memset(from, 0x90, sizeof(from));
	memcpy(from, "\xe9\xfe\x0f\0\0", 5); /* jmp, to 3 bytes into the next page */
	/* lea 3 + the next page(%rip), %rax; jmp *%rax */
	memcpy(from + 16, "\x48\x8d\x05\xec\x0f\0\0\xff\xe0", 9);
	memcpy(from + PAGE - 2, "\xba\x10", 2); /* mov $0x...10, %edx */
	for (unsigned i = 0; i < 2; i++) {
		/* The rest of the constant; mov $0x...10, %eax; ret. */
		u8 code[] = { 0x50, (u8)i, 0, 0xb8, 0x10, 0x50, (u8)i, 0, 0xc3 };

		memcpy(texts[i], code, sizeof(code));
		space_build(&spaces[i]);
		spaces[i].pt[0] = (ulong)from | PTE_P;
	}
	spaces_turns(false);
	if (cpuid(1, 0).c & 1u << 17)
		spaces_turns(true);
}

/* No table of jumps may take an empty entry for one of address 0. */
static void address_zero(void)
{
	static const u8 code[] = { 0xb8, 0x77, 0, 0, 0, 0xc3 }; /* mov $0x77, %eax; ret */
	u8 before[sizeof(code)], *zero;
	ulong at = 0;

	__asm__("" : "+r"(at)); /* compilers know better than to write there */
	zero = (u8 *)at;
	memcpy(before, zero, sizeof(code));
	memcpy(zero, code, sizeof(code));
	for (unsigned i = 0; i < 3; i++)
		CHECK_EQ(call(at), 0x77);
	memcpy(zero, before, sizeof(code));
}

const struct test tests[] = {
	{ "code at address 0", address_zero, CHEAP },
	{ "a space that comes back", comes_back, CHEAP }, /* before there are global pages below */
	{ "two spaces", two_spaces, 20 },
	{ "global pages", global, CHEAP },
	{ "a few pages of the upper half", upper_few, CHEAP },
	{ "global pages of the upper half", upper_global, CHEAP },
	{ "many pages of the upper half", upper_many, 20 },
	{ "PCID", pcid, CHEAP },
	{ "PCID refusals", pcid_refusals, CHEAP },
	{ "INVPCID", invpcid, CHEAP },
	{ "the upper half and another PCID", upper_other_pcid, CHEAP },
	{ "INVPCID refusals", invpcid_refusals, CHEAP },
	{ 0 },
};
