/*
 * Entry of 32- and 64-bit programs: multiboot 1 leaves us in 32-bit protected mode with paging off
 * and no usable GDT (Multiboot 0.6.96, 3.2). 64-bit programs get an identity map of 4 GiB in 2 MiB
 * pages, writable and open to ring 3.
 */
#include "layout.h"

	.section .multiboot, "a"
	.align 4
	.long 0x1badb002, 0, -0x1badb002

	.text
	.code32
	.globl _start
_start:
	cld
	cli
	mov	$boot_stack_top, %esp
	lgdt	gdt_pointer
	ljmp	$KCODE32, $1f
1:	mov	$KDATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %fs
	mov	%eax, %gs
	mov	%eax, %ss
	mov	$0x33, %eax			/* PE MP ET NE */
	mov	%eax, %cr0
	mov	$0x600, %eax			/* OSFXSR OSXMMEXCPT */
	mov	%eax, %cr4
	fninit
#ifdef __x86_64__
	mov	$page_dirs, %edi		/* 2048 entries of 2 MiB: P RW US PS */
	mov	$0x87, %eax
	xor	%ecx, %ecx
2:	mov	%eax, (%edi, %ecx, 8)
	add	$0x200000, %eax
	inc	%ecx
	cmp	$2048, %ecx
	jne	2b
	mov	$page_dirs + 7, %eax
	mov	$page_dir_pointers, %edi
	mov	$4, %ecx
3:	mov	%eax, (%edi)
	add	$0x1000, %eax
	add	$8, %edi
	loop	3b
	movl	$page_dir_pointers + 7, page_root
	mov	$page_root, %eax
	mov	%eax, %cr3
	mov	%cr4, %eax
	or	$0x20, %eax			/* PAE */
	mov	%eax, %cr4
	mov	$0xc0000080, %ecx		/* EFER: LME NXE */
	xor	%edx, %edx
	mov	$0x900, %eax
	wrmsr
	mov	$0x80010033, %eax		/* PG WP */
	mov	%eax, %cr0
	ljmp	$KCODE, $4f
	.code64
4:	xor	%eax, %eax
	mov	%eax, %fs
	mov	%eax, %gs
	mov	$boot_stack_top, %esp
#else
	ljmp	$KCODE, $4f
4:
#endif
	call	guest_main
5:	cli
	hlt
	jmp	5b

	.data
	.align 8
	.globl gdt, gdt_pointer
gdt:	.quad 0
#ifdef __x86_64__
	.quad 0x00af9b000000ffff		/* KCODE: 64-bit */
#else
	.quad 0x00cf9b000000ffff		/* KCODE: 32-bit */
#endif
	.quad 0x00cf93000000ffff		/* KDATA */
	.quad 0x00cffb000000ffff		/* UCODE32 */
	.quad 0x00cff3000000ffff		/* UDATA */
	.quad 0x00affb000000ffff		/* UCODE64 */
	.quad 0x00cff3000000ffff		/* UDATA2 */
	.quad 0x00cf9b000000ffff		/* KCODE32 */
	.quad 0x00009b000000ffff		/* KCODE16 */
	.quad 0x000093000000ffff		/* KDATA16 */
	.fill GDT_SLOTS - 10, 8, 0
gdt_pointer:
	.word GDT_SLOTS * 8 - 1
#ifdef __x86_64__
	.quad gdt
#else
	.long gdt
#endif

	.bss
	.align 4096
#ifdef __x86_64__
	.globl page_root, page_dir_pointers, page_dirs
page_root:
	.skip 4096
page_dir_pointers:
	.skip 4096
page_dirs:
	.skip 4 * 4096
#endif
	.skip 16384
	.globl boot_stack_top
boot_stack_top:
	.section .note.GNU-stack, "", @progbits
