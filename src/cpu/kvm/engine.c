/* The kvm engine's interface: making and closing vcpus. */
#include "base/scope.h"
#include "cpu/kvm/kvm_priv.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

static void destroy(struct kvm_vcpu *k)
{
	if (k->run)
		munmap(k->run, k->vm->run_size);
	if (k->fd >= 0)
		close(k->fd);
	kvm_vm_put(k->vm);
	free(k);
}

static int create(struct vcpu *v, struct kvm_vcpu *k, struct err *err)
{
	k->fd = ioctl(k->vm->fd, KVM_CREATE_VCPU, (unsigned long)v->apic_id);
	if (k->fd < 0)
		return err_set(err, -errno, "KVM_CREATE_VCPU %u: %s", v->index, strerror(errno));

	void *run = mmap(NULL, k->vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, k->fd, 0);
	if (run == MAP_FAILED)
		return err_set(
			err, -errno, "vcpu %u: mapping kvm_run: %s", v->index, strerror(errno));
	k->run = run;
	return kvm_set_cpuid(v, err);
}

static int kvm_open(struct vcpu *v, struct err *err)
{
	struct kvm_vm *vm = kvm_vm_get(v->memory, v->engine_options, err);
	struct kvm_vcpu *k = vm ? calloc(1, sizeof(*k)) : NULL;
	int ret;

	if (!vm)
		return err ? err->code : -ENODEV;
	if (!k) {
		kvm_vm_put(vm);
		return err_set(err, -ENOMEM, "vcpu %u: no memory", v->index);
	}
	*k = (struct kvm_vcpu){ .vm = vm, .fd = -1, .extint = -1 };
	v->engine_data = k;
	v->irqchip = vm->split ? &kvm_irqchip : NULL;
	v->x86.ops = kvm_x86_ops();
	v->x86.ctx = v;
	kvm_install_kick();
	ret = create(v, k, err);
	if (ret < 0) {
		destroy(k);
		v->engine_data = NULL;
		v->irqchip = NULL;
	}
	return ret;
}

static void kvm_close(struct vcpu *v)
{
	if (v->engine_data)
		destroy(v->engine_data);
	v->engine_data = NULL;
}

static int doorbell(struct vcpu *v, u64 at, int fd, bool on, struct err *err)
{
	const struct kvm_doorbell bell = { .at = at, .fd = fd };

	if (v->engine_options & KVM_OPTION_NO_DOORBELLS)
		return err_set(err, -ENOTSUP, "doorbells are switched off");
	return kvm_doorbell(v->memory, &bell, on, err);
}

static void kvm_about(char *text, size_t size)
{
	struct err why = { 0 };

	if (kvm_vm_try_split(&why))
		snprintf(text, size, "local APICs in user space: %s", why.text);
	else
		snprintf(text, size, "local APICs in KVM");
}

const struct cpu_engine kvm_engine = {
	.name = "kvm",
	.doc = "hardware virtualization through /dev/kvm",
	.probe = kvm_probe,
	.about = kvm_about,
	.open = kvm_open,
	.close = kvm_close,
	.run = kvm_run_vcpu,
	.kick = kvm_kick,
	.pull = kvm_pull,
	.push = kvm_push,
	.doorbell = doorbell,
	.options = kvm_options,
	.fixed_memory = true,
};
