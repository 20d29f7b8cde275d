/*
 * The runtime of the guest programs.
 *
 * A program is one C file with a table of tests. The runtime is compiled three times (-m16, -m32,
 * -m64), brings the processor into that mode and runs each test `times` times, so that an engine
 * that compiles hot code is exercised too. It prints "ok <test>" or "FAIL <test>: ..." for each and
 * at the end PASS or FAIL, and leaves through the debug-exit port.
 *
 * Traps: every vector goes to trap_dispatch(). A hook set for the vector gets the frame; without
 * one the trap is recorded in `trap` and execution goes on at trap_resume, which ATTEMPT() sets to
 * the end of its instruction. A trap nobody expected ends the program with FAIL.
 *
 * Memory is identity-mapped and open to ring 3 in the default tables, so that test functions can be
 * called in ring 3 as they are; nothing is printed there: failures are kept and printed later.
 */
#pragma once
#include "layout.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;
typedef unsigned long ulong; /* the width of a stack slot in 32- and 64-bit programs */

#define BIT(n)	     (1ul << (n))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define ALIGNED(n)   __attribute__((aligned(n)))
#define NOINLINE     __attribute__((noinline))
#define PAGE	     4096ul

#define FLAG_CF	     0x1ul
#define FLAG_PF	     0x4ul
#define FLAG_AF	     0x10ul
#define FLAG_ZF	     0x40ul
#define FLAG_SF	     0x80ul
#define FLAG_TF	     0x100ul
#define FLAG_IF	     0x200ul
#define FLAG_DF	     0x400ul
#define FLAG_OF	     0x800ul
#define FLAG_IOPL    0x3000ul
#define FLAG_NT	     0x4000ul
#define FLAG_RF	     0x10000ul
#define FLAG_VM	     0x20000ul
#define FLAG_AC	     0x40000ul
#define FLAG_VIF     0x80000ul
#define FLAG_VIP     0x100000ul
#define FLAG_ID	     0x200000ul
#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

enum {
	V_DE = 0,
	V_DB = 1,
	V_NMI = 2,
	V_BP = 3,
	V_OF = 4,
	V_BR = 5,
	V_UD = 6,
	V_NM = 7,
	V_DF = 8,
	V_TS = 10,
	V_NP = 11,
	V_SS = 12,
	V_GP = 13,
	V_PF = 14,
	V_MF = 16,
	V_AC = 17,
	V_XM = 19,
	NO_TRAP = 0xffff,
};

/* -- tests and checks ----------------------------------------------------------------------------
 */

struct test {
	const char *name;
	void (*run)(void);
	unsigned times;
};
extern const struct test tests[]; /* the program's; a NULL name ends it */

#define CHEAP 300 /* times a test without side effects runs */

void check_fail(int line, const char *what, u64 got, u64 want);
/* The running test cannot be judged here (no such CPUID feature, no such device): prints "skip". */
void test_skip(const char *why);
extern bool test_failed;

#define CHECK_EQ(got, want)                                      \
	do {                                                     \
		u64 got_ = (u64)(got), want_ = (u64)(want);      \
		if (got_ != want_)                               \
			check_fail(__LINE__, #got, got_, want_); \
	} while (0)
#define CHECK(cond)                                        \
	do {                                               \
		if (!(cond))                               \
			check_fail(__LINE__, #cond, 0, 1); \
	} while (0)

void *memset(void *to, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void print(const char *text);
void print_hex(u64 value);
_Noreturn void guest_exit(u8 value);

/* -- traps ---------------------------------------------------------------------------------------
 */

#if defined(GUEST16)
struct frame { /* as lib/trap16.S pushes it */
	u32 edi, esi, ebp, esp_unused, ebx, edx, ecx, eax;
	u16 es, ds, vector, ip, cs, flags;
};
#elif defined(__x86_64__)
struct frame { /* as lib/trap64.S pushes it */
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
	u64 vector, error, ip, cs, flags, sp, ss;
};
#else
struct frame { /* as lib/trap32.S pushes it; sp and ss only from another ring, v* only from v86 */
	u32 edi, esi, ebp, esp_unused, ebx, edx, ecx, eax, gs, fs, es, ds;
	u32 vector, error, ip, cs, flags, sp, ss, ves, vds, vfs, vgs;
};
#endif

struct trap {
	u32 vector, error, count;
	u16 cs;
	ulong ip, flags, cr2;
	struct frame *frame; /* where it was pushed: tells which stack was used */
};
extern volatile struct trap trap;
extern volatile ulong trap_at, trap_resume;
typedef void (*trap_hook_fn)(struct frame *);
extern trap_hook_fn trap_hook[256];
extern volatile u32 trap_counts[256];

#ifdef __x86_64__
#define MOVP "movq "
#else
#define MOVP "movl "
#endif

/*
 * Runs one instruction (or a few, the faulting one first) with recovery: afterwards trap.vector is
 * what it raised, or NO_TRAP. The rest of the arguments are an asm statement's, from its first
 * colon.
 */
#define ATTEMPT(insn, ...)                                                                    \
	do {                                                                                  \
		trap.vector = NO_TRAP;                                                        \
		__asm__ volatile("" ::: "memory");                                            \
		__asm__ volatile(                                                             \
			MOVP "$7770f, trap_at\n\t" MOVP "$7771f, trap_resume\n"               \
			     "7770: " insn "\n7771:\n\t" MOVP "$0, trap_resume" __VA_ARGS__); \
		__asm__ volatile("" ::: "memory");                                            \
	} while (0)

void check_trap(int line, const char *what, u32 vector, u32 error, ulong offset);

/* The instruction must raise exactly this, with the saved RIP `offset` bytes past its start. */
#define EXPECT_AT(vector, error, offset, insn, ...)                \
	do {                                                       \
		ATTEMPT(insn, __VA_ARGS__);                        \
		check_trap(__LINE__, insn, vector, error, offset); \
	} while (0)
#define EXPECT(vector, error, insn, ...) EXPECT_AT(vector, error, 0, insn, __VA_ARGS__)
#define EXPECT_OK(insn, ...)                                              \
	do {                                                              \
		ATTEMPT(insn, __VA_ARGS__);                               \
		if (trap.vector != NO_TRAP)                               \
			check_fail(__LINE__, insn, trap.vector, NO_TRAP); \
	} while (0)

/* -- processor -----------------------------------------------------------------------------------
 */

static inline void outb(u16 port, u8 v) { __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static inline void outw(u16 port, u16 v) { __asm__ volatile("outw %0, %1" ::"a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(port)); }
static inline u8 inb(u16 port)
{
	u8 v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline u16 inw(u16 port)
{
	u16 v;
	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline u32 inl(u16 port)
{
	u32 v;
	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

#define DEFINE_REGISTER(name)                                                \
	static inline ulong read_##name(void)                                \
	{                                                                    \
		ulong v;                                                     \
		__asm__ volatile("mov %%" #name ", %0" : "=r"(v)::"memory"); \
		return v;                                                    \
	}                                                                    \
	static inline void write_##name(ulong v)                             \
	{                                                                    \
		__asm__ volatile("mov %0, %%" #name ::"r"(v) : "memory");    \
	}
DEFINE_REGISTER(cr0)
DEFINE_REGISTER(cr2)
DEFINE_REGISTER(cr3)
DEFINE_REGISTER(cr4)
DEFINE_REGISTER(dr0)
DEFINE_REGISTER(dr1)
DEFINE_REGISTER(dr2)
DEFINE_REGISTER(dr3)
DEFINE_REGISTER(dr6)
DEFINE_REGISTER(dr7)

static inline ulong read_flags(void)
{
	ulong v;
	__asm__ volatile("pushf\n\tpop %0" : "=r"(v)::"memory");
	return v;
}
static inline void write_flags(ulong v)
{
	__asm__ volatile("push %0\n\tpopf" ::"r"(v) : "memory", "cc");
}

struct cpuid {
	u32 a, b, c, d;
};
static inline struct cpuid cpuid(u32 leaf, u32 sub)
{
	struct cpuid r;
	__asm__ volatile("cpuid"
			 : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
			 : "a"(leaf), "c"(sub));
	return r;
}
static inline u64 rdmsr(u32 index)
{
	u32 lo, hi;
	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(index) : "memory");
	return (u64)hi << 32 | lo;
}
static inline void wrmsr(u32 index, u64 v)
{
	__asm__ volatile("wrmsr" ::"c"(index), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}
static inline u64 rdtsc(void)
{
	u32 lo, hi;
	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
	return (u64)hi << 32 | lo;
}

#define CR0_MP	       BIT(1)
#define CR0_EM	       BIT(2)
#define CR0_TS	       BIT(3)
#define CR0_NE	       BIT(5)
#define CR0_WP	       BIT(16)
#define CR0_AM	       BIT(18)
#define CR0_PG	       BIT(31)
#define CR4_VME	       BIT(0)
#define CR4_PVI	       BIT(1)
#define CR4_TSD	       BIT(2)
#define CR4_DE	       BIT(3)
#define CR4_PSE	       BIT(4)
#define CR4_PAE	       BIT(5)
#define CR4_PGE	       BIT(7)
#define CR4_OSFXSR     BIT(9)
#define CR4_OSXMMEXCPT BIT(10)
#define CR4_UMIP       BIT(11)
#define CR4_FSGSBASE   BIT(16)
#define CR4_PCIDE      BIT(17)
#define CR4_OSXSAVE    BIT(18)
#define CR4_SMEP       BIT(20)
#define CR4_SMAP       BIT(21)

#define MSR_APIC_BASE	   0x1b
#define MSR_SYSENTER_CS	   0x174
#define MSR_SYSENTER_ESP   0x175
#define MSR_SYSENTER_EIP   0x176
#define MSR_EFER	   0xc0000080
#define MSR_STAR	   0xc0000081
#define MSR_LSTAR	   0xc0000082
#define MSR_CSTAR	   0xc0000083
#define MSR_SFMASK	   0xc0000084
#define MSR_FS_BASE	   0xc0000100
#define MSR_GS_BASE	   0xc0000101
#define MSR_KERNEL_GS_BASE 0xc0000102
#define EFER_SCE	   BIT(0)
#define EFER_NXE	   BIT(11)

/* -- descriptors (32- and 64-bit programs) --------------------------------------------------------
 */

#ifndef GUEST16
extern volatile u64 gdt[GDT_SLOTS]; /* the processor reads them behind the compiler's back */
extern volatile u64 idt[];

/* access is byte 5 (P DPL S type); flags the high nibble of byte 6 (G D/B L AVL). */
static inline u64 descriptor(u32 base, u32 limit, u8 access, u8 flags)
{
	return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 |
	       (u64)(limit >> 16 & 15) << 48 | (u64)flags << 52 | (u64)(base >> 24) << 56;
}
/* A call, interrupt or trap gate's first eight bytes; args only counts in a 32-bit call gate. */
static inline u64 gate(u16 selector, ulong offset, u8 access, u8 args)
{
	return (offset & 0xffff) | (u64)selector << 16 | (u64)args << 32 | (u64)access << 40 |
	       (u64)(offset >> 16 & 0xffff) << 48;
}
void idt_set(u8 vector, void *handler, u8 access);
extern char trap_stubs[]; /* 16 bytes for each vector */

#ifdef __x86_64__
struct tss {
	u32 reserved0;
	u64 rsp[3], reserved1, ist[7], reserved2;
	u16 reserved3, iomap;
	u8 bitmap[8193];
} __attribute__((packed));
void idt_set_ist(u8 vector, unsigned ist);
#else
struct tss {
	u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp,
		esi, edi;
	u32 es, cs, ss, ds, fs, gs, ldt;
	u16 trap, iomap;
	u8 bitmap[8193];
} __attribute__((packed));
#endif
extern struct tss tss;
extern u8 ring0_stack[8192]; /* what the TSS names for ring 0 */

/* Calls fn(arg) in ring 3 and returns its value. user_flags are the flags it starts with. */
ulong user_call(ulong (*fn)(ulong), ulong arg);
extern ulong user_flags;
extern u8 user_stack[8192];
#endif
