/*
 * The table. Faults are those of SDM 2, "64-Bit Mode Exceptions", at CPL 3 with IOPL 0, no I/O
 * bitmap, and CR4.TSD, CR4.PCE and CR4.UMIP clear. What is not here is innocuous: it works on
 * registers and memory only, and paging already keeps the latter apart.
 */
#include "x86/sensitivity.h"
#include "base/bits.h"
#include "x86/state.h"

#define PRIV	X86_TRAIT_PRIVILEGED
#define CONTROL X86_TRAIT_CONTROL
#define BEHAVE	X86_TRAIT_BEHAVIOUR
#define CLASSIC X86_TRAIT_CLASSIC
#define UMIP	X86_TRAIT_UMIP
#define INLINE	X86_TRAIT_INLINE
#define EXIT	X86_TRAIT_EXIT
#define ABSENT	X86_TRAIT_ABSENT

#define CODE(...) { __VA_ARGS__ }, sizeof((u8[]){ __VA_ARGS__ })
#define NONE	  X86_NO_FAULT

/* clang-format off */
const struct x86_sensitive x86_sensitives[] = {
	/* ---- privileged ---- */
	{ "HLT",           CODE(0xf4),                   X86_GP, PRIV | CONTROL | EXIT, "stops the processor", "cpu/interpret/system.c" },
	{ "CLI",           CODE(0xfa),                   X86_GP, PRIV | CONTROL | INLINE, "closes the machine to interrupts", "x86/control_flags.c" },
	{ "STI",           CODE(0xfb),                   X86_GP, PRIV | CONTROL | INLINE, "opens the machine to interrupts", "x86/control_flags.c" },
	{ "IN",            CODE(0xec),                   X86_GP, PRIV | CONTROL | BEHAVE | EXIT, "talks to a device", "cpu/interpret/system.c" },
	{ "OUT",           CODE(0xee),                   X86_GP, PRIV | CONTROL | EXIT, "talks to a device", "cpu/interpret/system.c" },
	{ "INS",           CODE(0x6c),                   X86_GP, PRIV | CONTROL | BEHAVE | EXIT, "talks to a device", "cpu/interpret/string.c" },
	{ "OUTS",          CODE(0x6e),                   X86_GP, PRIV | CONTROL | EXIT, "talks to a device", "cpu/interpret/string.c" },
	{ "MOV from CR",   CODE(0x0f, 0x20, 0xd8),       X86_GP, PRIV | BEHAVE, "tells mode and page tables", "x86/control.c" },
	{ "MOV to CR",     CODE(0x0f, 0x22, 0xd8),       X86_GP, PRIV | CONTROL | EXIT, "sets mode and page tables", "x86/control.c" },
	{ "MOV from DR",   CODE(0x0f, 0x21, 0xc0),       X86_GP, PRIV | BEHAVE | EXIT, "tells breakpoints", "x86/control_debug.c" },
	{ "MOV to DR",     CODE(0x0f, 0x23, 0xc0),       X86_GP, PRIV | CONTROL | EXIT, "sets breakpoints", "x86/control_debug.c" },
	{ "CLTS",          CODE(0x0f, 0x06),             X86_GP, PRIV | CONTROL, "changes CR0.TS", "x86/control.c" },
	{ "LMSW",          CODE(0x0f, 0x01, 0xf0),       X86_GP, PRIV | CONTROL | EXIT, "changes CR0", "x86/control.c" },
	{ "LGDT",          CODE(0x0f, 0x01, 0x13),       X86_GP, PRIV | CONTROL, "replaces the segment table", "cpu/interpret/system.c" },
	{ "LIDT",          CODE(0x0f, 0x01, 0x1b),       X86_GP, PRIV | CONTROL, "replaces the interrupt table", "cpu/interpret/system.c" },
	{ "LLDT",          CODE(0x0f, 0x00, 0xd0),       X86_GP, PRIV | CONTROL, "replaces the local segment table", "x86/segment.c" },
	{ "LTR",           CODE(0x0f, 0x00, 0xd8),       X86_GP, PRIV | CONTROL, "replaces the task state", "x86/segment.c" },
	{ "INVLPG",        CODE(0x0f, 0x01, 0x3b),       X86_GP, PRIV | CONTROL, "forgets translations", "x86/control.c" },
	{ "INVPCID",       CODE(0x66, 0x0f, 0x38, 0x82, 0x03), X86_GP, PRIV | CONTROL, "forgets translations", "x86/control.c" },
	{ "INVD",          CODE(0x0f, 0x08),             X86_GP, PRIV | CONTROL | EXIT, "empties caches", "cpu/interpret/system.c" },
	{ "WBINVD",        CODE(0x0f, 0x09),             X86_GP, PRIV | CONTROL | EXIT, "empties caches", "cpu/interpret/system.c" },
	{ "RDMSR",         CODE(0x0f, 0x32),             X86_GP, PRIV | BEHAVE | EXIT, "tells how the processor is set up", "x86/msr.c" },
	{ "WRMSR",         CODE(0x0f, 0x30),             X86_GP, PRIV | CONTROL | EXIT, "sets the processor up", "x86/msr.c" },
	{ "RDPMC",         CODE(0x0f, 0x33),             X86_GP, PRIV | BEHAVE | EXIT, "tells what else ran; free to all with CR4.PCE", "cpu/interpret/system.c" },
	{ "SWAPGS",        CODE(0x0f, 0x01, 0xf8),       X86_GP, PRIV | CONTROL | INLINE, "exchanges the GS base with the kernel's", "cpu/interpret/system.c" },
	{ "SYSRET",        CODE(0x48, 0x0f, 0x07),       X86_GP, PRIV | CONTROL, "leaves the kernel", "x86/syscall.c" },
	{ "SYSEXIT",       CODE(0x0f, 0x35),             X86_GP, PRIV | CONTROL, "leaves the kernel", "x86/syscall.c" },
	{ "XSETBV",        CODE(0x0f, 0x01, 0xd1),       X86_GP, PRIV | CONTROL | EXIT, "decides which vector state exists", "x86/control.c" },
	{ "XSAVES",        CODE(0x0f, 0xc7, 0x2b),       X86_GP, PRIV | BEHAVE, "stores supervisor state", "x86/xsave.c" },
	{ "XRSTORS",       CODE(0x0f, 0xc7, 0x1b),       X86_GP, PRIV | CONTROL, "loads supervisor state", "x86/xsave.c" },
	{ "STAC",          CODE(0x0f, 0x01, 0xcb),       X86_UD, PRIV | CONTROL, "opens user pages to the kernel", "cpu/interpret/system.c" },
	{ "CLAC",          CODE(0x0f, 0x01, 0xca),       X86_UD, PRIV | CONTROL, "closes user pages to the kernel", "cpu/interpret/system.c" },
	{ "RSM",           CODE(0x0f, 0xaa),             X86_UD, PRIV | CONTROL | ABSENT | EXIT, "leaves system management mode", "cpu/interpret/rules.c" },
	{ "MONITOR",       CODE(0x0f, 0x01, 0xc8),       X86_UD, PRIV | BEHAVE | ABSENT | EXIT, "watches memory for MWAIT", "cpu/interpret/rules.c" },
	{ "MWAIT",         CODE(0x0f, 0x01, 0xc9),       X86_UD, PRIV | CONTROL | ABSENT | EXIT, "stops the processor", "cpu/interpret/rules.c" },

	/* ---- control-sensitive and not privileged ---- */
	{ "POPF",          CODE(0x9d),                   NONE, CONTROL | BEHAVE | CLASSIC, "leaves IF and IOPL alone, silently", "x86/control_flags.c" },
	{ "POP seg",       CODE(0x0f, 0xa1),             NONE, CONTROL | BEHAVE | CLASSIC, "loads a descriptor; legal ones depend on the level", "x86/segment.c" },
	{ "MOV to seg",    CODE(0x8e, 0xd8),             NONE, CONTROL | BEHAVE | CLASSIC, "loads a descriptor; legal ones depend on the level", "x86/segment.c" },
	{ "LFS, LGS, LSS", CODE(0x0f, 0xb4, 0x03),       NONE, CONTROL | BEHAVE, "load a descriptor; legal ones depend on the level", "x86/segment.c" },
	{ "CALL far",      CODE(0xff, 0x1b),             NONE, CONTROL | BEHAVE | CLASSIC, "loads CS, maybe another level and stack", "x86/transfer.c" },
	{ "JMP far",       CODE(0xff, 0x2b),             NONE, CONTROL | BEHAVE | CLASSIC, "loads CS, or switches tasks", "x86/transfer.c" },
	{ "RET far",       CODE(0x48, 0xcb),             NONE, CONTROL | BEHAVE | CLASSIC, "loads CS, maybe another level and stack", "x86/transfer.c" },
	{ "IRET",          CODE(0x48, 0xcf),             NONE, CONTROL | BEHAVE, "leaves IF and IOPL alone, silently", "x86/iret.c" },
	{ "INT n",         CODE(0xcd, 0x03),             NONE, CONTROL | BEHAVE | CLASSIC, "goes through the interrupt table", "x86/exception.c" },
	{ "SYSCALL",       CODE(0x0f, 0x05),             NONE, CONTROL, "enters whatever kernel the MSRs name", "x86/syscall.c" },

	/* ---- behaviour-sensitive and not privileged ---- */
	{ "PUSHF",         CODE(0x9c),                   NONE, BEHAVE | CLASSIC | INLINE, "tells the real IF and IOPL", "x86/control_flags.c" },
	{ "SGDT",          CODE(0x0f, 0x01, 0x03),       NONE, BEHAVE | CLASSIC | UMIP, "tells the real segment table", "cpu/interpret/system.c" },
	{ "SIDT",          CODE(0x0f, 0x01, 0x0b),       NONE, BEHAVE | CLASSIC | UMIP, "tells the real interrupt table", "cpu/interpret/system.c" },
	{ "SLDT",          CODE(0x0f, 0x00, 0xc0),       NONE, BEHAVE | CLASSIC | UMIP, "tells the real LDT", "cpu/interpret/system.c" },
	{ "STR",           CODE(0x0f, 0x00, 0xc8),       NONE, BEHAVE | CLASSIC | UMIP, "tells the real task register", "cpu/interpret/system.c" },
	{ "SMSW",          CODE(0x0f, 0x01, 0xe0),       NONE, BEHAVE | CLASSIC | UMIP, "tells the real CR0", "cpu/interpret/system.c" },
	{ "LAR",           CODE(0x0f, 0x02, 0xc8),       NONE, BEHAVE | CLASSIC, "reads a descriptor as the level allows", "x86/descriptor.c" },
	{ "LSL",           CODE(0x0f, 0x03, 0xc8),       NONE, BEHAVE | CLASSIC, "reads a descriptor as the level allows", "x86/descriptor.c" },
	{ "VERR",          CODE(0x0f, 0x00, 0xe0),       NONE, BEHAVE | CLASSIC, "reads a descriptor as the level allows", "x86/descriptor.c" },
	{ "VERW",          CODE(0x0f, 0x00, 0xe8),       NONE, BEHAVE | CLASSIC, "reads a descriptor as the level allows", "x86/descriptor.c" },
	{ "PUSH seg",      CODE(0x0f, 0xa0),             NONE, BEHAVE | CLASSIC, "tells the selector, and with it the real level", "cpu/interpret/system.c" },
	{ "MOV from seg",  CODE(0x8c, 0xc8),             NONE, BEHAVE | CLASSIC | INLINE, "tells the selector, and with it the real level", "cpu/interpret/system.c" },
	{ "CPUID",         CODE(0x0f, 0xa2),             NONE, BEHAVE | EXIT, "tells the real processor", "x86/cpuid.c" },
	{ "RDTSC",         CODE(0x0f, 0x31),             NONE, BEHAVE | INLINE, "tells the real time; #GP with CR4.TSD", "x86/control_checks.c" },
	{ "RDTSCP",        CODE(0x0f, 0x01, 0xf9),       NONE, BEHAVE | INLINE, "tells the real time and processor; #GP with CR4.TSD", "x86/control_checks.c" },
	{ "RDPID",         CODE(0xf3, 0x0f, 0xc7, 0xf8), NONE, BEHAVE, "tells the real processor's number", "cpu/interpret/system.c" },
	{ "XGETBV",        CODE(0x0f, 0x01, 0xd0),       NONE, BEHAVE, "tells the real XCR0", "cpu/interpret/system.c" },
};
/* clang-format on */

const unsigned x86_sensitives_count = ARRAY_LEN(x86_sensitives);

enum x86_sensitivity x86_sensitivity_of(const struct x86_sensitive *i)
{
	if (i->traits & X86_TRAIT_PRIVILEGED)
		return X86_PRIVILEGED;
	return i->traits & X86_TRAIT_CONTROL ? X86_CONTROL_SENSITIVE : X86_BEHAVIOUR_SENSITIVE;
}

const char *x86_sensitivity_name(enum x86_sensitivity class)
{
	static const char *const names[] = {
		[X86_PRIVILEGED] = "privileged",
		[X86_CONTROL_SENSITIVE] = "control-sensitive",
		[X86_BEHAVIOUR_SENSITIVE] = "behaviour-sensitive",
	};
	_Static_assert(ARRAY_LEN(names) == X86_SENSITIVITIES, "a name for each class");

	return names[class];
}

bool x86_sensitivity_violates(const struct x86_sensitive *i)
{
	return !(i->traits & X86_TRAIT_PRIVILEGED);
}
