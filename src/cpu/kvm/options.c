#include "cpu/kvm/options.h"

const struct cpu_engine_option kvm_options[] = {
	{ "user-irqchip", "local APICs in user space, not in KVM", KVM_OPTION_USER_IRQCHIP },
	{ "no-doorbells", "an exit for each request to a virtio device", KVM_OPTION_NO_DOORBELLS },
	{ 0 },
};
