/*
 * Control transfers that involve more than RIP (SDM 2, SDM 3A 5.8): far jumps, calls and returns
 * through code segments, call gates, task gates; the fast system calls. On success state.rip and
 * CS are the target. size is the operand size in bytes: 2, 4 or 8.
 */
#pragma once
#include "x86/cpu.h"

/* next_rip, the instruction after: what a task switch saves and a call pushes. */
int x86_jmp_far(struct x86_cpu *cpu, u16 selector, u64 offset, unsigned size, u64 next_rip);
int x86_call_far(struct x86_cpu *cpu, u16 selector, u64 offset, unsigned size, u64 next_rip);
int x86_ret_far(struct x86_cpu *cpu, unsigned size, u16 release);

/* Near transfers only have to check the new RIP: canonical in 64-bit code, within CS's limit else.
 */
int x86_check_rip(struct x86_cpu *cpu, u64 rip);

int x86_syscall(struct x86_cpu *cpu, u64 next_rip);
int x86_sysret(struct x86_cpu *cpu, unsigned size); /* 4 or 8 */
int x86_sysenter(struct x86_cpu *cpu);
int x86_sysexit(struct x86_cpu *cpu, unsigned size);

enum x86_task_source { X86_TASK_JMP, X86_TASK_CALL, X86_TASK_INT, X86_TASK_IRET };
/*
 * 32-bit and 16-bit hardware task switch (SDM 3A 7.3). next_rip is saved in the old TSS. Unlike
 * elsewhere, X86_FAULT may also mean that the switch has happened and the fault belongs to the new
 * task (SDM 3A table 7-1; a debug trap when the TSS asks for one): state.rip is the new task's, and
 * the caller delivers as usual.
 */
int x86_task_switch(struct x86_cpu *cpu, u16 selector, enum x86_task_source source, u64 next_rip,
	bool has_error, u32 error);
