/* 64-bit call gates, far returns to ring 3, and their checks (SDM 3A 5.8.5-5.8.6). */
#include "guest.h"

static struct {
	u32 offset;
	u16 selector;
} __attribute__((packed)) target;
ulong gate_rsp, gate_cs, gate_arg;

__asm__(".globl gate_entry\ngate_entry:\n\tmov %rsp, gate_rsp\n\t"
	"mov %cs, gate_cs\n\tmov %rax, gate_arg\n\tlretq\n");
extern char gate_entry[];

static void put_gate(unsigned slot, u16 selector, void *entry, u8 access)
{
	gdt[slot] = gate(selector, (ulong)entry, access, 0);
	gdt[slot + 1] = (ulong)entry >> 32;
}

#define SLOT (FREE0 / 8)

static void same_ring(void)
{
	put_gate(SLOT, KCODE, gate_entry, 0x8c);
	target.selector = FREE0;
	target.offset = 0xdeadbeef; /* ignored */
	ulong sp;
	__asm__ volatile("mov %%rsp, %0\n\tlcall *%1"
			 : "=&r"(sp)
			 : "m"(target), "a"(7ul)
			 : "memory");
	CHECK_EQ(gate_arg, 7);
	CHECK_EQ(gate_rsp, sp - 16); /* CS and RIP, 8 bytes each */
}

static ulong call_inner(ulong arg)
{
	ulong before, after, ss;

	__asm__ volatile("mov %%rsp, %0\n\tlcall *%3\n\tmov %%rsp, %1\n\tmov %%ss, %2"
			 : "=&r"(before), "=&r"(after), "=r"(ss)
			 : "m"(target), "a"(arg)
			 : "memory");
	return before == after ? ss : 0;
}

static void to_inner(void)
{
	put_gate(SLOT, KCODE, gate_entry, 0xec);
	target.selector = FREE0 | 3;
	CHECK_EQ(user_call(call_inner, 9), UDATA | 3);
	CHECK_EQ(gate_arg, 9);
	CHECK_EQ(gate_cs & 0xffff, KCODE);
	CHECK_EQ(gate_rsp, ring0_stack + sizeof ring0_stack - 32); /* SS RSP CS RIP */
}

static ulong refused(ulong error)
{
	EXPECT(V_GP, (u32)error, "lcall *%0", : : "m"(target));
	return 0;
}

static void errors(void)
{
	/* gate DPL below CPL */
	put_gate(SLOT, KCODE, gate_entry, 0x8c);
	target.selector = FREE0 | 3;
	user_call(refused, FREE0);
	/* gate not present */
	put_gate(SLOT, KCODE, gate_entry, 0x6c);
	target.selector = FREE0;
	EXPECT(V_NP, FREE0, "lcall *%0", : : "m"(target));
	/* target: null, data, 32-bit code */
	put_gate(SLOT, 0, gate_entry, 0x8c);
	EXPECT(V_GP, 0, "lcall *%0", : : "m"(target));
	put_gate(SLOT, KDATA, gate_entry, 0x8c);
	EXPECT(V_GP, KDATA, "lcall *%0", : : "m"(target));
	put_gate(SLOT, KCODE32, gate_entry, 0x8c);
	EXPECT(V_GP, KCODE32, "lcall *%0", : : "m"(target));
	/* the second half's type field must be zero */
	put_gate(SLOT, KCODE, gate_entry, 0x8c);
	gdt[SLOT + 1] |= 1ull << 40;
	EXPECT(V_GP, FREE0, "lcall *%0", : : "m"(target));
	/* beyond the table, and null */
	target.selector = 0xfff8;
	EXPECT(V_GP, 0xfff8, "lcall *%0", : : "m"(target));
	target.selector = 0;
	EXPECT(V_GP, 0, "lcall *%0", : : "m"(target));
	/* a TSS cannot be called in long mode */
	target.selector = TSS_SEL;
	EXPECT(V_GP, TSS_SEL, "lcall *%0", : : "m"(target));
}

static void jump(void)
{
	/* JMP through a gate stays in the ring. */
	extern char gate_jump_target[];

	put_gate(SLOT, KCODE, gate_jump_target, 0x8c);
	target.selector = FREE0;
	__asm__ volatile(
		"ljmp *%0\n\tud2\n\t.globl gate_jump_target\ngate_jump_target:" ::"m"(target)
		: "memory");
}

const struct test tests[] = {
	{ "same ring", same_ring, CHEAP },
	{ "to the inner ring and back", to_inner, CHEAP },
	{ "refusals", errors, CHEAP },
	{ "jump", jump, CHEAP },
	{ 0 },
};
