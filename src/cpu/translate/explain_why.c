/* Why instructions become what they become, in one sentence each. */
#include "base/must.h"
#include "cpu/interpret/branch.h"
#include "cpu/interpret/decode.h"
#include "cpu/interpret/string.h"
#include "cpu/interpret/system.h"
#include "cpu/translate/explain.h"
#include "cpu/translate/translate_priv.h"
#include <stdio.h>

#define NAMED(fn) fn, NULL, #fn
#define SIZES(fn) NULL, fn##_by_size, #fn

/* What is handed over for a reason of its own. */
static const struct reason {
	op_fn *fn;
	op_fn *const *sizes; /* or any of these */
	const char *name;
	const char *why;
} reasons[] = {
	{ NAMED(op_cli), "IF is the guest's, not the host's: it is a bit of the state in memory" },
	{ NAMED(op_sti), "IF is the guest's, and an interrupt may be waiting for it" },
	{ NAMED(op_pushf), "IF, IOPL, AC and DF of the image are the guest's, not the host's" },
	{ NAMED(op_popf), "on the host it would change nothing of IF in user mode, silently" },
	{ NAMED(op_hlt), "the processor sleeps until an interrupt" },
	{ NAMED(op_mov_to_cr),
		"another mode or address space: translations are flushed, what is cached is "
		"checked" },
	{ NAMED(op_mov_from_cr), "control registers are part of the state in memory" },
	{ NAMED(op_mov_to_dr), "breakpoints of the guest are the guest's" },
	{ NAMED(op_mov_from_dr), "debug registers are part of the state in memory" },
	{ NAMED(op_clts), "CR0.TS decides whether vector instructions run" },
	{ NAMED(op_lmsw), "it changes CR0" },
	{ NAMED(op_smsw), "on the host it would tell the host's CR0" },
	{ NAMED(op_invlpg), "the page's entries leave the TLBs, jumps into it are unchained" },
	{ NAMED(op_invpcid), "translations of one address space are flushed" },
	{ NAMED(op_rdmsr), "the guest's registers, not the host's" },
	{ NAMED(op_wrmsr), "the guest's registers; some change the mode" },
	{ NAMED(op_cpuid), "the guest sees its model of a processor, not the host's" },
	{ NAMED(op_rdtsc), "the guest's clock has an offset of its own" },
	{ NAMED(op_rdtscp), "the guest's clock and the guest's TSC_AUX" },
	{ NAMED(op_rdpid), "the guest's TSC_AUX" },
	{ NAMED(op_swapgs), "GS bases are part of the state in memory; the host's GS is ours" },
	{ NAMED(op_fsgsbase), "segment bases are part of the state in memory" },
	{ NAMED(op_mov_to_seg), "a descriptor of the guest's tables is loaded and checked" },
	{ NAMED(op_mov_from_seg), "selectors are part of the state in memory" },
	{ NAMED(op_push_seg), "selectors are part of the state in memory" },
	{ NAMED(op_pop_seg), "a descriptor of the guest's tables is loaded and checked" },
	{ NAMED(op_load_far), "a descriptor of the guest's tables is loaded and checked" },
	{ NAMED(op_lgdt), "the table is the guest's" },
	{ NAMED(op_lidt), "the table is the guest's" },
	{ NAMED(op_sgdt), "on the host it would tell the host's table" },
	{ NAMED(op_sidt), "on the host it would tell the host's table" },
	{ NAMED(op_ltr), "a descriptor of the guest's tables is loaded and checked" },
	{ NAMED(op_lldt), "a descriptor of the guest's tables is loaded and checked" },
	{ NAMED(op_str), "on the host it would tell the host's task register" },
	{ NAMED(op_sldt), "on the host it would tell the host's LDT" },
	{ NAMED(op_lar), "it reads the guest's descriptors" },
	{ NAMED(op_lsl), "it reads the guest's descriptors" },
	{ NAMED(op_verr), "it reads the guest's descriptors" },
	{ NAMED(op_verw), "it reads the guest's descriptors" },
	{ NAMED(op_stac), "AC opens user pages to the kernel: other rights, another TLB" },
	{ NAMED(op_clac), "AC closes user pages to the kernel: other rights, another TLB" },
	{ NAMED(op_wbinvd), "the host's caches are the host's" },
	{ NAMED(op_clflush), "it checks an address without reading it" },
	{ NAMED(op_xgetbv), "the guest's XCR0" },
	{ NAMED(op_xsetbv), "the guest's XCR0" },
	{ NAMED(op_fxsave), "the image is the guest's state" },
	{ NAMED(op_fxrstor), "the image becomes the guest's state" },
	{ NAMED(op_xsave), "the image is the guest's state" },
	{ NAMED(op_xrstor), "the image becomes the guest's state" },
	{ NAMED(op_syscall), "another privilege level, from the guest's registers" },
	{ NAMED(op_sysret), "another privilege level" },
	{ NAMED(op_sysenter), "another privilege level, from the guest's registers" },
	{ NAMED(op_sysexit), "another privilege level" },
	{ NAMED(op_iret), "flags, privilege level and stack change at once" },
	{ NAMED(op_int), "an exception through the guest's IDT" },
	{ NAMED(op_int1), "an exception through the guest's IDT" },
	{ NAMED(op_jmp_far), "a descriptor of the guest's tables is loaded and checked" },
	{ NAMED(op_call_far), "a descriptor of the guest's tables is loaded and checked" },
	{ NAMED(op_ret_far), "a descriptor of the guest's tables is loaded and checked" },
	{ NAMED(op_ud), "an exception through the guest's IDT" },
	{ NAMED(op_hypercall), "no hypervisor of that kind answers" },
	{ NAMED(op_native), "the copy that the interpreter keeps does it" },
	{ NAMED(op_native_mem), "the copy that the interpreter keeps does it" },
	{ SIZES(op_in), "a device answers" },
	{ SIZES(op_out), "a device is told" },
	{ SIZES(op_ins), "a device answers" },
	{ SIZES(op_outs), "a device is told" },
	{ SIZES(op_movs),
		"within one page it runs on host addresses; the rest is the interpreter's" },
	{ SIZES(op_stos),
		"within one page it runs on host addresses; the rest is the interpreter's" },
	{ SIZES(op_lods), "it may cross pages and repeat" },
	{ SIZES(op_cmps), "it may cross pages and repeat" },
	{ SIZES(op_scas), "it may cross pages and repeat" },
};

static bool has(op_fn *const *sizes, op_fn *fn)
{
	for (unsigned i = 0; sizes && i < 4; i++)
		if (sizes[i] == fn)
			return true;
	return false;
}

static const struct reason *reason_of(const struct op *op)
{
	for (const struct reason *r = reasons; r < reasons + ARRAY_LEN(reasons); r++)
		if (r->fn == op->exec || has(r->sizes, op->exec))
			return r;
	return NULL;
}

/* Vector instructions run as they are, once their registers are in place. */
bool explain_sensitive(const struct op *op)
{
	return op->exec != op_native && op->exec != op_native_mem && reason_of(op);
}

static void why_handed(struct explain_insn *out, const struct tinsn *in, const struct op *op)
{
	const struct reason *r = reason_of(op);
	const char *name = ZydisMnemonicGetString((ZydisMnemonic)in->mnemonic);

	if (r)
		snprintf(out->why, sizeof(out->why), "as %s: %s", r->name, r->why);
	else
		snprintf(out->why, sizeof(out->why), "as %s%s: it has no emitter, being rare",
			op->flags & OPF_LOCK ? "lock " : "", name ? name : "it is");
}

static void why_memory(struct explain_insn *out, const struct tinsn *in)
{
	static const char *const what[] = {
		[ACCESS_NONE] = "touches memory",
		[ACCESS_EA_READ] = "reads",
		[ACCESS_EA_WRITE] = "writes",
		[ACCESS_PUSH] = "pushes",
		[ACCESS_POP] = "pops",
		[ACCESS_LEAVE] = "pops",
		[ACCESS_BIT_READ] = "reads",
		[ACCESS_BIT_WRITE] = "writes",
		[ACCESS_STOS] = "writes",
		[ACCESS_MOVS] = "writes",
	};

	snprintf(out->why, sizeof(out->why),
		"it %s %u byte%s; a page not in the inline TLB is the interpreter's",
		in->access < ARRAY_LEN(what) ? what[in->access] : what[0], in->bytes,
		in->bytes == 1 ? "" : "s");
}

static const char *why_link(const struct op *op)
{
	if (op->exec == op_call)
		return "the return address is pushed; the jump is patched once its target is "
		       "translated";
	if (op->exec == op_jcc)
		return "both ways are jumps that are patched once their targets are translated";
	if (op->exec == op_jmp)
		return "the jump is patched once its target is translated";
	return "the block ends here and goes on in the next";
}

static const char *why_lookup(const struct op *op)
{
	if (op->exec == op_ret)
		return "the address is popped and looked up in a table of translated code";
	if (op->exec == op_call_ind)
		return "the return address is pushed, the target looked up in a table of "
		       "translated "
		       "code";
	return "the target is looked up in a table of translated code";
}

static const char *why_reencoded(const struct tinsn *in)
{
	if (in->mnemonic == ZYDIS_MNEMONIC_LEA)
		return "the address is computed, not used";
	return "registers that live elsewhere: RCX in R10; R10, R11 and R15 in memory";
}

void explain_why(struct explain_insn *out, const struct tinsn *in, const struct op *op)
{
	const char *why = NULL;

	switch (out->fate) {
	case EXPLAIN_COPIED: why = "registers and flags are where they belong"; break;
	case EXPLAIN_REENCODED: why = why_reencoded(in); break;
	case EXPLAIN_MEMORY: why_memory(out, in); return;
	case EXPLAIN_LINK: why = why_link(op); break;
	case EXPLAIN_LOOKUP: why = why_lookup(op); break;
	case EXPLAIN_HANDED: why_handed(out, in, op); return;
	case EXPLAIN_INLINE: why = reason_of(op)->why; break;
	case EXPLAIN_NOTHING: why = "it does nothing"; break;
	case EXPLAIN_INTERPRETED:
		why = "its second half is on a page that is not there, or it is no instruction";
		break;
	case EXPLAIN_FATES: unreachable();
	}
	snprintf(out->why, sizeof(out->why), "%s", why);
}
