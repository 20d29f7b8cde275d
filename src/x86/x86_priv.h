/*
 * What the files of this folder share about descriptors and stacks; not for other folders.
 *
 * Every control transfer here has the same three phases, and the helpers below serve one each:
 * fetch and check descriptors, write stack frames and descriptor bits (the last things that can
 * fault), and commit registers (which cannot). A fault in the first two leaves the registers alone.
 */
#pragma once
#include "base/bits.h"
#include "x86/exception.h"
#include "x86/mode.h"
#include "x86/segment.h"
#include "x86/transfer.h"

/* System descriptor types (SDM 3A table 3-2); in long mode 2, 9, b, c, e, f are the 64-bit forms.
 */
enum x86_system_type {
	SYS_TSS16 = 1,
	SYS_LDT = 2,
	SYS_TSS16_BUSY = 3,
	SYS_CALL16 = 4,
	SYS_TASK_GATE = 5,
	SYS_INT16 = 6,
	SYS_TRAP16 = 7,
	SYS_TSS = 9,
	SYS_TSS_BUSY = 11,
	SYS_CALL = 12,
	SYS_INT = 14,
	SYS_TRAP = 15,
};
#define SYS_BUSY 2u /* the type bit that tells a busy TSS from an available one */
/* Descriptor attributes as SYSCALL and its relatives load them, without table (SDM 2, SYSCALL). */
#define FLAT_CODE64 (SEG_G | SEG_L | SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED)
#define FLAT_CODE32 (SEG_G | SEG_DB | SEG_P | SEG_S | SEG_CODE | SEG_RW | SEG_ACCESSED)
#define FLAT_DATA   (SEG_G | SEG_DB | SEG_P | SEG_S | SEG_RW | SEG_ACCESSED)

static inline bool selector_null(u16 selector) { return !(selector & 0xfffc); }
static inline unsigned selector_rpl(u16 selector) { return selector & 3; }
static inline bool selector_in_ldt(u16 selector) { return selector & 4; }

/* System type, or a value no system type has for code and data. */
static inline unsigned attr_system(u32 attr) { return attr & (SEG_S | SEG_TYPE); }
static inline bool attr_code(u32 attr) { return (attr & SEG_S) && (attr & SEG_CODE); }
static inline bool attr_conforming(u32 attr) { return attr_code(attr) && (attr & SEG_DC); }
static inline bool attr_writable(u32 attr)
{
	return (attr & (SEG_S | SEG_CODE | SEG_RW)) == (SEG_S | SEG_RW);
}
static inline bool attr_readable(u32 attr)
{
	return (attr & SEG_S) && (!(attr & SEG_CODE) || (attr & SEG_RW));
}

/* An error code that names a selector leaves room for EXT and IDT below it (SDM 3A 6.13). */
static inline int x86_fault_selector(struct x86_cpu *cpu, enum x86_vector vector, u16 selector)
{
	return x86_fault_code(cpu, vector, selector & 0xfffcu);
}

static inline struct x86_seg seg_from(const struct x86_desc *desc, u16 selector)
{
	u32 accessed = desc->attr & SEG_S ? SEG_ACCESSED : 0;

	return (struct x86_seg){ selector, desc->attr | accessed, desc->limit, desc->base };
}
/* A null SS still carries the CPL in its DPL. */
static inline struct x86_seg seg_null(u16 selector, unsigned dpl)
{
	return (struct x86_seg){ .selector = selector, .attr = SEG_UNUSABLE | dpl << 5 };
}
static inline struct x86_seg seg_flat(u16 selector, u32 attr, unsigned dpl)
{
	return (struct x86_seg){ selector, attr | dpl << 5, 0xffffffff, 0 };
}

/* segment.c */
bool x86_within_limit(const struct x86_seg *seg, u64 ea, unsigned size);
int x86_mark_accessed(struct x86_cpu *cpu, const struct x86_desc *desc);
int x86_store_type(struct x86_cpu *cpu, const struct x86_desc *desc, unsigned type);
/* Where a descriptor is; false: outside its table, or the table is unusable. */
bool x86_desc_at(const struct x86_state *s, u16 selector, unsigned size, gva_t *at);
int x86_read_desc(struct x86_cpu *cpu, gva_t at, struct x86_desc *out);
/* A stack segment for privilege level cpl: `vector` when unsuitable, #SS when not present. */
int x86_fetch_stack_desc(struct x86_cpu *cpu, u16 selector, unsigned cpl, enum x86_vector vector,
	struct x86_desc *out);
/* The rules of far returns and IRET for the code segment they return to (SDM 3A 5.8.6). */
int x86_fetch_return_desc(struct x86_cpu *cpu, u16 selector, struct x86_desc *out);
/* Would rip be fetchable through code segment `cs` in the current mode? #GP(0) otherwise. */
int x86_check_target(struct x86_cpu *cpu, const struct x86_desc *cs, u64 rip);
/* After a return outwards, data segments the outer level may not use become null. */
void x86_drop_inner_segments(struct x86_state *s, unsigned cpl);
static inline bool desc_is_code64(const struct x86_state *s, const struct x86_desc *cs)
{
	return x86_long_mode(s) && (cs->attr & SEG_L);
}

/*
 * stack.c: a stack, not necessarily the current one, and what is to be pushed on it. `selector`
 * goes into #SS error codes: 0 for the current stack, else the one being switched to.
 */
struct x86_stack {
	struct x86_seg seg;
	u64 sp, mask;
	bool flat; /* 64-bit: no base and no limit, canonical form instead */
	unsigned access;
	u16 selector;
};

#define POP_SLOTS 32
/* Room for the largest frame: a call gate's 31 parameters, SS, ESP, CS, EIP. */
#define FRAME_SLOTS 40
struct x86_frame {
	unsigned slot, count;	/* bytes of each, how many */
	u64 value[FRAME_SLOTS]; /* in the order of the pushes */
};

static inline void frame_push(struct x86_frame *f, u64 value) { f->value[f->count++] = value; }

struct x86_stack x86_current_stack(const struct x86_state *s);
/* The stack a transfer to privilege level cpl will run on. */
struct x86_stack x86_other_stack(
	const struct x86_state *s, const struct x86_seg *seg, u64 sp, unsigned cpl, bool flat);
/* Writes the frame and lowers stack->sp; the state's RSP is not touched. */
int x86_stack_push(struct x86_cpu *cpu, struct x86_stack *stack, const struct x86_frame *frame);
/* Reads `count` slots (at most POP_SLOTS) and raises stack->sp. */
int x86_stack_pop(
	struct x86_cpu *cpu, struct x86_stack *stack, unsigned slot, unsigned count, u64 *value);
/* Moves the stack pointer within its width. */
void x86_stack_skip(struct x86_stack *stack, s64 bytes);
/* RSP := stack->sp; writing ESP clears the upper half. */
void x86_commit_sp(struct x86_state *s, const struct x86_stack *stack);
/* SS:ESP for an inner privilege level from a 16- or 32-bit TSS (SDM 3A 7.2.1), fully checked. */
int x86_inner_stack(struct x86_cpu *cpu, unsigned cpl, struct x86_stack *stack);
/* RSP at `offset` in the 64-bit TSS (SDM 3A 7.7), and a null SS of level cpl. */
int x86_inner_stack64(struct x86_cpu *cpu, unsigned offset, unsigned cpl, struct x86_stack *stack);

/* event.c: one attempt at going through the IDT. */
struct x86_delivery {
	u8 vector;
	enum x86_event kind;
	bool has_error;
	u32 error;
	u64 rip;    /* to return to */
	u64 rflags; /* the image pushed */
};
int x86_enter_handler(struct x86_cpu *cpu, const struct x86_delivery *d);

/* v86.c: interrupts as the 8086 took them. Pushes FLAGS, CS, IP and jumps through four bytes at
 * `entry`; changes no flags. */
int x86_enter_8086(struct x86_cpu *cpu, gva_t entry, u16 flags, u64 rip);
/* INT n in virtual-8086 mode; *done: it was redirected, else the IDT is next. */
int x86_v86_int_n(struct x86_cpu *cpu, u8 vector, u64 next_rip, bool *done);

/* return.c: what IRET and far RET have in common. */
struct x86_return {
	u16 cs, ss;
	u64 rip, sp;
	bool switch_stack; /* SS:SP are to be loaded, too */
	struct x86_desc cs_desc, ss_desc;
};
/* Checks SS and the target, sets accessed bits; cs_desc is already fetched. */
int x86_check_return(struct x86_cpu *cpu, struct x86_return *r);
/* Loads CS:RIP and SS:SP and drops the inner level's data segments. */
void x86_commit_return(struct x86_cpu *cpu, const struct x86_return *r);
/* CS:IP as real mode and virtual-8086 mode load them; #GP(0) beyond CS's limit. */
int x86_jump_real(struct x86_cpu *cpu, u16 selector, u64 ip);

/* task.c */
struct x86_task {
	u16 selector;
	enum x86_task_source source;
	u64 rip, rflags; /* to save in the old TSS */
	bool has_error;	 /* push `error` on the new task's stack */
	u32 error;
};
int x86_switch_task(struct x86_cpu *cpu, const struct x86_task *t);
