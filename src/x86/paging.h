/*
 * Address translation (SDM 3A chapter 4): none, 32-bit, PAE and 4-level paging, with accessed and
 * dirty bits set atomically, exact error codes, NX, WP, SMEP, SMAP, 1 GiB and global pages.
 * LA57 and protection keys are not part of the CPU model.
 */
#pragma once
#include "x86/cpu.h"

struct x86_xlat {
	gpa_t gpa;     /* of the byte asked for */
	u64 page_size; /* 4 KiB, 2 MiB, 4 MiB or 1 GiB; 4 KiB without paging */
	/* What the tables allow, independent of the access asked for: for a TLB to cache. */
	bool writable; /* R/W set at every level */
	bool user;     /* U/S set at every level */
	bool executable;
	bool dirty; /* leaf D is set (now): a cached entry may be written through */
	bool global;
	bool accessed; /* A is set at every level (now) */
};

/*
 * Translates and checks one byte address. On success A bits (and D, for a write) are set in the
 * tables. On a violation returns X86_FAULT with #PF prepared; cr2 is written by delivery.
 */
int x86_translate(struct x86_cpu *cpu, gva_t at, unsigned access, struct x86_xlat *out);

/* The same walk without any side effect or permission check, for debuggers; false: not mapped. */
bool x86_peek(struct x86_cpu *cpu, gva_t at, struct x86_xlat *out);

/* Where the last walk ended: another one nearby begins there. Of one moment: what leads to that
 * table is not read again. All zero: nowhere. */
struct x86_near {
	u64 region, table, all, any;
	unsigned level, shift; /* shift 0: nowhere */
};
/* As x86_peek(), for many addresses one after another. */
bool x86_peek_near(struct x86_cpu *cpu, gva_t at, struct x86_near *near, struct x86_xlat *out);

/* Bits of an entry (SDM 3A tables 4-4 to 4-20); PS, D and G mean something where it maps a page. */
#define X86_PTE_P   BIT64(0)
#define X86_PTE_W   BIT64(1)
#define X86_PTE_U   BIT64(2)
#define X86_PTE_PWT BIT64(3)
#define X86_PTE_PCD BIT64(4)
#define X86_PTE_A   BIT64(5)
#define X86_PTE_D   BIT64(6)
#define X86_PTE_PS  BIT64(7)
#define X86_PTE_G   BIT64(8)
#define X86_PTE_NX  BIT64(63)

#define X86_LEVELS_MAX 4

enum x86_walk_end { X86_WALK_PAGE, X86_WALK_NOT_PRESENT, X86_WALK_RESERVED };

/* A walk, level by level, for people to read. */
struct x86_walk {
	enum x86_walk_end end;
	unsigned depth;	    /* entries read, the one that ended it included; 0: paging is off */
	unsigned size;	    /* bytes of an entry */
	struct x86_xlat to; /* with X86_WALK_PAGE */
	struct {
		gpa_t at;
		u64 entry;
		unsigned index, shift; /* in its table; the lowest linear-address bit of it */
	} level[X86_LEVELS_MAX];
};

/* As x86_peek(). */
void x86_walk(struct x86_cpu *cpu, gva_t at, struct x86_walk *out);

/* Would this access be allowed by a translation with these rights? The single place that knows
 * how CPL, WP, SMEP, SMAP, NX and EFLAGS.AC combine. Returns 0 or the #PF error code bits. */
u32 x86_check_rights(const struct x86_state *s, const struct x86_xlat *x, unsigned access);

/* In PAE paging the four PDPTEs are loaded (and checked) at MOV CR3 (SDM 3A 4.4.1); this model
 * reads them at each walk and only checks them here. */
int x86_check_pdptes(struct x86_cpu *cpu, u64 cr3);
