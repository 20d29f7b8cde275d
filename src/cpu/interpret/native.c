/* Execution of stubs: see native.h for the model. */
#include "base/log.h"
#include "base/must.h"
#include "cpu/interpret/native_priv.h"
#include "os/chain.h"
#include "x86/xsave.h"
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

/* ---- entering and leaving ---- */

struct frame {
	u64 rsp;      /* at native_enter, after its pushes; offset 0: known to the assembly */
	int trap;     /* host trap number, -1 for none */
	u64 fault_at; /* page fault: host address */
	bool fault_write;
	const struct codemem *mem;
	struct x86_state *s;
	bool x87; /* the stub loaded the x87 state */
};

static __thread struct frame *current;

u64 native_enter(const void *code, struct x86_state *s, void *mem, u64 flags, struct frame *f);
extern const char native_leave[];

/* EFLAGS.AC is on only around the stub: compiled code may access memory at any alignment. */
__asm__(".text\n"
	".globl native_enter, native_leave\n"
	".hidden native_enter, native_leave\n"
	".type native_enter, @function\n"
	"native_enter:\n"
	"	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15; push %rcx\n"
	"	mov %rsp, (%r8)\n"
	"	mov %rdi, %rax\n"
	"	mov %rsi, %rdi\n"
	"	mov %rdx, %rsi\n"
	"	mov %rcx, %rdx\n"
	"	bt $18, %ecx\n"
	"	jnc 1f\n"
	"	push %rcx; popfq\n"
	"1:	call *%rax\n"
	"native_leave:\n"
	"	pop %rcx\n"
	"	bt $18, %ecx\n"
	"	jnc 2f\n"
	"	pushfq; andl $~0x40000, (%rsp); popfq\n"
	"2:	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
	"	ret\n"
	".size native_enter, . - native_enter\n");

static struct sigaction chained[NSIG];

/* Leaves the stub through native_leave with the machine in the state C code expects. */
static void on_trap(int sig, siginfo_t *info, void *context)
{
	/* The kernel leaves AC as it was; below the red zone of whatever the compiler made of this
	 * function. */
	__asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andl $~0x40000, (%%rsp); popfq; lea "
			 "128(%%rsp), %%rsp" ::
				 : "memory", "cc");
	ucontext_t *uc = context;
	greg_t *regs = uc->uc_mcontext.gregs;
	struct frame *f = current;

	if (!f || !codemem_has(f->mem, (const void *)(uintptr_t)regs[REG_RIP]) ||
		chain_is_shortage(sig, info)) {
		chain_signal(&chained[sig], sig, info, context);
		return;
	}
	f->trap = (int)regs[REG_TRAPNO];
	if (f->trap == X86_PF) {
		f->fault_at = (u64)regs[REG_CR2];
		f->fault_write = regs[REG_ERR] & PF_WRITE;
	}
	struct _libc_fpstate *fp = uc->uc_mcontext.fpregs;
	/* An unmasked SIMD exception leaves its flags in MXCSR (SDM 1 11.5.2), and CVTPS2PI has by
	 * then changed the x87 state to MMX use. */
	if (f->trap == X86_XM) {
		f->s->fpu.mxcsr = fp->mxcsr;
		if (f->x87) {
			x86_fpu_set_fsw(&f->s->fpu, fp->swd);
			f->s->fpu.ftw = (u8)fp->ftw;
		}
	}
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

struct native_end native_run(
	struct natives *ns, const struct native *n, struct x86_state *s, void *mem, u64 *flags)
{
	struct frame f = { .trap = -1, .mem = &ns->mem, .s = s, .x87 = n->x87 };

	current = &f;
	u64 out = native_enter(n->code, s, mem, *flags, &f);
	current = NULL;
	if (f.trap < 0)
		*flags = out;
	return (struct native_end){
		.trap = f.trap, .fault_at = f.fault_at, .fault_write = f.fault_write
	};
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
	if (codemem_open(&n->mem, NATIVE_ARENA, NULL, err) < 0) {
		free(n);
		return NULL;
	}
	n->guard = mmap(NULL, 2 * PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (n->guard == MAP_FAILED) {
		err_set(err, -errno, "interpret: mmap: %s", strerror(errno));
		codemem_close(&n->mem);
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
	munmap(n->guard, 2 * PAGE_SIZE);
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

static void note_memory(
	struct native *n, const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *mem)
{
	n->mem_size = (u8)(mem->size / 8);
	n->mem_read = mem->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
	n->mem_write = mem->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	bool masked = insn->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX &&
		      insn->avx.mask.reg != ZYDIS_REGISTER_K0 &&
		      insn->avx.mask.reg != ZYDIS_REGISTER_NONE;
	/* x87 stores write nothing when they raise an unmasked exception, which traps later. */
	n->partial = n->mem_write &&
		     (masked || is_x87(insn) || insn->mnemonic == ZYDIS_MNEMONIC_VMASKMOVPS ||
			     insn->mnemonic == ZYDIS_MNEMONIC_VMASKMOVPD ||
			     insn->mnemonic == ZYDIS_MNEMONIC_VPMASKMOVD ||
			     insn->mnemonic == ZYDIS_MNEMONIC_VPMASKMOVQ);
}

static void describe(
	struct native *n, const ZydisDecodedInstruction *insn, const ZydisDecodedOperand *operands)
{
	bool vector = false, mmx = false, k = false;

	for (unsigned i = 0; i < insn->operand_count; i++) {
		const ZydisDecodedOperand *o = &operands[i];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY)
			note_memory(n, insn, o);
		if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		ZydisRegisterClass class = ZydisRegisterGetClass(o->reg.value);
		vector |= class == ZYDIS_REGCLASS_XMM || class == ZYDIS_REGCLASS_YMM ||
			  class == ZYDIS_REGCLASS_ZMM;
		mmx |= class == ZYDIS_REGCLASS_MMX;
		k |= class == ZYDIS_REGCLASS_MASK;
	}
	mmx |= insn->mnemonic == ZYDIS_MNEMONIC_EMMS;
	bool x87 = is_x87(insn);
	vector |= stub_needs_mxcsr(insn); /* CVTSS2SI r, m and its like name no vector register */
	bool mxcsr = insn->mnemonic == ZYDIS_MNEMONIC_LDMXCSR ||
		     insn->mnemonic == ZYDIS_MNEMONIC_STMXCSR ||
		     insn->mnemonic == ZYDIS_MNEMONIC_VLDMXCSR ||
		     insn->mnemonic == ZYDIS_MNEMONIC_VSTMXCSR;
	n->check_simd = vector || mmx || k || x87 || mxcsr;
	n->simd = simd_kind(insn, vector || mxcsr, mmx);
	n->x87 = x87 || mmx;
	n->vex = is_vex(insn);
	const ZydisAccessedFlags *fl = insn->cpu_flags;
	n->flags = fl && (fl->tested | fl->modified | fl->set_0 | fl->set_1 | fl->undefined);
}

/* BIT(11) and the opcode for FOP; 0 for instructions that leave the x87 pointers alone: the control
 * instructions (SDM 1 8.1.8), and everything that is not x87. */
u16 native_fop(const ZydisDecodedInstruction *insn)
{
	switch (insn->mnemonic) {
	case ZYDIS_MNEMONIC_FNINIT:
	case ZYDIS_MNEMONIC_FNCLEX:
	case ZYDIS_MNEMONIC_FLDCW:
	case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FNSTSW:
	case ZYDIS_MNEMONIC_FENI8087_NOP:
	case ZYDIS_MNEMONIC_FDISI8087_NOP:
	case ZYDIS_MNEMONIC_FSETPM287_NOP: return 0;
	default: break;
	}
	if (!is_x87(insn) || insn->mnemonic == ZYDIS_MNEMONIC_FWAIT)
		return 0;
	return (u16)(BIT(11) | (insn->opcode & 7) << 8 | insn->raw.modrm.mod << 6 |
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
	default:
		/* Memory operands were translated and checked before. */
		must(trap != X86_PF, "a stub left its operand, rip 0x%llx",
			(unsigned long long)c->s->rip);
		return x86_gp(cpu, 0);
	}
}

static int available(struct interp *c, const struct native *n)
{
	if (n->vex && x86_real_segments(c->s))
		return x86_ud(&c->v->x86);
	return n->check_simd ? x86_check_simd(&c->v->x86, n->simd) : X86_OK;
}

static struct native_end run_raw(struct interp *c, const struct native *n, void *mem, bool align)
{
	u64 flags = (c->s->rflags & FLAGS_STATUS) | FLAG_ONE | FLAG_IF | (align ? FLAG_AC : 0);
	/* The stub's FXSAVE stores pointers of its own, or zeros: note_x87() writes the guest's. */
	struct x86_fpu *f = &c->s->fpu;
	u64 fip = f->fip, fdp = f->fdp;
	u16 fop = f->fop;
	struct native_end end = native_run(c->natives, n, c->s, mem, &flags);
	if (n->x87) {
		f->fip = fip;
		f->fdp = fdp;
		f->fop = fop;
	}
	if (end.trap < 0 && n->flags)
		c->s->rflags = (c->s->rflags & ~FLAGS_STATUS) | (flags & FLAGS_STATUS);
	return end;
}

static int run(struct interp *c, const struct native *n, void *mem)
{
	struct native_end end = run_raw(c, n, mem, c->mmu.align);

	return likely(end.trap < 0) ? X86_OK : trap_to_fault(c, end.trap);
}

/* The last x87 instruction pointers are the guest's, not the stub's (SDM 1 8.1.8). op->imm: see
 * native_fop(). */
static void note_x87(struct interp *c, const struct op *op, const struct native *n, u64 ea)
{
	if (!op->imm)
		return;
	c->s->fpu.fip = c->s->rip;
	c->s->fpu.fop = (u16)op->imm & 0x7ff;
	if (n->mem_size)
		c->s->fpu.fdp = ea;
}

int op_native(struct interp *c, const struct op *op)
{
	const struct native *n = op->aux;

	TRY_OP(available(c, n));
	TRY_OP(run(c, n, NULL));
	note_x87(c, op, n, 0);
	return OP_NEXT;
}

/* ---- memory operands the TLB has no entry for ---- */

/* The part of an operand that lies in one page. */
struct piece {
	unsigned offset, len; /* within the operand */
	bool read, write;     /* allowed */
};

static unsigned split(
	struct interp *c, const struct native *n, u64 at, bool mapped, struct piece piece[2])
{
	unsigned first = (unsigned)min_u64(n->mem_size, PAGE_SIZE - (at & PAGE_MASK));
	unsigned count = first < n->mem_size ? 2 : 1;

	piece[0] = (struct piece){ .len = first };
	piece[1] = (struct piece){ .offset = first, .len = n->mem_size - first };
	for (unsigned i = 0; i < count && mapped; i++) {
		u64 from = at + piece[i].offset;

		piece[i].read = mmu_probe(&c->mmu, from, 1, ACCESS_READ) == X86_OK;
		piece[i].write = piece[i].read && n->mem_write &&
				 mmu_probe(&c->mmu, from, 1, ACCESS_WRITE) == X86_OK;
	}
	return count;
}

static bool all_allowed(const struct native *n, const struct piece *p, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!(n->mem_write ? p[i].write : p[i].read))
			return false;
	return true;
}

/* Every byte may be accessed: through a buffer with the guest's alignment. */
static int through_bounce(struct interp *c, const struct native *n, u64 at)
{
	u8 area[192] __attribute__((aligned(64)));
	u8 *buf = area + (at & 63);

	memset(area, 0, sizeof(area));
	if (n->mem_read || n->partial)
		TRY(mmu_read(&c->mmu, at, buf, n->mem_size, ACCESS_READ));
	TRY(run(c, n, buf));
	return n->mem_write ? mmu_write(&c->mmu, at, buf, n->mem_size, ACCESS_WRITE) : X86_OK;
}

/* Most guests' faults find it as the last one has left it. */
static void guard_protect(struct natives *n, unsigned page, int prot)
{
	if (n->guard_prot[page] == prot)
		return;
	must(!mprotect(n->guard + page * PAGE_SIZE, PAGE_SIZE, prot), "mprotect: %s",
		strerror(errno));
	n->guard_prot[page] = prot;
}

/* Which exception comes first, which bytes a masked access touches and what CR2 says is for the
 * processor to decide. */
static int guard_fault(
	struct interp *c, const struct native *n, struct native_end end, u64 at, bool mapped)
{
	const u8 *buf = c->natives->guard + (at & PAGE_MASK);

	if (end.trap != X86_PF)
		return trap_to_fault(c, end.trap);
	u64 offset = end.fault_at - (u64)(uintptr_t)buf;
	if (!mapped) /* the segment or canonical fault that x86_linear() prepared */
		return X86_FAULT;
	if (offset < n->mem_size && mmu_probe(&c->mmu, at + offset, 1,
					    end.fault_write ? ACCESS_WRITE : ACCESS_READ) != X86_OK)
		return X86_FAULT;
	return x86_gp(&c->v->x86, 0);
}

/*
 * Some byte may not be accessed: the instruction runs on two host pages that are protected like the
 * guest's, at the same offset. It may complete, if its mask spares these bytes. `mapped` false: the
 * address itself is bad, and c->v->x86.fault says how.
 */
static int through_guard(struct interp *c, const struct native *n, u64 at, bool mapped,
	const struct piece *p, unsigned count)
{
	struct x86_fault address_fault = c->v->x86.fault;
	u8 *buf = c->natives->guard + (at & PAGE_MASK);

	for (unsigned i = 0; i < count; i++) {
		bool reads = p[i].read && (n->mem_read || n->partial);

		if (reads || p[i].write) {
			guard_protect(c->natives, i, PROT_READ | PROT_WRITE);
			TRY(mmu_read(&c->mmu, at + p[i].offset, buf + p[i].offset, p[i].len,
				ACCESS_READ));
		}
		guard_protect(c->natives, i,
			p[i].write ? PROT_READ | PROT_WRITE
			: reads	   ? PROT_READ
				   : PROT_NONE);
	}
	c->v->x86.fault = address_fault;
	/* a bad address faults before its alignment is looked at */
	struct native_end end = run_raw(c, n, buf, mapped && c->mmu.align);
	if (end.trap >= 0)
		return guard_fault(c, n, end, at, mapped);
	for (unsigned i = 0; i < count; i++)
		if (p[i].write)
			TRY(mmu_write(&c->mmu, at + p[i].offset, buf + p[i].offset, p[i].len,
				ACCESS_WRITE));
	return X86_OK;
}

static int run_slow(struct interp *c, const struct native *n, const struct op *op, u64 *at)
{
	struct x86_cpu *cpu = &c->v->x86;
	struct piece piece[2];
	gva_t lin;
	bool mapped = x86_linear(cpu, (enum x86_segreg)op->seg, op_ea(c, op), n->mem_size,
			      n->mem_write ? ACCESS_WRITE : ACCESS_READ, &lin) == X86_OK;
	struct x86_fault address_fault = cpu->fault;

	*at = mapped ? lin.v : op_ea(c, op) + c->s->seg[op->seg].base;
	unsigned count = split(c, n, *at, mapped, piece);
	if (mapped && all_allowed(n, piece, count))
		return through_bounce(c, n, *at);
	if (!mapped)
		cpu->fault = address_fault;
	return through_guard(c, n, *at, mapped, piece, count);
}

int op_native_mem(struct interp *c, const struct op *op)
{
	const struct native *n = op->aux;
	unsigned size = n->mem_size;
	u64 at;

	TRY_OP(available(c, n));
	if (likely(op->flags & OPF_CODE64)) {
		at = op_linear64(c, op);
		struct mmu_entry *e =
			mmu_find(&c->mmu, at, size, n->mem_write ? MMU_WRITE : MMU_READ);

		if (likely(e)) {
			TRY_OP(run(c, n, e->host + (at & PAGE_MASK)));
			if (n->mem_write)
				mmu_stored(&c->mmu, e, at, size);
			note_x87(c, op, n, op_ea(c, op));
			return OP_NEXT;
		}
	}
	TRY_OP(run_slow(c, n, op, &at));
	note_x87(c, op, n, op_ea(c, op));
	return OP_NEXT;
}

bool native_uses_x87(const struct native *n) { return n->x87; }
bool native_uses_vectors(const struct native *n) { return n->check_simd; }

bool native_notes_x87(const struct op *op)
{
	return (op->exec == op_native || op->exec == op_native_mem) && op->imm;
}
