/* 32-bit call gates: same and inner ring, parameters, far returns, refusals (SDM 3A 5.8.3-5.8.6).
 */
#include "guest.h"

#define SLOT (FREE0 / 8)

ulong gate_esp, gate_words[8];
extern char gate_entry[], gate_entry_two[], conforming_entry[];
__asm__(".globl gate_entry\ngate_entry:\n\tmov %esp, gate_esp\n\tlret\n"
	/* two parameters: they lie above the return address and are released on both stacks */
	"gate_entry_two:\n\tmov %esp, gate_esp\n\tmov 8(%esp), %eax\n\t"
	"mov %eax, gate_words\n\tmov 12(%esp), %eax\n\t"
	"mov %eax, gate_words + 4\n\tmov 16(%esp), %eax\n\t"
	"mov %eax, gate_words + 8\n\tmov 20(%esp), %eax\n\t"
	"mov %eax, gate_words + 12\n\tlret $8\nconforming_entry:\n\t"
	"mov %cs, %eax\n\tlret\n");

static struct {
	u32 offset;
	u16 selector;
} __attribute__((packed)) target = { 0xdeadbeef, FREE0 | 3 };

static void same_ring(void)
{
	ulong sp;

	gdt[SLOT] = gate(KCODE, (ulong)gate_entry, 0x8c, 0);
	target.selector = FREE0;
	__asm__ volatile("mov %%esp, %0\n\tlcall *%1" : "=&r"(sp) : "m"(target) : "memory");
	CHECK_EQ(gate_esp, sp - 8);
}

static ulong call_two(ulong unused)
{
	ulong before, after;

	__asm__ volatile("mov %%esp, %0\n\tpush $0x1111\n\tpush $0x2222\n\tlcall *%2\n\t"
			 "mov %%esp, %1\n\tmov %0, %%esp"
			 : "=&r"(before), "=&r"(after)
			 : "m"(target)
			 : "eax", "memory");
	return before - after;
}

static void inner_with_parameters(void)
{
	gdt[SLOT] = gate(KCODE, (ulong)gate_entry_two, 0xec, 2);
	target.selector = FREE0 | 3;
	CHECK_EQ(user_call(call_two, 0), 0);
	CHECK_EQ(gate_words[0], 0x2222);
	CHECK_EQ(gate_words[1], 0x1111);
	CHECK_EQ(gate_words[3], UDATA | 3);
	/* EIP CS two parameters ESP SS */
	CHECK_EQ(gate_esp, (ulong)ring0_stack + sizeof ring0_stack - 24);
}

static void saved_stack(void)
{
	/* The outer ESP in the inner frame points at the parameters there. */
	gdt[SLOT] = gate(KCODE, (ulong)gate_entry_two, 0xec, 2);
	target.selector = FREE0 | 3;
	user_call(call_two, 0);
	CHECK(gate_words[2] > (ulong)user_stack &&
		gate_words[2] < (ulong)user_stack + sizeof user_stack);
	CHECK_EQ(*(u32 *)gate_words[2], 0x2222);
}

static void conforming(void)
{
	/* To a conforming segment there is no change of ring nor of stack. */
	ulong seen;

	gdt[SLOT + 1] = descriptor(0, 0xfffff, 0x9f, 0xc);
	gdt[SLOT] = gate(FREE0 + 8, (ulong)conforming_entry, 0xec, 0);
	target.selector = FREE0;
	__asm__ volatile("lcall *%1" : "=a"(seen) : "m"(target) : "memory");
	CHECK_EQ(seen & 0xffff, FREE0 + 8);
}

static ulong refused(ulong error)
{
	EXPECT(V_GP, error, "lcall *%0", : : "m"(target));
	return 0;
}

static void refusals(void)
{
	gdt[SLOT] = gate(KCODE, (ulong)gate_entry, 0x8c, 0);
	target.selector = FREE0 | 3;
	user_call(refused, FREE0); /* DPL 0 */
	target.selector = FREE0;
	gdt[SLOT] = gate(KCODE, (ulong)gate_entry, 0x0c, 0);
	EXPECT(V_NP, FREE0, "lcall *%0", : : "m"(target));
	gdt[SLOT] = gate(0, (ulong)gate_entry, 0x8c, 0);
	EXPECT(V_GP, 0, "lcall *%0", : : "m"(target));
	gdt[SLOT] = gate(KDATA, (ulong)gate_entry, 0x8c, 0);
	EXPECT(V_GP, KDATA, "lcall *%0", : : "m"(target));
	gdt[SLOT + 1] = descriptor(0, 0xfffff, 0x1b, 0xc);
	gdt[SLOT] = gate(FREE0 + 8, (ulong)gate_entry, 0x8c, 0);
	EXPECT(V_NP, FREE0 + 8, "lcall *%0", : : "m"(target));
	target.selector = 0;
	EXPECT(V_GP, 0, "lcall *%0", : : "m"(target));
	target.selector = 0xfff8;
	EXPECT(V_GP, 0xfff8, "lcall *%0", : : "m"(target));
	target.selector = KDATA;
	EXPECT(V_GP, KDATA, "lcall *%0", : : "m"(target));
	target.selector = UCODE32; /* nonconforming code of another ring */
	EXPECT(V_GP, UCODE32, "lcall *%0", : : "m"(target));
}

static ulong bad_stack(ulong error)
{
	EXPECT(V_TS, error, "lcall *%0", : : "m"(target));
	return 0;
}

static void inner_stack_refused(void)
{
	/* The stack that the TSS names is checked: #TS with its selector. */
	target.selector = FREE0 | 3;
	/* The trap itself uses ring 0's stack too, so the gate leads to ring 1 and its bad SS1. */
	gdt[SLOT + 1] = descriptor(0, 0xfffff, 0xbb, 0xc);
	gdt[SLOT] = gate(FREE0 + 8, (ulong)gate_entry, 0xec, 0);
	tss.ss1 = KDATA | 1;
	tss.esp1 = (u32)ring0_stack + 2048;
	user_call(bad_stack, KDATA);
	tss.ss1 = 0;
	user_call(bad_stack, 0);
}

const struct test tests[] = {
	{ "same ring", same_ring, CHEAP },
	{ "parameters", inner_with_parameters, CHEAP },
	{ "saved stack", saved_stack, CHEAP },
	{ "conforming", conforming, CHEAP },
	{ "refusals", refusals, CHEAP },
	{ "inner stack", inner_stack_refused, CHEAP },
	{ 0 },
};
