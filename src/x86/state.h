/*
 * The architectural state of one x86-64 processor: what snapshots, migration, the debugger and
 * every engine agree on. An engine may keep a faster copy while it runs; outside run(), this is
 * the truth. Units and layouts follow the Intel SDM (volume and section beside each field) and
 * the AMD APM where they agree; where the two differ, the CPU model's vendor decides.
 *
 * Nothing here is a host address and nothing depends on the host, so the struct can be described
 * by a field table (x86/state.c) and moved between hosts.
 */
#pragma once
#include "base/types.h"

enum x86_gpr {
	RAX,
	RCX,
	RDX,
	RBX,
	RSP,
	RBP,
	RSI,
	RDI,
	R8,
	R9,
	R10,
	R11,
	R12,
	R13,
	R14,
	R15,
	X86_GPRS,
};

/* The encoding order of ModRM.reg for segment registers, then the two system segments. */
enum x86_segreg {
	X86_ES,
	X86_CS,
	X86_SS,
	X86_DS,
	X86_FS,
	X86_GS,
	X86_LDTR,
	X86_TR,
	X86_SEGS,
};

/* RFLAGS (SDM 1 3.4.3) */
#define FLAG_CF	     BIT64(0)
#define FLAG_ONE     BIT64(1) /* always set */
#define FLAG_PF	     BIT64(2)
#define FLAG_AF	     BIT64(4)
#define FLAG_ZF	     BIT64(6)
#define FLAG_SF	     BIT64(7)
#define FLAG_TF	     BIT64(8)
#define FLAG_IF	     BIT64(9)
#define FLAG_DF	     BIT64(10)
#define FLAG_OF	     BIT64(11)
#define FLAG_IOPL    (3ull << 12)
#define FLAG_NT	     BIT64(14)
#define FLAG_RF	     BIT64(16)
#define FLAG_VM	     BIT64(17)
#define FLAG_AC	     BIT64(18)
#define FLAG_VIF     BIT64(19)
#define FLAG_VIP     BIT64(20)
#define FLAG_ID	     BIT64(21)
#define FLAGS_STATUS (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

/* CR0, CR4 (SDM 3A 2.5), EFER (SDM 3A 2.2.1), XCR0 (SDM 1 13.3) */
#define CR0_PE BIT64(0)
#define CR0_MP BIT64(1)
#define CR0_EM BIT64(2)
#define CR0_TS BIT64(3)
#define CR0_ET BIT64(4)
#define CR0_NE BIT64(5)
#define CR0_WP BIT64(16)
#define CR0_AM BIT64(18)
#define CR0_NW BIT64(29)
#define CR0_CD BIT64(30)
#define CR0_PG BIT64(31)

#define CR3_PCID 0xfffull /* with CR4.PCIDE: SDM 3A 4.10.1 */

#define CR4_VME	       BIT64(0)
#define CR4_PVI	       BIT64(1)
#define CR4_TSD	       BIT64(2)
#define CR4_DE	       BIT64(3)
#define CR4_PSE	       BIT64(4)
#define CR4_PAE	       BIT64(5)
#define CR4_MCE	       BIT64(6)
#define CR4_PGE	       BIT64(7)
#define CR4_PCE	       BIT64(8)
#define CR4_OSFXSR     BIT64(9)
#define CR4_OSXMMEXCPT BIT64(10)
#define CR4_UMIP       BIT64(11)
#define CR4_LA57       BIT64(12)
#define CR4_FSGSBASE   BIT64(16)
#define CR4_PCIDE      BIT64(17)
#define CR4_OSXSAVE    BIT64(18)
#define CR4_SMEP       BIT64(20)
#define CR4_SMAP       BIT64(21)

#define EFER_SCE BIT64(0)
#define EFER_LME BIT64(8)
#define EFER_LMA BIT64(10)
#define EFER_NXE BIT64(11)

#define XCR0_X87    BIT64(0)
#define XCR0_SSE    BIT64(1)
#define XCR0_AVX    BIT64(2)
#define XCR0_OPMASK BIT64(5)
#define XCR0_ZMM_HI BIT64(6) /* bits 256..511 of ZMM0-15 */
#define XCR0_HI_ZMM BIT64(7) /* ZMM16-31 */
#define XCR0_AVX512 (XCR0_OPMASK | XCR0_ZMM_HI | XCR0_HI_ZMM)

/* Exception vectors (SDM 3A 6.3.1) */
enum x86_vector {
	X86_DE = 0,
	X86_DB = 1,
	X86_NMI = 2,
	X86_BP = 3,
	X86_OF = 4,
	X86_BR = 5,
	X86_UD = 6,
	X86_NM = 7,
	X86_DF = 8,
	X86_TS = 10,
	X86_NP = 11,
	X86_SS_FAULT = 12,
	X86_GP = 13,
	X86_PF = 14,
	X86_MF = 16,
	X86_AC = 17,
	X86_MC = 18,
	X86_XM = 19,
};

/* Page-fault error code (SDM 3A 4.7) */
#define PF_PRESENT BIT(0)
#define PF_WRITE   BIT(1)
#define PF_USER	   BIT(2)
#define PF_RSVD	   BIT(3)
#define PF_FETCH   BIT(4)

/*
 * A segment register with its hidden part. attr holds the descriptor's bytes 5 and 6 without the
 * limit nibble (SDM 3A 3.4.5): type 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15; bit 16 is
 * set when the register is unusable (null selector), as in the VMX access-rights field (SDM 3C
 * 24.4.1). limit is in bytes, already scaled by G.
 */
struct x86_seg {
	u16 selector;
	u32 attr;
	u32 limit;
	u64 base;
};

#define SEG_TYPE     0x000fu
#define SEG_ACCESSED 0x0001u
#define SEG_RW	     0x0002u /* data: writable; code: readable */
#define SEG_DC	     0x0004u /* data: expand-down; code: conforming */
#define SEG_CODE     0x0008u
#define SEG_S	     0x0010u /* code or data, not system */
#define SEG_DPL(a)   (((a) >> 5) & 3u)
#define SEG_P	     0x0080u
#define SEG_AVL	     0x1000u
#define SEG_L	     0x2000u
#define SEG_DB	     0x4000u
#define SEG_G	     0x8000u
#define SEG_UNUSABLE 0x10000u

struct x86_table {
	u64 base;
	u16 limit;
};

/*
 * x87, MMX, SSE, AVX and AVX-512. The first 160 bytes are laid out as the 64-bit FXSAVE image
 * (SDM 1 10.5.1.1), so FXRSTOR/FXSAVE can run on &fpu itself; what they do to the rest of their
 * 512 bytes lands in `scratch` and means nothing. XMMn and YMMn are the low bytes of zmm[n].
 */
struct x86_fpu {
	u16 fcw;
	u16 fsw;
	u8 ftw; /* abridged: bit n set when physical register n is not empty */
	u8 reserved0;
	u16 fop;
	u64 fip;
	u64 fdp;
	u32 mxcsr;
	u32 mxcsr_mask;
	u8 st[8][16]; /* ST0..ST7 (top-relative), 80 bits each, zero-padded */
	u8 scratch[352];
	u8 xsave_header[64]; /* of an XSAVE area whose first 512 bytes the above is */
	u8 zmm[32][64];
	u64 k[8];
} __attribute__((aligned(64)));

_Static_assert(offsetof(struct x86_fpu, st) == 32, "FXSAVE layout");
_Static_assert(offsetof(struct x86_fpu, xsave_header) == 512, "FXSAVE image is 512 bytes");

#define MXCSR_RESET 0x1f80u
#define FSW_ES	    BIT(7)  /* an unmasked exception is pending */
#define FCW_RESET   0x0040u /* after RESET; FNINIT gives 0x037f */

/* SDM 3A 10.4: what the processor is doing when it is not executing instructions. */
enum x86_activity { X86_RUNNING, X86_HALTED, X86_WAIT_SIPI, X86_SHUTDOWN };

/* `blocking` bits: what keeps the next boundary from taking an event (SDM 3A 6.8). */
#define BLOCK_STI    BIT(0) /* one instruction after STI with IF going 0 -> 1 */
#define BLOCK_MOV_SS BIT(1) /* one instruction after MOV SS / POP SS; also delays #DB */
#define BLOCK_NMI    BIT(2) /* until IRET */

#define X86_MTRR_VAR 8

struct x86_state {
	u64 gpr[X86_GPRS];
	u64 rip;
	u64 rflags;
	struct x86_seg seg[X86_SEGS];
	struct x86_table gdt, idt;

	u64 cr0, cr2, cr3, cr4, xcr0;
	u64 dr[4], dr6, dr7;

	/* MSRs, in the order of their numbers */
	u64 tsc_offset; /* guest TSC = host TSC + tsc_offset */
	u64 apic_base;
	u64 tsc_adjust;
	u64 spec_ctrl;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 misc_enable;
	u64 mtrr_var[X86_MTRR_VAR][2]; /* base, mask */
	u64 mtrr_fix[11];
	u64 mtrr_def_type;
	u64 pat;
	u64 xss;
	u64 efer, star, lstar, cstar, sfmask, kernel_gs_base;
	u32 tsc_aux;
	u64 kvm_wall_clock, kvm_system_time, kvm_async_pf, kvm_steal_time, kvm_eoi, kvm_poll;

	enum x86_activity activity;
	u32 blocking;
	struct x86_fpu fpu;
};
