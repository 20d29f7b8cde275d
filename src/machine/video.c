/*
 * The VGA's memory: a region of its own, which guests reach like RAM wherever the VGA's BAR lies.
 *
 * The BAR moves when a vcpu's thread writes a register, with the machine's lock held; slots of
 * memory change only while no guest code runs. So the VGA says where its memory is to be, all vcpus
 * are asked to park, the main thread puts the slot there and has every engine forget what it knows
 * of pages. Between the two the VGA serves accesses itself, as it does for an engine that takes
 * no notice of slots that change, and for a BAR on which there is RAM.
 */
#include "base/log.h"
#include "device/vga/vga.h"
#include "machine/machine_priv.h"

int video_layout(struct machine *m, struct err *err)
{
	if (!m->config.display)
		return 0;
	m->video = memory_add_region(&m->memory, "video", VGA_VRAM, false, err);
	if (!m->video)
		return err->code;
	m->video->device = true;
	return 0;
}

static void show(void *machine, u64 base)
{
	struct machine *m = machine;

	m->video_base = base;
	if (!m->config.engine->fixed_memory)
		run_ask_memory(m);
}

struct device_memory video_memory(const struct machine *m)
{
	if (!m->video)
		return (struct device_memory){ 0 };
	return (struct device_memory){ m->video->host, m->video->size, show };
}

static void forget_pages(struct machine *m)
{
	for (unsigned i = 0; i < m->config.cpus; i++) {
		struct vcpu *v = &m->cpus[i].v;

		if (v->mmu)
			v->x86.ops->flush(&v->x86, X86_FLUSH_ALL, 0, 0);
	}
}

void video_apply(struct machine *m)
{
	struct err err = { 0 };

	pthread_mutex_lock(&m->gate);
	m->memory_asked = false;
	pthread_mutex_unlock(&m->gate);
	if (m->config.engine->fixed_memory)
		return;
	if (m->flash &&
		memory_show(&m->memory, m->flash, gpa(m->flash_shown ? flash_base(m) : 0), &err))
		guest_err("flash", "%s", err.text);
	if (m->video && memory_show(&m->memory, m->video, gpa(m->video_base), &err))
		guest_err("vga", "video memory: %s", err.text);
	if (m->flash || m->video)
		forget_pages(m);
}
