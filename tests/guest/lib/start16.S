/*
 * Carries a real-mode program: copies the image (linked at 0x1000, see real.ld) to low memory and
 * drops to real mode (SDM 3A 9.9.2) with CS = DS = ES = SS = 0.
 */
	.section .multiboot, "a"
	.align 4
	.long 0x1badb002, 0, -0x1badb002

	.text
	.code32
	.globl _start
_start:
	cli
	cld
	mov	$image, %esi
	mov	$0x1000, %edi
	mov	$image_end - image, %ecx
	rep movsb
	lgdt	gdt_pointer
	ljmp	$8, $in_low_memory - image + 0x1000

	.section .rodata
gdt:	.quad 0
	.quad 0x00009b000000ffff		/* 16-bit code */
	.quad 0x000093000000ffff		/* 16-bit data */
gdt_pointer:
	.word 23
	.long gdt
image:
	.incbin IMAGE
	.align 16
	.code16
in_low_memory:
	mov	$16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %fs
	mov	%ax, %gs
	mov	%ax, %ss
	lidtw	%cs:idt_pointer - image + 0x1000
	mov	$0x30, %eax			/* ET NE; PE clear */
	mov	%eax, %cr0
	ljmp	$0, $0x1000
idt_pointer:
	.word 0x3ff
	.long 0
image_end:
	.section .note.GNU-stack, "", @progbits
