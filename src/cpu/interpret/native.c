/* Execution of stubs: see native.h for the model. */
#include "cpu/interpret/native_priv.h"
#include "base/log.h"
#include "base/must.h"
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <ucontext.h>

/* ---- entering and leaving ---- */

struct frame {
	u64 rsp;  /* at native_enter, after its pushes; offset 0: known to the assembly */
	int trap; /* host trap number, -1 for none */
	const struct codemem *mem;
	struct x86_state *s;
};

static __thread struct frame *current;

u64 native_enter(const void *code, struct x86_state *s, void *mem, u64 flags, struct frame *f);
extern const char native_leave[];

__asm__(".text\n"
	".globl native_enter, native_leave\n"
	".hidden native_enter, native_leave\n"
	".type native_enter, @function\n"
	"native_enter:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, (%r8)\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	call *%rax\n"
	"native_leave:\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	".size native_enter, . - native_enter\n");

static struct sigaction chained[NSIG];

static void pass_on(int sig, siginfo_t *info, void *context)
{
	const struct sigaction *old = &chained[sig];

	if (old->sa_flags & SA_SIGINFO)
		old->sa_sigaction(sig, info, context);
	else if (old->sa_handler == SIG_DFL || old->sa_handler == SIG_IGN)
		sigaction(sig, old, NULL); /* returning faults again, now for real */
	else
		old->sa_handler(sig);
}

/* Leaves the stub through native_leave with the machine in the state C code expects. */
static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;
	struct frame *f = current;

	if (!f || !codemem_has(f->mem, (const void *)(uintptr_t)regs[REG_RIP])) {
		pass_on(sig, info, context);
		return;
	}
	f->trap = (int)regs[REG_TRAPNO];
	struct _libc_fpstate *fp = uc->uc_mcontext.fpregs;
	/* An unmasked SIMD exception leaves its flags in MXCSR (SDM 1 11.5.2). */
	if (f->trap == X86_XM)
		f->s->fpu.mxcsr = fp->mxcsr;
	fp->mxcsr = MXCSR_RESET;
	fp->cwd = 0x37f;
	fp->swd = 0;
	fp->ftw = 0;
	regs[REG_RIP] = (greg_t)(uintptr_t)native_leave;
	regs[REG_RSP] = (greg_t)f->rsp;
	regs[REG_RAX] = 0;
	regs[REG_EFL] &= ~(greg_t)(FLAG_DF | FLAG_AC | FLAG_TF);
}

static void install_handlers(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL };
	struct sigaction sa = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER };

	for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
		sigaction(signals[i], &sa, &chained[signals[i]]);
}

int native_run(struct natives *ns, const struct native *n, struct x86_state *s, void *mem, u64 *flags)
{
	struct frame f = { .trap = -1, .mem = &ns->mem, .s = s };

	current = &f;
	u64 out = native_enter(n->code, s, mem, *flags, &f);
	current = NULL;
	if (f.trap < 0)
		*flags = out;
	return f.trap;
}

/* ---- the stub cache ---- */

struct natives *natives_new(struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct natives *n = calloc(1, sizeof(*n));

	if (!n) {
		err_set(err, -ENOMEM, "interpret: no memory for the stub cache");
		return NULL;
	}
	if (codemem_open(&n->mem, NATIVE_ARENA, err) < 0) {
		free(n);
		return NULL;
	}
	n->avx = __builtin_cpu_supports("avx");
	n->avx512 = __builtin_cpu_supports("avx512f");
	n->avx512bw = __builtin_cpu_supports("avx512bw");
	pthread_once(&once, install_handlers);
	return n;
}

void natives_clear(struct natives *n)
{
	for (unsigned i = 0; i < NATIVE_BUCKETS; i++) {
		while (n->buckets[i]) {
			struct native *dead = n->buckets[i];

			n->buckets[i] = dead->next;
			free(dead);
		}
	}
	n->used = 0;
}

void natives_free(struct natives *n)
{
	if (!n)
		return;
	natives_clear(n);
	codemem_close(&n->mem);
	free(n);
}

bool natives_full(const struct natives *n) { return n->used + NATIVE_STUB_MAX > n->mem.size; }

static u32 hash_key(const u8 *key, unsigned len)
{
	u32 h = 2166136261u; /* FNV-1a */

	for (unsigned i = 0; i < len; i++)
		h = (h ^ key[i]) * 16777619u;
	return (h ^ (h >> 15)) & (NATIVE_BUCKETS - 1);
}

/* FISTTP came with SSE3, and is filed there. */
static bool is_x87(const ZydisDecodedInstruction *insn)
{
	return insn->meta.isa_ext == ZYDIS_ISA_EXT_X87 || insn->mnemonic == ZYDIS_MNEMONIC_FISTTP;
}

static enum x86_simd simd_kind(const ZydisDecodedInstruction *insn, bool vector, bool mmx)
{
	if (insn->mnemonic == ZYDIS_MNEMONIC_FWAIT)
		return X86_SIMD_WAIT;
	if (is_x87(insn))
		return X86_SIMD_X87;
	if (insn->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX)
		return X86_SIMD_AVX512;
	if (insn->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
		return vector ? X86_SIMD_AVX : X86_SIMD_AVX512; /* no vectors: k registers */
	return mmx && !vector ? X86_SIMD_MMX : X86_SIMD_SSE;
}

static bool is_vex(const ZydisDecodedInstruction *insn)
{
	return insn->encoding == ZYDIS_INSTRUCTION_ENCODING_VEX ||
		insn->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX;
}

static void note_memory(struct native *n, const ZydisDecodedInstruction *insn,
	const ZydisDecodedOperand *operands, const ZydisDecodedOperand *mem)
{
	n->mem_size = (u8)(mem->size / 8);
	n->mem_read = mem->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
	n->mem_write = mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	n->element = (u8)(mem->element_size / 8);
	if (insn->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX && insn->avx.mask.reg != ZYDIS_REGISTER_K0 &&
	    insn->avx.mask.reg != ZYDIS_REGISTER_NONE && insn->avx.broadcast.mode == ZYDIS_BROADCAST_MODE_INVALID) {
		bool packed = insn->meta.category == ZYDIS_CATEGORY_COMPRESS ||
			insn->meta.category == ZYDIS_CATEGORY_EXPAND;

		n->mask = packed ? MASK_COMPRESS : MASK_K;
		n->mask_reg = (u8)ZydisRegisterGetId(insn->avx.mask.reg);
		/* Masks select elements of the destination; a narrowing or widening move has
		 * differently sized ones in memory. */
		if (mem->element_count)
			n->element = (u8)(mem->size / 8 / mem->element_count);
	} else if (insn->mnemonic == ZYDIS_MNEMONIC_VMASKMOVPS || insn->mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD ||
		insn->mnemonic == ZYDIS_MNEMONIC_VPMASKMOVD || insn->mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ) {
		n->mask = MASK_VECTOR;
		n->mask_reg = (u8)ZydisRegisterGetId(operands[1].reg.value);
	}
}

static void describe(struct native *n, const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	bool vector = false, mmx = false, k = false;

	for (unsigned i = 0; i < insn->operand_count; i++) {
		const ZydisDecodedOperand *o = &operands[i];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY)
			note_memory(n, insn, operands, o);
		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		ZydisRegisterClass class = ZydisRegisterGetClass(o->reg.value);
		vector |= class == ZYDIS_REGCLASS_XMM || class == ZYDIS_REGCLASS_YMM || class == ZYDIS_REGCLASS_ZMM;
		mmx |= class == ZYDIS_REGCLASS_MMX;
		k |= class == ZYDIS_REGCLASS_MASK;
	}
	mmx |= insn->mnemonic == ZYDIS_MNEMONIC_EMMS;
	bool x87 = is_x87(insn);
	bool mxcsr = insn->mnemonic == ZYDIS_MNEMONIC_LDMXCSR || insn->mnemonic == ZYDIS_MNEMONIC_STMXCSR ||
		insn->mnemonic == ZYDIS_MNEMONIC_VLDMXCSR || insn->mnemonic == ZYDIS_MNEMONIC_VSTMXCSR;
	n->check_simd = vector || mmx || k || x87 || mxcsr;
	n->simd = simd_kind(insn, vector || mxcsr, mmx);
	n->x87 = x87 || mmx;
	n->vex = is_vex(insn);
	const ZydisAccessedFlags *fl = insn->cpu_flags;
	n->flags = fl && (fl->tested | fl->modified | fl->set_0 | fl->set_1 | fl->undefined);
	if (x87)
		n->fop = (u16)((insn->opcode & 7) << 8 | insn->raw.modrm.mod << 6 |
			insn->raw.modrm.reg << 3 | insn->raw.modrm.rm);
}

const struct native *native_get(struct natives *ns, const ZydisDecodedInstruction *insn,
	const ZydisDecodedOperand *operands, bool *unencodable)
{
	u8 key[16];
	unsigned len = stub_encode(insn, operands, ZYDIS_REGISTER_R15, ZYDIS_REGISTER_RSP, key);

	*unencodable = !len;
	if (!len || natives_full(ns))
		return NULL;
	struct native **bucket = &ns->buckets[hash_key(key, len)];
	for (struct native *n = *bucket; n; n = n->next)
		if (n->key_len == len && !memcmp(n->key, key, len))
			return n;

	struct native *n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	memcpy(n->key, key, len);
	n->key_len = (u8)len;
	describe(n, insn, operands);
	if (!stub_generate(ns, n, insn, operands)) {
		free(n);
		*unencodable = true;
		return NULL;
	}
	n->next = *bucket;
	*bucket = n;
	return n;
}

/* ---- handlers ---- */

static int trap_to_fault(struct interp *c, int trap)
{
	struct x86_cpu *cpu = &c->v->x86;

	switch (trap) {
	case X86_UD: return x86_ud(cpu);
	case X86_GP: return x86_gp(cpu, 0);
	case X86_MF: return x86_fault_plain(cpu, X86_MF);
	case X86_XM: return c->s->cr4 & CR4_OSXMMEXCPT ? x86_fault_plain(cpu, X86_XM) : x86_ud(cpu);
	case X86_AC: return x86_fault_code(cpu, X86_AC, 0);
	default: return x86_gp(cpu, 0);
	}
}

static int available(struct interp *c, const struct native *n)
{
	if (n->vex && x86_real_segments(c->s))
		return x86_ud(&c->v->x86);
	return n->check_simd ? x86_check_simd(&c->v->x86, n->simd) : X86_OK;
}

static int run(struct interp *c, const struct native *n, void *mem)
{
	u64 flags = (c->s->rflags & FLAGS_STATUS) | FLAG_ONE | FLAG_IF;
	int trap = native_run(c->natives, n, c->s, mem, &flags);

	if (unlikely(trap >= 0))
		return trap_to_fault(c, trap);
	if (n->flags)
		c->s->rflags = (c->s->rflags & ~FLAGS_STATUS) | (flags & FLAGS_STATUS);
	return X86_OK;
}

/* The last x87 instruction pointers are the guest's, not the stub's (SDM 1 8.1.8). */
static void note_x87(struct interp *c, const struct op *op, const struct native *n, u64 data)
{
	if (!n->x87 || !n->fop)
		return;
	c->s->fpu.fip = c->s->rip;
	c->s->fpu.fop = n->fop;
	if (n->mem_size)
		c->s->fpu.fdp = data;
}

int op_native(struct interp *c, const struct op *op)
{
	const struct native *n = op->aux;

	TRY_OP(available(c, n));
	TRY_OP(run(c, n, NULL));
	note_x87(c, op, n, 0);
	return OP_NEXT;
}

/* Bit i: element i is accessed. */
static u64 active_elements(const struct interp *c, const struct native *n)
{
	unsigned count = n->mem_size / n->element;
	u64 k = 0;

	switch (n->mask) {
	case MASK_NONE:
		return ~0ull;
	case MASK_K:
		return c->s->fpu.k[n->mask_reg];
	case MASK_COMPRESS: {
		u64 all = count == 64 ? ~0ull : BIT64(count) - 1;
		unsigned on = (unsigned)__builtin_popcountll(c->s->fpu.k[n->mask_reg] & all);

		return on == 64 ? ~0ull : BIT64(on) - 1;
	}
	case MASK_VECTOR:
		for (unsigned i = 0; i < count; i++)
			if (c->s->fpu.zmm[n->mask_reg][(i + 1) * n->element - 1] & 0x80)
				k |= BIT64(i);
		return k;
	}
	unreachable();
}

/* Applies `each` to the operand: whole, or by active elements. */
static int for_active(struct interp *c, const struct native *n, u64 at, u8 *buf, u64 active, unsigned access,
	int (*each)(struct mmu *m, u64 at, void *buf, unsigned len, unsigned access))
{
	if (n->mask == MASK_NONE)
		return each(&c->mmu, at, buf, n->mem_size, access);
	for (unsigned off = 0; off < n->mem_size; off += n->element)
		if (active & BIT64(off / n->element))
			TRY(each(&c->mmu, at + off, buf + off, n->element, access));
	return X86_OK;
}

static int each_probe(struct mmu *m, u64 at, void *buf, unsigned len, unsigned access)
{
	return mmu_probe(m, at, len, access);
}
static int each_write(struct mmu *m, u64 at, void *buf, unsigned len, unsigned access)
{
	return mmu_write(m, at, buf, len, access);
}

static int through_bounce(struct interp *c, const struct native *n, u64 at)
{
	u8 area[192] __attribute__((aligned(64)));
	u8 *buf = area + (at & 63); /* same alignment as the guest's operand */
	u64 active = n->mask == MASK_NONE ? ~0ull : active_elements(c, n);

	memset(area, 0, sizeof(area));
	if (n->mem_write)
		TRY(for_active(c, n, at, buf, active, ACCESS_WRITE, each_probe));
	if (n->mem_read)
		TRY(for_active(c, n, at, buf, active, ACCESS_READ, mmu_read));
	TRY(run(c, n, buf));
	return n->mem_write ? for_active(c, n, at, buf, active, ACCESS_WRITE, each_write) : X86_OK;
}

int op_native_mem(struct interp *c, const struct op *op)
{
	const struct native *n = op->aux;
	unsigned size = n->mem_size;
	u64 at;

	TRY_OP(available(c, n));
	if (likely(op->flags & OPF_CODE64)) {
		at = op_linear64(c, op);
		struct mmu_entry *e = mmu_find(&c->mmu, at, size, n->mem_write ? MMU_WRITE : MMU_READ);

		if (likely(e)) {
			TRY_OP(run(c, n, e->host + (at & PAGE_MASK)));
			if (n->mem_write)
				mmu_stored(&c->mmu, e, at, size);
			note_x87(c, op, n, at);
			return OP_NEXT;
		}
	}
	gva_t lin;
	/* A masked access is checked element by element; its first byte stands for the segment check. */
	TRY_OP(x86_linear(&c->v->x86, (enum x86_segreg)op->seg, op_ea(c, op), n->mask ? 1 : size,
		n->mem_write ? ACCESS_WRITE : ACCESS_READ, &lin));
	TRY_OP(through_bounce(c, n, lin.v));
	note_x87(c, op, n, lin.v);
	return OP_NEXT;
}
