/* One 16-byte stub for each vector, the common entry, and the way into and out of ring 3. */
#include "layout.h"

	.text
	.align 16
	.globl trap_stubs
trap_stubs:
	.set vector, 0
	.rept 256
	.align 16
	.if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
	push	$0				/* vectors without an error code: SDM 3A table 6-1 */
	.endif
	pushq	$vector
	jmp	trap_common
	.set vector, vector + 1
	.endr

trap_common:
	push	%rax
	push	%rcx
	push	%rdx
	push	%rbx
	push	%rbp
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	cld
	mov	%rsp, %rdi
	mov	%rsp, %rbx
	and	$-16, %rsp
	call	trap_dispatch
	mov	%rbx, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rbp
	pop	%rbx
	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

/* user_call(fn, arg) */
	.globl user_call
user_call:
	pushfq
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, user_saved
	movq	$user_done, user_stack + 8192 - 8
	pushq	$UDATA | 3
	pushq	$user_stack + 8192 - 8
	pushq	user_flags
	pushq	$UCODE64 | 3
	push	%rdi
	mov	%rsi, %rdi
	iretq
user_done:
	int	$VECTOR_BACK
	.globl user_back
user_back:
	mov	user_saved, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	popfq
	ret

	.bss
	.align 8
user_saved:
	.skip 8
	.section .note.GNU-stack, "", @progbits
