/* A machine from its first allocation to its last free. Construction runs in stages that each need
 * the ones before; machine_free() undoes whatever has been reached. */
#include "machine/machine.h"
#include "machine/machine_priv.h"
#include "machine/requests.h"
#include "os/fd.h"
#include "os/tsc.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static u64 host_ns(void *ctx) { return fd_monotonic_ns(); }

static void rearm(void *ctx, u64 deadline)
{
	struct machine *m = ctx;
	u64 now = clock_now(&m->clock);

	fd_timer_set(m->timer_fd, deadline == ~0ull ? deadline
				  : deadline > now  ? deadline - now
						    : 0);
}

static void input_arrived(void *ctx)
{
	struct machine *m = ctx;

	pthread_mutex_lock(&m->lock);
	parts_input(m);
	pthread_mutex_unlock(&m->lock);
}

static void escaped(void *ctx) { machine_end(ctx, MACHINE_ESCAPE, 0, "left by the user"); }
static void drained(void *ctx)
{
	machine_port_drained(ctx);
	fd_event_set(((struct machine *)ctx)->wake_fd);
}

static void init_locked_parts(struct machine *m)
{
	pthread_mutex_init(&m->lock, NULL);
	pthread_mutex_init(&m->gate, NULL);
	pthread_cond_init(&m->gate_changed, NULL);
	memory_init(&m->memory);
	bus_init(&m->bus);
	pci_bus_init(&m->pci, &m->bus, (struct msi_sink){ irq_msi, m });
	clock_init(&m->clock);
	m->clock.host_ns = host_ns;
	m->clock.rearm = rearm;
	m->clock.ctx = m;
	m->console = (struct console){
		.input = m->config.input,
		.output = m->config.output,
		.escape = m->config.escape,
		.arrived = input_arrived,
		.escaped = escaped,
		.drained = drained,
		.ctx = m,
	};
}

static int open_descriptors(struct machine *m, struct err *err)
{
	if ((m->timer_fd = fd_timer(err)) < 0)
		return err->code;
	if ((m->wake_fd = fd_event(err)) < 0)
		return err->code;
	return 0;
}

static int make_cpus(struct machine *m, struct err *err)
{
	/* The vector registers want their alignment. */
	size_t size = m->config.cpus * sizeof(*m->cpus);

	m->cpus = aligned_alloc(_Alignof(struct machine_cpu), size);
	if (!m->cpus)
		return err_set(err, -ENOMEM, "no memory for %u processors", m->config.cpus);
	memset(m->cpus, 0, size);
	for (unsigned i = 0; i < m->config.cpus; i++) {
		struct machine_cpu *c = &m->cpus[i];

		c->machine = m;
		c->v.index = i;
		c->v.apic_id = x86_topology_apic_id(&m->model.topology, i);
		c->v.engine = m->config.engine;
		c->v.engine_options = m->config.engine_options;
		c->v.memory = &m->memory;
		c->v.ops = &access_ops;
		c->v.ops_ctx = m;
		c->v.trace = m->config.trace;
		c->v.x86.model = &m->model;
		c->v.x86.ctx = &c->v;
	}
	return 0;
}

static int open_engine(struct machine *m, struct err *err)
{
	for (unsigned i = 0; i < m->config.cpus; i++) {
		if (m->config.engine->open(&m->cpus[i].v, err)) {
			err_wrap(err, "engine %s", m->config.engine->name);
			return err->code = MACHINE_CANNOT;
		}
		m->cpus[i].opened = true;
	}
	return 0;
}

s64 machine_wall(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (s64)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* OVMF maps all that a processor says it can address, in pages of 2 MiB: of 48 bits the tables take
 * 1 GiB. QEMU's processors have 40 unless somebody asks for more, which is what it is tried with.
 */
#define OVMF_PHYS_BITS 40u

static struct x86_cpuid cpuid_for_ovmf(u32 leaf, u32 subleaf)
{
	struct x86_cpuid c = x86_native_cpuid(leaf, subleaf);

	if (leaf == 0x80000008 && (c.eax & 0xff) > OVMF_PHYS_BITS)
		c.eax = (c.eax & ~0xffu) | OVMF_PHYS_BITS;
	return c;
}

static int make_model(struct machine *m, struct err *err)
{
	if (m->config.saved)
		return restoring_model(m, err);
	x86_model_build(&m->model, m->config.flash ? cpuid_for_ovmf : x86_native_cpuid, tsc_hz(),
		&m->config.topology);
	return 0;
}

struct machine *machine_new(const struct machine_config *config, struct err *err)
{
	struct machine *m = calloc(1, sizeof(*m));

	if (!m) {
		err_set(err, -ENOMEM, "no memory for a machine");
		return NULL;
	}
	m->config = *config;
	m->timer_fd = m->wake_fd = m->flash_fd = -1;
	init_locked_parts(m);
	m->wall_base = machine_wall();
	if (config->trace.requests && !(m->requests = requests_new(config->trace.to))) {
		err_set(err, -ENOMEM, "no memory to trace requests");
		machine_free(m);
		return NULL;
	}
	if (!config->topology.sockets)
		m->config.topology = x86_topology_flat(config->cpus);
	if (generation_choose(m, err) || make_model(m, err) || machine_share_open(m, err) ||
		open_descriptors(m, err) || load_images(m, err) || layout_memory(m, err) ||
		make_cpus(m, err) || open_engine(m, err) || doorbells_make(m, err) ||
		disk_open(m, err) || machine_net_open(m, err) || machine_vsock_open(m, err) ||
		machine_port_open(m, err) || parts_make(m, err) || firmware_describe(m, err) ||
		saving_open(m, err) || display_start(m, err) || load_guest(m, err) ||
		(m->config.saved && restoring_load(m, err))) {
		machine_free(m);
		return NULL;
	}
	return m;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void machine_free(struct machine *m)
{
	if (!m)
		return;
	saving_close(m);
	display_stop(m);
	machine_net_close(m);
	machine_vsock_close(m);
	hot_free(m);
	parts_free(m);
	machine_share_close(m);
	machine_port_close(m);
	disk_close(m);
	doorbells_free(m);
	requests_free(m->requests);
	for (unsigned i = 0; m->cpus && i < m->config.cpus; i++)
		if (m->cpus[i].opened)
			m->config.engine->close(&m->cpus[i].v);
	free(m->cpus);
	boot_image_free(&m->kernel);
	boot_image_free(&m->initrd);
	boot_image_free(&m->firmware);
	boot_image_free(&m->video_bios);
	boot_image_free(&m->flash_template);
	flash_close(m);
	memory_fini(&m->memory);
	close_fd(m->timer_fd);
	close_fd(m->wake_fd);
	pthread_cond_destroy(&m->gate_changed);
	pthread_mutex_destroy(&m->gate);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

struct vcpu_stats machine_stats(const struct machine *m)
{
	struct vcpu_stats sum = { 0 };

	for (unsigned i = 0; i < m->config.cpus; i++) {
		const struct vcpu_stats *s = &m->cpus[i].v.stats;

		sum.instructions += s->instructions;
		sum.port_ios += s->port_ios;
		sum.mmios += s->mmios;
		sum.interrupts += s->interrupts;
		sum.exceptions += s->exceptions;
		for (unsigned e = 0; e < ARRAY_LEN(sum.exits); e++)
			sum.exits[e] += s->exits[e];
		for (unsigned k = 0; k < ARRAY_LEN(sum.sensitive); k++)
			sum.sensitive[k] += s->sensitive[k];
	}
	return sum;
}

void machine_report(const struct machine *m, FILE *to)
{
	for (unsigned i = 0; m->config.engine->report && i < m->config.cpus; i++)
		m->config.engine->report(&m->cpus[i].v, to);
}

struct machine_counts machine_counts(struct machine *m)
{
	pthread_mutex_lock(&m->lock);
	struct machine_counts c = m->counts;

	for (unsigned i = 0; i < m->block_count; i++) {
		struct block_counts b = block_counts(m->disks[i].block);

		c.disk_read += b.read;
		c.disk_written += b.written;
	}
	pthread_mutex_unlock(&m->lock);
	c.cpu.counting = m->config.engine->counts;
	for (unsigned i = 0; m->config.engine->counts && i < m->config.cpus; i++) {
		struct cpu_counts n = m->config.engine->counts(&m->cpus[i].v);

		c.cpu.counting = c.cpu.counting && n.counting;
		c.cpu.instructions += n.instructions;
		c.cpu.exits += n.exits;
		c.cpu.misses += n.misses;
	}
	return c;
}

int machine_count(struct machine *m, bool on)
{
	if (!m->config.engine->counts)
		return -ENOSYS;
	for (unsigned i = 0; m->config.engine->count && i < m->config.cpus; i++)
		m->config.engine->count(&m->cpus[i].v, on);
	return 0;
}

u64 machine_held(const struct machine *m) { return memory_held(&m->memory); }
u64 machine_run_ns(const struct machine *m) { return clock_now(&m->clock); }
