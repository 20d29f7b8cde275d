#!/bin/sh
# What the guest of devices.py runs: loads the drivers, in the order of their files' names, and uses the devices.
fail() {
	echo "WRONG: $*"
	dmesg | tail -3
	exit 2 # debug-exit makes 5 of it; 3 would mean that the host cannot run this
}

for module in /modules/*.ko; do
	insmod "$module" || fail "cannot load $module"
done

lspci
[ -d /sys/bus/pci/devices/0000:00:00.0 ] || fail "no host bridge"

# Every virtio function has a driver, and messages of its own.
for function in /sys/bus/pci/devices/*; do
	[ "$(cat "$function/vendor")" = 0x1af4 ] || continue
	[ -e "$function/driver" ] || fail "no driver for $function"
	[ -d "$function/msi_irqs" ] || fail "no messages for $function"
done
for device in /sys/bus/virtio/devices/*; do
	[ -e "$device/driver" ] || fail "no driver for $device"
	status=$(cat "$device/status")
	[ "$status" = 0x0000000f ] || fail "$device has status $status"
done

case "$(cat /sys/class/misc/hw_random/rng_current)" in
virtio_rng*) ;;
*) fail "the source of entropy is not virtio's" ;;
esac
[ "$(head -c 4096 /dev/hwrng | wc -c)" = 4096 ] || fail "no entropy"
[ "$(head -c 4096 /dev/hwrng | md5sum)" != "$(head -c 4096 /dev/hwrng | md5sum)" ] || fail "the same entropy twice"

grep virtio /proc/interrupts
echo "all devices are well"
