/* What the machine's files share: its struct, and who does what. */
#pragma once
#include "boot/acpi.h"
#include "boot/boot.h"
#include "boot/smbios.h"
#include "bus/bus.h"
#include "bus/clock.h"
#include "bus/pci.h"
#include "device/apic/ioapic.h"
#include "device/apic/lapic.h"
#include "folder/folder.h"
#include "machine/console.h"
#include "machine/machine.h"
#include "machine/shaper.h"
#include "machine/throttle.h"
#include <pthread.h>

#define MACHINE_PARTS_MAX 64 /* bits of a line's level */
#define ISA_LINES	  16

struct machine_cpu {
	struct vcpu v;
	struct machine *machine;
	struct lapic *lapic;
	u64 tsc_offset; /* v.x86.s's, for whoever has the machine's lock */
	pthread_t thread;
	bool opened, started;
};

/* A device in its place. Its output lines end here: ctx of struct irq_line is this. */
struct machine_part {
	struct machine *machine;
	struct device *device;
	const struct machine_place *place; /* the row of parts.c */
	u64 bit;			   /* of this part in machine.isa_levels[] */
};

/* disk.c */
struct machine_disk {
	struct machine *machine;
	struct block *block;
	struct throttle throttle;
	struct loop_source source;
	bool listens;
};

/* net.c */
struct machine_nic {
	struct machine *machine;
	struct net *net;
	enum net_kind kind;    /* that it was made as */
	struct device *device; /* NULL: none, or not yet */
	bool used;	       /* by a device that comes, is there, or has not quite gone */
	char *name;	       /* of what a network that led nowhere leads to now */
	struct shaper shaper;
	struct net_times times;
};

/* hot.c: a slot whose device comes and goes. */
struct machine_hot {
	struct device *device;	   /* NULL: none */
	struct machine_disk *disk; /* one of these two: its backend */
	struct machine_nic *nic;
	bool leaving;		     /* the guest was asked to let go of it */
	bool gone;		     /* it has; the backend is still open */
	char name[MACHINE_NAME_MAX]; /* once it is gone */
	char *about;
};

/* share.c */
struct machine_share {
	struct machine *machine;
	struct folder share;
	struct device *device;
	struct loop_source source;
	bool listens;
};

/* port.c */
struct machine_port {
	struct machine *machine;
	unsigned number;
	int listener, fd; /* -1: none */
	bool listens;
	bool full;   /* the socket takes nothing more */
	bool parked; /* the loop does not look at it */
	struct loop_source waiting, source;
	u32 in_len;
	u8 in[4096]; /* what the guest has not taken yet */
};

/* firmware.c: a line of what firmware says at its debug port */
struct firmware_log {
	char line[120];
	unsigned len;
};

/* run.c */
enum machine_phase {
	PHASE_HOLD, /* vcpus park */
	PHASE_RUN,
	PHASE_QUIT, /* vcpu threads return */
};

struct machine {
	struct machine_config config;
	struct x86_model model;
	struct memory memory;
	struct machine_cpu *cpus; /* config.cpus of them */
	struct boot_image kernel, initrd, firmware, video_bios, flash_template;
	struct console console;
	u64 tsc_base;	   /* host TSC at guest time 0, for kvmclock */
	bool used;	   /* memory may hold something */
	s64 wall_base;	   /* nanoseconds since 1970 at guest time 0 */
	u8 generation[16]; /* generation.c */

	pthread_mutex_t lock; /* guards what follows, up to the next lock */
	struct bus bus;
	struct pci_bus pci;
	struct guest_clock clock;
	struct lapic_bus apics;
	struct machine_part parts[MACHINE_PARTS_MAX];
	unsigned part_count;
	struct firmware_log firmware_log;
	/* Parts the machine itself talks to */
	struct device *pic, *ioapic, *com1, *rtc, *fw_cfg, *pm, *i8042, *keyboard, *mouse, *vga,
		*hotplug;
	/* First those that the machine is made with, then those for machine_attach_disk() */
	struct machine_disk disks[MACHINE_DISKS_MAX + MACHINE_HOT_DISKS];
	unsigned disk_count;  /* of the first */
	unsigned block_count; /* that are open, of both */
	struct machine_hot hot[MACHINE_HOT_MAX];
	/* First the one that the machine is made with, if it is; then those for
	 * machine_attach_net() */
	struct machine_nic nics[1 + MACHINE_HOT_NICS];
	unsigned nic_count;    /* that are open */
	struct net *vsock_net; /* NULL: none */
	struct device *vsock;
	struct device *balloon; /* NULL: none */
	struct machine_share shares[MACHINE_SHARES_MAX];
	struct device *virtio_console; /* NULL: none */
	struct machine_port ports[MACHINE_PORTS_MAX];
	unsigned port_count;
	unsigned share_count;	     /* those that are open */
	struct memory_region *flash; /* contents; NULL: none */
	bool flash_shown;	     /* as ROM */
	int flash_fd;		     /* the file that follows; -1: none */
	int flash_lost;		     /* -errno of the first write that failed */
	struct display *display;     /* NULL: none */
	struct vga_screen *screen;   /* the display's thread's */
	int pointer_x, pointer_y;    /* the same; -1: not known yet */
	struct memory_region *video; /* NULL: no VGA */
	u64 video_base;		     /* where it is to be shown; 0: nowhere */
	bool intr;		     /* the 8259 pair's output */
	bool replaced;		     /* the HPET stands in for the 8254 and the RTC */
	u64 isa_levels[ISA_LINES];   /* which parts hold the line up */
	u64 pin_levels[IOAPIC_PINS];

	pthread_mutex_t gate; /* guards what follows */
	pthread_cond_t gate_changed;
	enum machine_phase phase;
	unsigned running; /* vcpus between the gate and the next park */
	bool reset_asked;
	bool memory_asked; /* a device's memory is to be shown elsewhere */
	struct machine_result result;

	unsigned
		paused; /* the main thread's own: why (pause.c), and the clock stands; 0: it runs */
	u64 paused_tsc;
	s64 paused_wall;	      /* nanoseconds since 1970 */
	struct machine_counts counts; /* lock; disks count for themselves */
	bool frozen; /* lock: devices get nothing from outside: their state has been saved */
	struct saving *saving;	     /* saving.c; NULL: it cannot be saved */
	struct requests *requests;   /* lock: requests.c; NULL: not traced */
	struct doorbells *doorbells; /* doorbells.c; NULL: all are exits */

	int timer_fd, wake_fd;
	struct loop *loop; /* while machine_run() */
	struct loop_source on_timer, on_wake;
	_Atomic bool hurry; /* do not wait for output */
};

/* layout.c: RAM at its guest-physical addresses. */
NODISCARD int layout_memory(struct machine *m, struct err *err);

/* numa.c: which part of RAM is which socket's; how many parts, 0 without numa. */
#define MACHINE_NEAR_MAX (MACHINE_CPUS_MAX + MEMORY_SLOTS_MAX)
unsigned numa_memory(const struct machine *m, struct acpi_near to[MACHINE_NEAR_MAX]);

/* parts.c: the devices and their places. */
NODISCARD int parts_make(struct machine *m, struct err *err);
void parts_free(struct machine *m);
void parts_reset(struct machine *m);		/* lock held */
struct device_env parts_env(struct machine *m); /* what all devices are handed */
void parts_input(struct machine *m);		/* lock held: COM1 takes what the console has */

/* disk.c: images. */
extern const struct disk_ops disk_backend; /* ctx: the struct machine_disk */
NODISCARD int disk_open(struct machine *m, struct err *err);
void disk_close(struct machine *m);
/* What its guest gets of it; nothing is under way. */
void disk_limit(struct machine_disk *d, const struct machine_disk_config *c);
const struct device_class *disk_class(const struct machine_disk_config *c);
/* How many of the disks before this one are not on PCI, where and which interrupts they have. */
unsigned disk_mmio(const struct machine *m, unsigned i);
#define MACHINE_MMIO 0xfeda0000u
extern const u8 machine_mmio_irqs[MACHINE_MMIO_MAX];
/* The disks on the AHCI adapter; how many. */
unsigned disk_ahci(struct machine *m, void *at[MACHINE_AHCI_MAX]);
NODISCARD int disk_configure_ahci(struct machine *m, struct device *d, struct err *err);
/* Which disks are the IDE controller's drives; MACHINE_DISKS_MAX: none. How many there are. */
unsigned disk_ide(const struct machine *m, unsigned at[MACHINE_IDE_MAX]);
NODISCARD int disk_configure_ide(
	struct machine *m, const unsigned at[MACHINE_IDE_MAX], struct device *d, struct err *err);
NODISCARD int disk_configure(const struct machine *m, const struct machine_disk_config *c,
	struct device *d, struct err *err);
NODISCARD int disk_listen(struct machine *m, struct err *err); /* m->loop */
void disk_unlisten(struct machine *m);
void disk_drain(struct machine *m); /* lock held: no request is under way */
/* Lock held: the image of a disk for whose requests the host has no room; NULL: there is none. */
const char *disk_stuck(const struct machine *m);
void disk_retry(struct machine *m); /* lock held */

/* doorbells.c: what guest code need not be left for. */
NODISCARD int doorbells_make(struct machine *m, struct err *err);   /* the engine is open */
void doorbells_free(struct machine *m);				    /* all devices are gone */
NODISCARD int doorbells_listen(struct machine *m, struct err *err); /* m->loop */
void doorbells_unlisten(struct machine *m);
void doorbells_ring(struct machine *m); /* what was posted; no lock held */

/* pause.c: the main thread's. */
void pause_look(struct machine *m);  /* requests have ended: the machine pauses, or goes on */
void pause_retry(struct machine *m); /* the timer while it is paused */
/* A reset begins: nothing is stuck any more, and clocks go. What it was is for pause_again(), once
 * the reset is done: whether a pause remains. */
unsigned pause_forget(struct machine *m);
bool pause_again(struct machine *m, unsigned before);
enum machine_state pause_state(const struct machine *m); /* not MACHINE_ENDING */
int pause_for_saving(struct machine *m);		 /* 0, or -ETIMEDOUT: the machine ends */
void pause_saved(struct machine *m);			 /* that reason is gone */
void pause_loaded(struct machine *m); /* it has been loaded: as if it had been held all the time */
void pause_restored(struct machine *m); /* and it runs */
s64 machine_wall(void);			/* the host's time of day: nanoseconds since 1970 */
void pause_tell(struct machine *m, enum machine_event what, const char *text);

/* generation.c: who this machine is, for guests that may be copies of each other. */
NODISCARD int generation_choose(struct machine *m, struct err *err);
struct acpi_generation generation_place(const struct machine *m);
void generation_put(struct machine *m);	    /* into memory */
void generation_renewed(struct machine *m); /* the same, and the guest is told; no lock held */

/* saving.c */
NODISCARD int saving_open(struct machine *m, struct err *err); /* before the sandbox */
void saving_close(struct machine *m);

/* restoring.c: what config.saved holds. The processor model; then, once all is made, the rest. */
NODISCARD int restoring_model(struct machine *m, struct err *err);
NODISCARD int restoring_load(struct machine *m, struct err *err);

/* Parts of a saved state (saved/saved.h) that are the machine's. */
#define SAVING_MODEL "processor" /* struct x86_model_saved */
#define SAVING_STATE "state"	 /* machine_save() */
#define SAVING_DISKS "disks"	 /* a struct block_look each */

/* net.c: networks. */
const struct net_ops *machine_net_backend(enum net_kind kind); /* ctx: the struct machine_nic */
NODISCARD int machine_net_open(struct machine *m, struct err *err);
void machine_net_close(struct machine *m);
const struct device_class *machine_net_class(enum machine_nic_model model);
NODISCARD int machine_net_configure(struct machine_nic *nic, const struct machine_net_config *c,
	struct device *d, struct err *err);
/* A network for a device that comes; NULL with err. It stays the device's until it is given back.
 */
struct machine_nic *machine_net_plug(struct machine *m, const struct machine_net_config *c,
	struct net_files *files, struct err *err);
void machine_net_unplug(struct machine_nic *nic); /* lock held */

/* vsock.c: the socket device, when there is one. */
extern const struct net_ops machine_vsock_backend; /* ctx: the machine */
NODISCARD int machine_vsock_open(struct machine *m, struct err *err);
void machine_vsock_close(struct machine *m);
NODISCARD int machine_vsock_configure(struct machine *m, struct device *d, struct err *err);

/* flash.c: what firmware keeps. */
NODISCARD int flash_layout(struct machine *m, struct err *err);
u64 flash_base(const struct machine *m);
struct device_flash flash_memory(const struct machine *m);
void flash_close(struct machine *m);

/* video.c: the VGA's memory. */
NODISCARD int video_layout(struct machine *m, struct err *err);
struct device_memory video_memory(const struct machine *m);
void video_apply(struct machine *m); /* lock held, no guest code runs */

/* display.c: between the VGA, keyboard and mouse, and whoever looks. */
NODISCARD int display_start(struct machine *m, struct err *err); /* once the parts are made */
void display_stop(struct machine *m);
/* balloon.c: the memory balloon, when there is one. */
NODISCARD int machine_balloon_configure(struct machine *m, struct device *d, struct err *err);

/* share.c: shared folders. */
extern const struct shared_ops machine_shared_backend; /* ctx: the struct machine_share */
NODISCARD int machine_share_open(struct machine *m, struct err *err); /* before there are threads */
void machine_share_close(struct machine *m);
NODISCARD int machine_share_configure(
	struct machine *m, unsigned i, struct device *d, struct err *err);
NODISCARD int machine_share_listen(struct machine *m, struct err *err); /* m->loop */
void machine_share_unlisten(struct machine *m);
void machine_share_drain(struct machine *m); /* lock held: no request is under way */

/* port.c: a virtio console, and its ports. */
extern const struct port_ops machine_port_backend; /* ctx: the machine */
NODISCARD int machine_port_open(struct machine *m, struct err *err);
void machine_port_close(struct machine *m);
NODISCARD int machine_port_configure(struct machine *m, struct device *d, struct err *err);
NODISCARD int machine_port_listen(struct machine *m, struct err *err); /* m->loop */
void machine_port_unlisten(struct machine *m);
void machine_port_turn(struct machine *m);    /* the main thread was woken */
void machine_port_thaw(struct machine *m);    /* lock held: what has come meanwhile */
void machine_port_drained(struct machine *m); /* the console's output is empty; no lock held */

/* hot.c: devices that come and go. */
void hot_eject(void *machine, unsigned slot); /* struct device_env.eject */
void hot_turn(struct machine *m);	      /* the main thread was woken */
void hot_reset(struct machine *m);	      /* lock held */
void hot_free(struct machine *m);

/* irq.c: interrupt routing. All with the lock held. */
void irq_isa(void *part, unsigned n, bool level);	  /* struct irq_line.set of ISA lines */
void irq_pin(void *part, unsigned n, bool level);	  /* of the I/O APIC's pins */
void irq_intr(void *part, unsigned n, bool level);	  /* of the 8259 pair's output */
void irq_replaceable(void *part, unsigned n, bool level); /* of the 8254 and the RTC */
void irq_replace(void *part, unsigned n, bool level);	  /* the HPET replaces those two */
void irq_event(void *part, unsigned n, bool level);	  /* a general-purpose event's source */
void irq_msi(void *machine, u64 address, u32 data);
void irq_wire_cpu(struct machine_cpu *c);

/* irqchip.c: engines that keep the local APICs; nothing to do for others. */
void irqchip_attach(struct machine *m);	 /* once the parts are made */
int irqchip_give(struct machine_cpu *c); /* after push; 0 or -errno */
int irqchip_take(struct machine_cpu *c); /* after pull; the same */

/* firmware.c: firmware, when it is that which boots. */
NODISCARD int firmware_layout(struct machine *m, struct err *err);   /* its ROM */
NODISCARD int firmware_describe(struct machine *m, struct err *err); /* once the parts are made */
NODISCARD int firmware_boot(struct machine *m, struct err *err);
extern const struct console_ops firmware_log_backend; /* ctx: the log */

/* pci.c: what firmware does to PCI. */
#define MACHINE_ECAM  0xe0000000u
#define FIRMWARE_ECAM 0xb0000000u /* where SeaBIOS and OVMF show it */
#define PCI_FIRST_PIN 16u	  /* of the I/O APIC's, where link 0 ends */
struct pci_map pci_layout(const struct machine *m);
void pci_power_on(struct machine *m); /* after parts_reset(); lock held */

/* access.c: what vcpus ask of the machine. */
extern const struct vcpu_ops access_ops;

/* load.c: the state at the kernel's first instruction, from kept copies of its files. */
NODISCARD int load_images(struct machine *m, struct err *err);
NODISCARD int load_tables(struct machine *m, struct acpi_image *acpi, struct smbios_image *smbios,
	struct err *err);				      /* made, not put anywhere yet */
NODISCARD int load_guest(struct machine *m, struct err *err); /* power-on and reset; no vcpu runs */

/* run.c */
void run_ask_reset(struct machine *m);	/* any thread */
void run_ask_memory(struct machine *m); /* any thread: video_apply() soon */
void run_hold(struct machine *m);	/* main thread: no guest code until run_release() */
void run_release(struct machine *m);
NODISCARD int run_wait_held(struct machine *m);
