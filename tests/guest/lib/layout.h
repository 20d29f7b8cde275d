/* Numbers shared by C and assembly: selectors, vectors and the exit convention. */
#pragma once

/*
 * One order serves SYSCALL/SYSRET (STAR: kernel pair, then user 32 / data / 64) and
 * SYSENTER/SYSEXIT (kernel pair, user 32 pair, user 64 pair): SDM 3A 5.8.7, 5.8.8.
 */
#define KCODE	  0x08 /* the mode the program is built for */
#define KDATA	  0x10
#define UCODE32	  0x18
#define UDATA	  0x20
#define UCODE64	  0x28
#define UDATA2	  0x30
#define KCODE32	  0x38
#define KCODE16	  0x40
#define KDATA16	  0x48
#define TSS_SEL	  0x50 /* 16 bytes in 64-bit programs */
#define FREE0	  0x60 /* from here on a test may put what it wants */
#define GDT_SLOTS 128

#define VECTOR_BACK 0x30 /* leaves ring 3: see user_call() */

#define EXIT_PORT 0xf4
#define EXIT_PASS 0x10
#define EXIT_FAIL 0x11
