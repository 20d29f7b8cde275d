/* The KVM paravirtual clock's MSRs (x86/kvmclock.c), for the MSR table. */
#pragma once
#include "x86/cpu.h"

bool x86_kvmclock_address_valid(struct x86_cpu *cpu, u64 value);
/* It did not run while time went on: its watchdogs need not bark. */
void x86_kvmclock_tell_stopped(struct x86_cpu *cpu);
void x86_kvmclock_write_wall(struct x86_cpu *cpu, u64 value);
