/*
 * Real-mode entry, and one stub for each of the 256 vectors. C code (-m16) needs DS = ES = SS = 0;
 * a test may interrupt with others, but its stack must lie below 64 KiB.
 */
	.section .entry, "ax"
	.code16
	.globl _start
_start:
	xor	%ax, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %fs
	mov	%ax, %gs
	mov	%ax, %ss
	mov	$0xe000, %esp
	calll	guest_main
1:	cli
	hlt
	jmp	1b

	.text
	.align 8
	.globl trap_stubs
trap_stubs:
	.set vector, 0
	.rept 256
	.align 8
	pushw	$vector
	jmp	trap_common
	.set vector, vector + 1
	.endr

trap_common:
	pushw	%ds
	pushw	%es
	pushal
	mov	%ss, %bx
	movzwl	%bx, %eax
	movzwl	%sp, %ebp
	shl	$4, %eax
	add	%ebp, %eax			/* the frame's linear address */
	xor	%cx, %cx
	mov	%cx, %ds
	mov	%cx, %es
	mov	%cx, %ss
	mov	%eax, %esp
	cld
	mov	%eax, %esi
	and	$-16, %esp
	sub	$12, %esp
	pushl	%esi
	calll	trap_dispatch
	mov	%bx, %ss
	mov	%bp, %sp
	popal
	popw	%es
	popw	%ds
	add	$2, %sp
	iretw
	.section .note.GNU-stack, "", @progbits
