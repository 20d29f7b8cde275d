/* What `--kvm LIST` can ask for. */
#pragma once
#include "cpu/vcpu.h"

enum kvm_option {
	KVM_OPTION_USER_IRQCHIP = BIT(0),
	KVM_OPTION_NO_DOORBELLS = BIT(1),
};

extern const struct cpu_engine_option kvm_options[];
