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
	pushl	$vector
	jmp	trap_common
	.set vector, vector + 1
	.endr

trap_common:
	push	%ds
	push	%es
	push	%fs
	push	%gs
	pushal
	mov	$KDATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	cld
	mov	%esp, %ebx
	and	$-16, %esp
	sub	$12, %esp
	push	%ebx
	call	trap_dispatch
	mov	%ebx, %esp
	popal
	pop	%gs
	pop	%fs
	pop	%es
	pop	%ds
	add	$8, %esp
	iretl

/* user_call(fn, arg) */
	.globl user_call
user_call:
	mov	4(%esp), %eax
	mov	8(%esp), %ecx
	pushfl
	push	%ebx
	push	%ebp
	push	%esi
	push	%edi
	mov	%esp, user_saved
	mov	%ecx, user_stack + 8192 - 4
	movl	$user_done, user_stack + 8192 - 8
	mov	$UDATA | 3, %edx
	mov	%edx, %ds
	mov	%edx, %es
	pushl	$UDATA | 3
	pushl	$user_stack + 8192 - 8
	pushl	user_flags
	pushl	$UCODE32 | 3
	push	%eax
	iretl
user_done:
	int	$VECTOR_BACK
	.globl user_back
user_back:
	mov	$KDATA, %edx
	mov	%edx, %ds
	mov	%edx, %es
	mov	user_saved, %esp
	pop	%edi
	pop	%esi
	pop	%ebp
	pop	%ebx
	popfl
	ret

	.bss
	.align 4
user_saved:
	.skip 4
	.section .note.GNU-stack, "", @progbits
