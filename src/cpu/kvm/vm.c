/*
 * The VM object: what KVM shares between the vcpus of a machine.
 *
 * VMs are found by their memory in a short global list, because the engine interface creates vcpus
 * one by one and knows nothing else they have in common. list_lock guards the list and the user
 * counts; of a VM itself only the interrupt routes change after it was made.
 */
#include "base/bits.h"
#include "base/log.h"
#include "base/must.h"
#include "base/scope.h"
#include "cpu/kvm/kvm_priv.h"
#include "x86/msr.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define VMS_MAX 16

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kvm_vm *list[VMS_MAX];

static struct kvm_vm **find_locked(const struct memory *m)
{
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (list[i] && list[i]->memory == m)
			return &list[i];
	return NULL;
}

static int open_device(struct err *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return err_set(err, -errno, "/dev/kvm: %s%s", strerror(errno),
			errno == EACCES ? " (is this user in group kvm?)" : "");
	if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		close(fd);
		return err_set(err, -ENOTSUP, "/dev/kvm: not API version %d", KVM_API_VERSION);
	}
	return fd;
}

static const struct {
	int cap;
	const char *name;
} required[] = {
	{ KVM_CAP_USER_MEMORY, "user memory" },
	{ KVM_CAP_READONLY_MEM, "read-only slots" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exit" },
	{ KVM_CAP_EXT_CPUID, "CPUID" },
	{ KVM_CAP_XSAVE, "XSAVE state" },
	{ KVM_CAP_XCRS, "XCR0" },
	{ KVM_CAP_VCPU_EVENTS, "pending events" },
	{ KVM_CAP_DEBUGREGS, "debug registers" },
	{ KVM_CAP_X86_USER_SPACE_MSR, "user space MSRs" },
	{ KVM_CAP_X86_MSR_FILTER, "MSR filters" },
};

static int check_capabilities(int dev, struct err *err)
{
	for (unsigned i = 0; i < ARRAY_LEN(required); i++)
		if (ioctl(dev, KVM_CHECK_EXTENSION, required[i].cap) <= 0)
			return err_set(err, -ENOTSUP, "/dev/kvm: lacks %s", required[i].name);
	return 0;
}

static int set_slot(struct kvm_vm *vm, u32 id, bool log, struct err *err)
{
	const struct memory_slot *s = &vm->memory->slots[id];
	struct kvm_userspace_memory_region region = {
		.slot = id,
		.flags = (s->region->rom ? KVM_MEM_READONLY : 0) |
			 (log && !s->region->rom ? KVM_MEM_LOG_DIRTY_PAGES : 0),
		.guest_phys_addr = s->base,
		.memory_size = s->size,
		.userspace_addr = (u64)(uintptr_t)(s->region->host + s->offset),
	};

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return err_set(err, -errno, "KVM memory slot at 0x%llx: %s",
			(unsigned long long)s->base, strerror(errno));
	return 0;
}

/*
 * Which MSRs come to us. Those KVM refuses or does not know, among them the x2APIC range while it
 * has no APIC, come by themselves; IA32_APIC_BASE and IA32_TSC_DEADLINE it would swallow, so while
 * the APICs are ours a filter denies them. It then denies writes to the time-stamp counter, too:
 * our TSC-deadline timer must know of them.
 */
static int route_msrs(struct kvm_vm *vm, struct err *err)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_USER_SPACE_MSR,
		.args = { KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN |
			  KVM_MSR_EXIT_REASON_FILTER },
	};
	u8 denied[1] = { 0 }; /* a 0 bit denies */
	const u32 write = KVM_MSR_FILTER_WRITE, rw = KVM_MSR_FILTER_READ | write;
	struct kvm_msr_filter filter = {
		.flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
		.ranges = {
			{ .flags = rw, .nmsrs = 1, .base = MSR_APIC_BASE, .bitmap = denied },
			{ .flags = rw, .nmsrs = 1, .base = MSR_TSC_DEADLINE, .bitmap = denied },
			{ .flags = write, .nmsrs = 1, .base = MSR_TSC, .bitmap = denied },
			{ .flags = write, .nmsrs = 1, .base = MSR_TSC_ADJUST, .bitmap = denied },
		},
	};

	if (ioctl(vm->fd, KVM_ENABLE_CAP, &cap) < 0 ||
		(!vm->split && ioctl(vm->fd, KVM_X86_SET_MSR_FILTER, &filter) < 0))
		return err_set(err, -errno, "KVM MSR routing: %s", strerror(errno));
	return 0;
}

/* The MSRs of the state that KVM carries, without those that travel in kvm_sregs. */
static void find_msrs(struct kvm_vm *vm)
{
	struct { /* struct kvm_msr_list with room */
		u32 nmsrs, index[1024];
	} all = { .nmsrs = 1024 };

	if (ioctl(vm->dev, KVM_GET_MSR_INDEX_LIST, &all) < 0)
		all.nmsrs = 0;
	for (u32 i = 0; i < x86_msr_slot_count; i++) {
		u32 msr = x86_msr_slots[i].index;

		if (msr == MSR_APIC_BASE || msr == MSR_EFER || msr == MSR_FS_BASE ||
			msr == MSR_GS_BASE)
			continue;
		/* KVM keeps MTRRs without listing them. */
		bool carried = (msr >= 0x200 && msr <= 0x26f) || msr == MSR_MTRR_DEF_TYPE;

		for (u32 j = 0; j < all.nmsrs && !carried; j++)
			carried = all.index[j] == msr;
		if (carried && vm->msr_count < KVM_MSRS_MAX)
			vm->msrs[vm->msr_count++] = i;
	}
}

/*
 * VMX without unrestricted guest mode wants four pages for an identity map and a task state. Below
 * the last 16 MiB they are out of the way of any firmware image; modules without VMX refuse, and do
 * not need them.
 */
static void place_vmx_pages(const struct kvm_vm *vm)
{
	u64 identity_map = 0xfeffc000;

	ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
	ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)identity_map + PAGE_SIZE);
}

/* Local APICs in KVM, unless the user or the host does not want them there. */
static void place_apics(struct kvm_vm *vm, u32 options)
{
	struct err why = { 0 };

	if (options & KVM_OPTION_USER_IRQCHIP)
		return;
	vm->split = !kvm_irqchip_enable(vm->fd, &why);
	if (!vm->split)
		log_info("kvm", "local APICs in user space: %s", why.text);
}

static int create(struct kvm_vm *vm, u32 options, struct err *err)
{
	long size;

	vm->dev = open_device(err);
	if (vm->dev < 0)
		return vm->dev;
	int ret = check_capabilities(vm->dev, err);
	if (ret < 0)
		return ret;
	vm->fd = ioctl(vm->dev, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return err_set(err, -errno, "KVM_CREATE_VM: %s", strerror(errno));
	size = ioctl(vm->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (long)sizeof(struct kvm_run))
		return err_set(err, -EIO, "KVM_GET_VCPU_MMAP_SIZE: %ld", size);
	vm->run_size = (size_t)size;
	place_vmx_pages(vm);
	place_apics(vm, options);
	vm->supported.nent = KVM_CPUID_MAX;
	if (ioctl(vm->dev, KVM_GET_SUPPORTED_CPUID, &vm->supported) < 0)
		return err_set(err, -errno, "KVM_GET_SUPPORTED_CPUID: %s", strerror(errno));
	find_msrs(vm);
	ret = route_msrs(vm, err);
	for (vm->slots = 0; !ret && vm->slots < vm->memory->slot_count; vm->slots++)
		ret = set_slot(vm, vm->slots, false, err);
	return ret;
}

static void destroy(struct kvm_vm *vm)
{
	pthread_mutex_destroy(&vm->routes_lock);
	if (vm->fd >= 0)
		close(vm->fd);
	if (vm->dev >= 0)
		close(vm->dev);
	free(vm);
}

static struct kvm_vm *make_locked(struct memory *m, u32 options, struct err *err)
{
	struct kvm_vm *vm = calloc(1, sizeof(*vm));
	unsigned at = 0;

	must(vm, "out of memory");
	*vm = (struct kvm_vm){ .memory = m, .dev = -1, .fd = -1 };
	pthread_mutex_init(&vm->routes_lock, NULL);
	while (at < VMS_MAX && list[at])
		at++;
	if (at == VMS_MAX)
		err_set(err, -ENOSPC, "more than %d machines in one process", VMS_MAX);
	if (at == VMS_MAX || create(vm, options, err) < 0) {
		destroy(vm);
		return NULL;
	}
	return list[at] = vm;
}

struct kvm_vm *kvm_vm_get(struct memory *m, u32 options, struct err *err)
{
	pthread_mutex_lock(&list_lock);
	struct kvm_vm **found = find_locked(m);
	struct kvm_vm *vm = found ? *found : make_locked(m, options, err);

	if (vm)
		vm->users++;
	pthread_mutex_unlock(&list_lock);
	return vm;
}

void kvm_vm_put(struct kvm_vm *vm)
{
	pthread_mutex_lock(&list_lock);
	if (!--vm->users) {
		*find_locked(vm->memory) = NULL;
		destroy(vm);
	}
	pthread_mutex_unlock(&list_lock);
}

const struct kvm_cpuid_entry2 *kvm_vm_supported(const struct kvm_vm *vm, u32 leaf, u32 subleaf)
{
	for (u32 i = 0; i < vm->supported.nent; i++) {
		const struct kvm_cpuid_entry2 *e = &vm->supported.entries[i];

		if (e->function == leaf && e->index == subleaf)
			return e;
	}
	return NULL;
}

int kvm_vm_try_split(struct err *why)
{
	int dev = open_device(why), ret = dev;

	if (dev < 0)
		return ret;
	int fd = ioctl(dev, KVM_CREATE_VM, 0);

	ret = fd < 0 ? err_set(why, -errno, "KVM_CREATE_VM: %s", strerror(errno))
		     : kvm_irqchip_enable(fd, why);
	if (fd >= 0)
		close(fd);
	close(dev);
	return ret;
}

/* ---- services by memory ---- */

struct kvm_vm *kvm_vm_of(struct memory *m, struct err *err)
{
	pthread_mutex_lock(&list_lock);
	struct kvm_vm **found = find_locked(m);
	struct kvm_vm *vm = found ? *found : NULL;

	pthread_mutex_unlock(&list_lock);
	if (!vm)
		err_set(err, -ENODEV, "no KVM machine uses this memory");
	return vm;
}

int kvm_log_dirty(struct memory *m, bool on, struct err *err)
{
	struct kvm_vm *vm = kvm_vm_of(m, err);
	int ret = vm ? 0 : -ENODEV;

	for (u32 i = 0; !ret && i < vm->slots; i++)
		ret = set_slot(vm, i, on, err);
	return ret;
}

static void report_dirty(struct memory *m, const struct memory_slot *s, const u64 *map)
{
	for (u64 word = 0; word * 64 << PAGE_SHIFT < s->size; word++)
		for (u64 set = map[word]; set; set &= set - 1) {
			u64 page = word * 64 + (unsigned)__builtin_ctzll(set);

			memory_written(m, gpa(s->base + (page << PAGE_SHIFT)), PAGE_SIZE);
		}
}

int kvm_sync_dirty(struct memory *m, struct err *err)
{
	struct kvm_vm *vm = kvm_vm_of(m, err);

	if (!vm)
		return -ENODEV;
	for (u32 i = 0; i < vm->slots; i++) {
		const struct memory_slot *s = &m->slots[i];
		AUTO_FREE u64 *map = calloc((s->size >> PAGE_SHIFT) / 64 + 1, 8);
		struct kvm_dirty_log log = { .slot = i, .dirty_bitmap = map };

		if (s->region->rom)
			continue;
		if (!map)
			return err_set(err, -ENOMEM, "no memory for a dirty log");
		if (ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log) < 0)
			return err_set(err, -errno, "KVM_GET_DIRTY_LOG: %s", strerror(errno));
		report_dirty(m, s, map);
	}
	return 0;
}

int kvm_doorbell(struct memory *m, const struct kvm_doorbell *d, bool add, struct err *err)
{
	struct kvm_vm *vm = kvm_vm_of(m, err);
	struct kvm_ioeventfd event = {
		.datamatch = d->value,
		.addr = d->at,
		.len = d->size,
		.fd = d->fd,
		.flags = (d->port ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (d->match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0) |
			 (add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	if (!vm)
		return -ENODEV;
	if (ioctl(vm->fd, KVM_IOEVENTFD, &event) < 0)
		return err_set(err, -errno, "doorbell at 0x%llx: %s", (unsigned long long)d->at,
			strerror(errno));
	return 0;
}
