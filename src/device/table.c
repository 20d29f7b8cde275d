/* Every device class that can be named. Adding a device adds one row. */
#include "device/ahci/ahci.h"
#include "device/apic/ioapic.h"
#include "device/apic/lapic.h"
#include "device/device.h"
#include "device/e1000/e1000.h"
#include "device/firmware/flash.h"
#include "device/firmware/fw_cfg.h"
#include "device/ide/ide.h"
#include "device/legacy/hpet.h"
#include "device/legacy/legacy.h"
#include "device/legacy/ps2.h"
#include "device/nvme/nvme.h"
#include "device/pci/hotplug.h"
#include "device/pci/lpc.h"
#include "device/pci/q35.h"
#include "device/vga/vga.h"
#include "device/virtio/balloon.h"
#include "device/virtio/blk.h"
#include "device/virtio/console.h"
#include "device/virtio/fs.h"
#include "device/virtio/net.h"
#include "device/virtio/rng.h"
#include "device/virtio/vsock.h"

const struct device_class *const device_classes[] = {
	&pic_class,
	&pit_class,
	&rtc_class,
	&uart_class,
	&i8042_class,
	&ps2_keyboard_class,
	&ps2_mouse_class,
	&acpi_pm_class,
	&debug_exit_class,
	&post_port_class,
	&debugcon_class,
	&lapic_class,
	&ioapic_class,
	&hpet_class,
	&q35_class,
	&pci_hotplug_class,
	&vga_class,
	&lpc_class,
	&flash_class,
	&fw_cfg_class,
	&ide_class,
	&virtio_rng_class,
	&virtio_blk_class,
	&virtio_blk_mmio_class,
	&virtio_net_class,
	&virtio_vsock_class,
	&virtio_balloon_class,
	&virtio_fs_class,
	&virtio_console_class,
	&nvme_class,
	&ahci_class,
	&e1000_class,
};

const unsigned device_class_count = ARRAY_LEN(device_classes);
