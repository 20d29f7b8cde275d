/*
 * The kvm engine on whatever /dev/kvm this host has; skipped without one. The programs keep to what
 * KVM modules without hardware support execute too. Each is ended by
 * HLT.
 */
#include "kvm_fixture.h"
#include "os/fd.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

/* ---- programs ---- */

static void real_mode_program_runs_and_halts(void **state)
{
	struct machine *m = machine_new();

	/* mov cx,10; xor ax,ax; l: add ax,cx; loop l; mov [0x4000],ax; hlt */
	START(m, real, 0xb9, 10, 0, 0x31, 0xc0, 0x01, 0xc8, 0xe2, 0xfc, 0xa3, 0x00, 0x40, 0xf4);
	run_to(m, CPU_EXIT_HALT);
	assert_int_equal(m->v.x86.s.gpr[RAX], 55);
	assert_int_equal(get_le16(m->ram + DATA), 55);
	assert_int_equal(m->v.x86.s.rip, PROGRAM + 13);
	assert_int_equal(m->v.x86.s.activity, X86_HALTED);
	/* Still halted: nothing woke it. */
	assert_int_equal(kvm_engine.run(&m->v), CPU_EXIT_HALT);
	machine_free(m);
}

static void protected_mode_strings_and_ports(void **state)
{
	struct machine *m = machine_new();

	memcpy(m->ram + DATA, "hello", 5);
	/* cld; mov esi,DATA; mov ecx,5; mov dx,0x3f8; rep outsb; in eax,dx; mov ebx,eax; hlt */
	START(m, protected, 0xfc, 0xbe, 0, 0x40, 0, 0, 0xb9, 5, 0, 0, 0, 0x66, 0xba, 0xf8, 0x03,
		0xf3, 0x6e, 0xed, 0x89, 0xc3, 0xf4);
	run_to(m, CPU_EXIT_HALT);
	assert_int_equal(m->logged, 6);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(m->log[i].at, 0x3f8);
		assert_int_equal(m->log[i].value, "hello"[i]);
	}
	assert_int_equal(m->log[5].size, 4);
	assert_int_equal(m->v.x86.s.gpr[RBX], 0x55667788);
	assert_int_equal(m->v.x86.s.gpr[RCX], 0);
	machine_free(m);
}

static void long_mode_mmio_and_rom(void **state)
{
	struct machine *m = machine_new();

	/* mov esi,MMIO_AT; mov rax,[rsi]; mov [rsi+8],eax; mov edi,ROM_AT; mov bl,[rdi]; mov
	 * [rdi],al; hlt */
	START(m, long, 0xbe, 0, 0, 0, 0xd0, 0x48, 0x8b, 0x06, 0x89, 0x46, 0x08, 0xbf, 0, 0, 0, 0x01,
		0x8a, 0x1f, 0x88, 0x07, 0xf4);
	run_to(m, CPU_EXIT_HALT);
	assert_int_equal(m->v.x86.s.gpr[RAX], 0xa1a2a3a4a5a6a7a8);
	assert_int_equal(m->v.x86.s.gpr[RBX] & 0xff, 0x5c);
	assert_int_equal(m->log[0].size, 8);
	assert_int_equal(m->log[1].at, MMIO_AT + 8);
	assert_int_equal(m->log[1].value, 0xa5a6a7a8);
	assert_int_equal(m->log[2].at, ROM_AT); /* a write to ROM reaches the bus */
	assert_true(m->log[2].write);
	assert_int_equal(m->memory.regions[1].host[0], 0x5c);
	machine_free(m);
}

static void msrs_of_the_apic_and_of_the_table_come_to_us(void **state)
{
	struct machine *m = machine_new();

	/* mov ecx,0x1b; rdmsr; mov ebx,eax; mov ecx,0x6e0; wrmsr; mov ecx,0x80b; wrmsr; hlt */
	START(m, long, 0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x89, 0xc3, 0xb9, 0xe0, 6, 0, 0, 0x0f, 0x30,
		0xb9, 0x0b, 8, 0, 0, 0x0f, 0x30, 0xf4);
	run_to(m, CPU_EXIT_HALT);
	assert_int_equal(m->v.x86.s.gpr[RBX], 0xfee00900);
	assert_int_equal(m->logged, 3);
	assert_int_equal(m->log[1].at, 0x6e0);
	assert_int_equal(m->log[2].at, 0x80b);
	machine_free(m);
}

static u64 told_offset;
static void op_tsc_changed(void *ctx, struct vcpu *v) { told_offset = v->x86.s.tsc_offset; }

static void writes_of_the_counter_come_to_us(void **state)
{
	struct vcpu_ops ops = test_ops;
	struct machine *m = machine_new();
	u64 before = m->v.x86.s.tsc_offset;

	ops.tsc_changed = op_tsc_changed;
	m->v.ops = &ops;
	/* mov ecx,0x3b; mov edx,0x100; xor eax,eax; wrmsr; mov ecx,0x10; mov edx,0x7; wrmsr; hlt */
	START(m, long, 0xb9, 0x3b, 0, 0, 0, 0xba, 0, 1, 0, 0, 0x31, 0xc0, 0x0f, 0x30, 0xb9, 0x10, 0,
		0, 0, 0xba, 7, 0, 0, 0, 0x0f, 0x30, 0xf4);
	enum cpu_exit why = kvm_engine.run(&m->v);
	assert_int_equal(why, CPU_EXIT_HALT);
	/* The counter was 7 << 32 a moment ago, and both registers moved by the same. */
	u64 now = tsc_read() + told_offset;
	assert_in_range(now, 7ull << 32, (7ull << 32) + tsc_hz());
	assert_int_equal(m->v.x86.s.tsc_adjust, told_offset - before);
	machine_free(m);
}

/* ---- state ---- */

static void state_survives_push_and_pull(void **state)
{
	struct machine *m = machine_new();
	struct x86_state *s = &m->v.x86.s;

	enter_long(m);
	for (unsigned i = 0; i < X86_GPRS; i++)
		s->gpr[i] = 0x1111111111111111ull * i;
	s->cr2 = 0x1234;
	s->seg[X86_FS].base = 0xffff888000000000;
	s->seg[X86_LDTR] = (struct x86_seg){ .attr = SEG_UNUSABLE };
	s->seg[X86_TR] = (struct x86_seg){ 0x28, SEG_P | 11, 0x67, 0x9000 };
	s->gdt = (struct x86_table){ 0x2000, 0x7f };
	s->idt = (struct x86_table){ 0x3000, 0xfff };
	s->dr[1] = 0x5000;
	s->dr7 = 0x404;
	s->star = 0x0023001000000000;
	s->lstar = 0xffffffff81000000;
	s->sfmask = 0x47700;
	s->kernel_gs_base = 0xffff888000001000;
	s->sysenter_cs = 0x10;
	s->pat = 0x0407010600070106;
	s->tsc_aux = 3;
	s->mtrr_def_type = 0xc06;
	s->xcr0 = m->model.xcr0_mask;
	s->fpu.fcw = 0x27f;
	s->fpu.mxcsr = 0x1fbf;
	/* What the model does not have is nobody's to move. */
	unsigned count = s->xcr0 & XCR0_HI_ZMM ? 32 : 16;
	size_t width = s->xcr0 & XCR0_AVX512 ? 64 : s->xcr0 & XCR0_AVX ? 32 : 16;
	for (unsigned r = 0; r < count; r++)
		memset(s->fpu.zmm[r], 0x40 + r, width);
	for (unsigned i = 0; i < 8 && (s->xcr0 & XCR0_OPMASK); i++)
		s->fpu.k[i] = i;
	s->blocking = BLOCK_NMI;

	struct x86_state before = *s;
	push_ok(m);
	memset(s->gpr, 0xff, sizeof(s->gpr));
	for (unsigned r = 0; r < count; r++)
		memset(s->fpu.zmm[r], 0xff, width);
	s->lstar = s->pat = s->cr3 = s->dr[1] = 0;
	assert_int_equal(kvm_engine.pull(&m->v), 0);

	assert_memory_equal(s->gpr, before.gpr, sizeof(before.gpr));
	assert_memory_equal(s->fpu.zmm, before.fpu.zmm, sizeof(before.fpu.zmm));
	assert_memory_equal(s->fpu.k, before.fpu.k, sizeof(before.fpu.k));
	assert_int_equal(s->fpu.fcw, before.fpu.fcw);
	assert_int_equal(s->fpu.mxcsr, before.fpu.mxcsr);
	for (unsigned i = 0; i < X86_SEGS; i++) {
		assert_int_equal(s->seg[i].base, before.seg[i].base);
		assert_int_equal(s->seg[i].selector, before.seg[i].selector);
		if (!(before.seg[i].attr & SEG_UNUSABLE))
			assert_int_equal(s->seg[i].attr, before.seg[i].attr);
	}
	assert_int_equal(s->cr0, before.cr0);
	assert_int_equal(s->cr2, before.cr2);
	assert_int_equal(s->cr3, before.cr3);
	assert_int_equal(s->cr4, before.cr4);
	assert_int_equal(s->efer, before.efer);
	assert_int_equal(s->xcr0, before.xcr0);
	assert_int_equal(s->dr[1], before.dr[1]);
	assert_int_equal(s->dr7, before.dr7);
	assert_int_equal(s->star, before.star);
	assert_int_equal(s->lstar, before.lstar);
	assert_int_equal(s->sfmask, before.sfmask);
	assert_int_equal(s->kernel_gs_base, before.kernel_gs_base);
	assert_int_equal(s->pat, before.pat);
	assert_int_equal(s->tsc_aux, before.tsc_aux);
	assert_int_equal(s->mtrr_def_type, before.mtrr_def_type);
	assert_int_equal(s->blocking, before.blocking);
	/* A KVM without hardware below it may have only the host's TSC. Else: within a millisecond.
	 */
	if (s->tsc_offset + tsc_hz() / 1000 > tsc_hz() / 500)
		assert_in_range(
			s->tsc_offset - before.tsc_offset + tsc_hz() / 1000, 0, tsc_hz() / 500);
	machine_free(m);
}

/* ---- events ---- */

static void interrupt_waits_for_if_and_wakes_hlt(void **state)
{
	struct machine *m = machine_new();

	/* nop; sti; hlt; mov al,1; hlt.  Vector 0x20 of the 8086 table: inc bx; iret */
	static const u8 handler[] = { 0x43, 0xcf };
	memcpy(m->ram + 0x2000, handler, sizeof(handler));
	put_le32(m->ram + 4 * 0x20, 0x2000);
	START(m, real, 0x90, 0xfb, 0xf4, 0xb0, 0x01, 0xf4);
	m->interrupt = 0x20;
	vcpu_post(&m->v, ATTN_INTR);
	run_to(m, CPU_EXIT_HALT);
	assert_int_equal(m->interrupt, -1);
	assert_int_equal(m->v.x86.s.gpr[RBX], 1);
	/* The interrupt came either at the first HLT, ending it, or right before it. */
	if (m->v.x86.s.rip == PROGRAM + 3) {
		m->interrupt = 0x20;
		vcpu_post(&m->v, ATTN_INTR);
		run_to(m, CPU_EXIT_HALT);
		assert_int_equal(m->v.x86.s.gpr[RBX], 2);
	}
	assert_int_equal(m->v.x86.s.gpr[RAX] & 0xff, 1);
	assert_int_equal(m->v.x86.s.rip, PROGRAM + 6);
	machine_free(m);
}

static void triple_fault_is_a_shutdown(void **state)
{
	struct machine *m = machine_new();

	enter_protected(m);
	m->v.x86.s.idt.limit = 0;
	START(m, protected, 0x0f, 0x0b); /* ud2 */
	m->v.x86.s.idt.limit = 0;
	push_ok(m);
	assert_int_equal(kvm_engine.run(&m->v), CPU_EXIT_SHUTDOWN);
	assert_int_equal(m->v.x86.s.activity, X86_SHUTDOWN);
	assert_int_equal(kvm_engine.run(&m->v), CPU_EXIT_SHUTDOWN);
	machine_free(m);
}

static void *stop_soon(void *arg)
{
	struct vcpu *v = arg;

	usleep(5000);
	vcpu_post(v, ATTN_STOP);
	return NULL;
}

static void kick_leaves_an_endless_loop(void **state)
{
	struct machine *m = machine_new();
	pthread_t other;

	START(m, long, 0xeb, 0xfe);
	for (unsigned i = 0; i < 10; i++) {
		assert_int_equal(pthread_create(&other, NULL, stop_soon, &m->v), 0);
		run_to(m, CPU_EXIT_KICK);
		pthread_join(other, NULL);
		assert_int_equal(m->v.x86.s.rip, PROGRAM);
	}
	/* A stop posted before run() is not lost either. */
	vcpu_post(&m->v, ATTN_STOP);
	run_to(m, CPU_EXIT_KICK);
	machine_free(m);
}

/* Stopping in the middle of port input: the pulled state is after the instruction, with its result.
 */
static u64 stopping_port_in(void *ctx, struct vcpu *v, u16 port, unsigned size)
{
	atomic_fetch_or(&v->attention, ATTN_STOP);
	return 0x42;
}

static void a_stop_waits_for_the_instruction_to_finish(void **state)
{
	struct vcpu_ops ops = test_ops;
	struct machine *m = machine_new();

	ops.port_in = stopping_port_in;
	m->v.ops = &ops;
	START(m, protected, 0xe4, 0x60, 0xf4); /* in al,0x60; hlt */
	run_to(m, CPU_EXIT_KICK);
	assert_int_equal(m->v.x86.s.gpr[RAX] & 0xff, 0x42);
	assert_int_equal(m->v.x86.s.rip, PROGRAM + 2);
	machine_free(m);
}

static void startup_ipi_starts_a_waiting_processor(void **state)
{
	struct machine *m = machine_new();

	START(m, real, 0xb0, 0x77, 0xf4); /* at vector 1 << 12: mov al,0x77; hlt */
	m->v.x86.s.activity = X86_WAIT_SIPI;
	push_ok(m);
	assert_int_equal(kvm_engine.run(&m->v), CPU_EXIT_WAIT);
	m->v.sipi_vector = 1;
	vcpu_post(&m->v, ATTN_SIPI);
	run_to(m, CPU_EXIT_HALT);
	assert_int_equal(m->v.x86.s.gpr[RAX] & 0xff, 0x77);
	assert_int_equal(m->v.x86.s.seg[X86_CS].selector, 0x100);
	machine_free(m);
}

/* ---- services ---- */

static void dirty_pages_reach_the_flags(void **state)
{
	struct machine *m = machine_new();
	struct err err = { 0 };
	_Atomic u8 *flags = m->memory.regions[0].flags;

	START(m, real, 0xc6, 0x06, 0x00, 0x40, 0x01, 0xf4); /* mov byte [0x4000],1; hlt */
	assert_int_equal(kvm_log_dirty(&m->memory, true, &err), 0);
	flags[DATA >> PAGE_SHIFT] = 0;
	flags[0x6000 >> PAGE_SHIFT] = 0;
	run_to(m, CPU_EXIT_HALT);
	assert_int_equal(kvm_sync_dirty(&m->memory, &err), 0);
	assert_true(flags[DATA >> PAGE_SHIFT] & MEM_DIRTY);
	assert_false(flags[0x6000 >> PAGE_SHIFT] & MEM_DIRTY);
	flags[DATA >> PAGE_SHIFT] = 0;
	assert_int_equal(kvm_sync_dirty(&m->memory, &err), 0);
	assert_false(flags[DATA >> PAGE_SHIFT] & MEM_DIRTY); /* it started over */
	assert_int_equal(kvm_log_dirty(&m->memory, false, &err), 0);
	machine_free(m);
}

static void doorbell_signals_instead_of_exiting(void **state)
{
	struct machine *m = machine_new();
	struct err err = { 0 };
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	struct kvm_doorbell bell = {
		.at = 0x510, .size = 1, .port = true, .match = true, .value = 7, .fd = fd
	};
	u64 count = 0;

	assert_int_equal(kvm_doorbell(&m->memory, &bell, true, &err), 0);
	/* mov dx,0x510; mov al,7; out dx,al; mov al,8; out dx,al; hlt */
	START(m, real, 0xba, 0x10, 0x05, 0xb0, 7, 0xee, 0xb0, 8, 0xee, 0xf4);
	run_to(m, CPU_EXIT_HALT);
	assert_int_equal(read(fd, &count, 8), 8);
	assert_int_equal(count, 1);
	assert_int_equal(m->logged, 1); /* only the value that did not match */
	assert_int_equal(m->log[0].value, 8);
	assert_int_equal(kvm_doorbell(&m->memory, &bell, false, &err), 0);
	/* No in-kernel controller: refused, with the reason. */
	struct kvm_irq_event event = { .fd = fd, .address = 0xfee00000, .data = 0x20 };
	assert_true(kvm_irq_event_add(&m->memory, &event, &err) < 0);
	assert_non_null(strstr(err.text, "user space"));
	close(fd);
	machine_free(m);
}

static void services_refuse_memory_without_a_vm(void **state)
{
	struct memory none;
	struct err err = { 0 };

	memory_init(&none);
	assert_int_equal(kvm_sync_dirty(&none, &err), -ENODEV);
	assert_int_equal(kvm_log_dirty(&none, true, &err), -ENODEV);
}

static void engine_errors_name_the_place(void **state)
{
	struct machine *m = machine_new();

	/* Code outside RAM: KVM cannot fetch it. Hardware and software modules differ in the
	 * reason. */
	enter_long(m);
	m->v.x86.s.rip = MMIO_AT;
	push_ok(m);
	vcpu_post(&m->v, 0);
	enum cpu_exit why = kvm_engine.run(&m->v);
	if (why == CPU_EXIT_ERROR)
		assert_non_null(strstr(m->v.error.text, "RIP 0xd0000000"));
	else
		assert_int_equal(why, CPU_EXIT_SHUTDOWN);
	machine_free(m);
}

static void probe_answers_quickly_and_with_a_reason(void **state)
{
	struct err why = { 0 };
	u64 from = fd_monotonic_ns();
	int ret = kvm_engine.probe(&why);
	u64 ms = (fd_monotonic_ns() - from) / 1000000;

	print_message("probe: %d %s (%llu ms)\n", ret, why.text, (unsigned long long)ms);
	assert_true(!ret || why.text[0]);
	assert_true(ms < 1000); /* a tenth of that on a quiet host */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(real_mode_program_runs_and_halts),
		cmocka_unit_test(protected_mode_strings_and_ports),
		cmocka_unit_test(long_mode_mmio_and_rom),
		cmocka_unit_test(msrs_of_the_apic_and_of_the_table_come_to_us),
		cmocka_unit_test(writes_of_the_counter_come_to_us),
		cmocka_unit_test(state_survives_push_and_pull),
		cmocka_unit_test(interrupt_waits_for_if_and_wakes_hlt),
		cmocka_unit_test(triple_fault_is_a_shutdown),
		cmocka_unit_test(kick_leaves_an_endless_loop),
		cmocka_unit_test(a_stop_waits_for_the_instruction_to_finish),
		cmocka_unit_test(startup_ipi_starts_a_waiting_processor),
		cmocka_unit_test(dirty_pages_reach_the_flags),
		cmocka_unit_test(doorbell_signals_instead_of_exiting),
		cmocka_unit_test(services_refuse_memory_without_a_vm),
		cmocka_unit_test(engine_errors_name_the_place),
		cmocka_unit_test(probe_answers_quickly_and_with_a_reason),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
