#!/bin/sh
# What the guest of devices.py runs: loads the drivers, in the order of their files' names, and uses the devices.
# devices.sh messages|wires DISK DISK SUM SUM SUM PORT hot|cold: how they interrupt, the disks' names, the MD5 sums of the
# disks' contents and of what the host serves at the port, and whether there are more devices to come.
interrupts=$1
one=$2
two=$3
first=$4
second=$5
served=$6
port=$7
hot=$8

fail() {
	echo "WRONG: $*"
	dmesg | tail -3
	exit 2 # debug-exit makes 5 of it; 3 would mean that the host cannot run this
}

for module in /modules/*.ko; do
	insmod "$module" || fail "cannot load $module"
done

lspci 2>/dev/null

scsi=
case "$one" in sd*) scsi=yes ;; esac
[ -d /sys/bus/pci/devices/0000:00:00.0 ] || fail "no host bridge"

# Every function but the bridges has a driver, and messages of its own.
for function in /sys/bus/pci/devices/*; do
	case "$(cat "$function/class")" in
	0x06*) continue ;;
	esac
	[ -e "$function/driver" ] || fail "no driver for $function"
	[ "$interrupts" = wires ] || [ "$(cat "$function/device")" = 0x100e ] || [ -d "$function/msi_irqs" ] || fail "no messages for $function"
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

sum() {
	dd "if=$1" bs=1M "skip=$2" "count=$3" 2>/dev/null | md5sum | cut -d ' ' -f 1
}

# SCSI disks get their names in the order in which they answer, some time after the driver was loaded.
if [ "$scsi" ]; then
	while ! [ -e /dev/sda ] || ! [ -e /dev/sdb ]; do usleep 10000; done
	grep -q strata-0001 /sys/block/sda/device/vpd_pg80 || { one=sdb two=sda; }
fi
serial=$(cat /sys/block/$one/serial /sys/block/$one/device/serial /sys/block/$one/device/vpd_pg80 2>/dev/null | tr -d " \0\200\024")
[ "$serial" = strata-0001 ] || fail "serial number $serial"
[ "$(cat /sys/block/$one/size)" = 131072 ] || fail "size of the first disk: $(cat /sys/block/$one/size)"
[ "$interrupts" = wires ] || [ "$scsi" ] || [ "$(ls /sys/block/$one/mq | wc -l)" = "$(nproc)" ] || fail "not a queue for each processor"
[ "$(sum /dev/$one 0 16)" = "$first" ] || fail "the first disk's contents"
dd if=/dev/$one of=/dev/$one bs=1M count=16 seek=32 conv=fsync 2>/dev/null || fail "cannot write"
tr '\0' '\377' </dev/zero | dd of=/dev/$one bs=4k count=256 seek=12288 iflag=fullblock oflag=direct 2>/dev/null || fail "cannot write directly"
echo 3 >/proc/sys/vm/drop_caches
[ "$(sum /dev/$one 32 16)" = "$first" ] || fail "what was written comes back differently"

[ "$scsi" ] || [ "$(cat /sys/block/$two/ro)" = 1 ] || fail "the second disk is not read-only"
[ "$(sum /dev/$two 0 8)" = "$second" ] || fail "the second disk's contents"
dd if=/dev/zero of=/dev/$two bs=4k count=1 conv=fsync 2>/dev/null && fail "the second disk can be written to"

# A disc with the second disk's contents.
if [ -d /sys/bus/pci/drivers/ata_piix ]; then
	[ "$(cat /sys/block/sr0/size)" = 16384 ] || fail "size of the disc"
	[ "$(sum /dev/sr0 0 8)" = "$second" ] || fail "the disc's contents"
	dd if=/dev/zero of=/dev/sr0 bs=2k count=1 2>/dev/null && fail "the disc can be written to"
fi

# Many readers at once, each of another part.
for part in 0 1 2 3 4 5 6 7; do
	sum /dev/$one $((2 * part)) 2 >"/tmp/$part" &
done
wait
cat /tmp/[0-7] >/tmp/parallel
echo 3 >/proc/sys/vm/drop_caches
for part in 0 1 2 3 4 5 6 7; do
	sum /dev/$one $((2 * part)) 2
done >/tmp/serial
cmp /tmp/parallel /tmp/serial || fail "reading in parallel gives something else"

# The network: an address by DHCP where the kernel has packet sockets, data both ways, and a port that the host calls.
ip link set eth0 up
cat >/tmp/lease <<'END'
#!/bin/sh
[ "$1" = bound ] && echo "$ip" >/tmp/address
exit 0
END
chmod +x /tmp/lease
if udhcpc -i eth0 -n -q -t 5 -s /tmp/lease >/tmp/dhcp 2>&1; then
	[ "$(cat /tmp/address)" = 10.0.2.15 ] || fail "DHCP gave $(cat /tmp/address)"
else
	grep -q "ocket" /tmp/dhcp || fail "no answer by DHCP: $(cat /tmp/dhcp)"
fi
ip address add 10.0.2.15/24 dev eth0
[ "$(nc 10.0.2.2 "$port" </dev/null | md5sum | cut -d ' ' -f 1)" = "$served" ] || fail "data from the network"
dd if=/dev/$one bs=1M count=2 2>/dev/null | nc 10.0.2.2 "$port" >/dev/null || fail "cannot send"
echo "the guest listens"
echo "hello from the guest" | nc -l -p 7777 >/dev/null || fail "cannot listen"

# A third disk with the second one's contents, and a second network; both come twice.
for round in $([ "$hot" = hot ] && echo 1 2); do
	echo "there is room"
	while ! [ -e /dev/vdc ] || ! [ -e /sys/class/net/eth1 ]; do usleep 10000; done
	disk=$(readlink -f /sys/block/vdc/device)
	[ -d "${disk%/*}/msi_irqs" ] || fail "no messages for $disk"
	[ "$(sum /dev/vdc 0 8)" = "$second" ] || fail "the third disk's contents"
	dd if=/dev/vdc of=/dev/vdc bs=1M count=8 seek=$((8 * round)) conv=fsync 2>/dev/null || fail "cannot write to the third disk"
	ip link set eth1 up
	ip address add 10.0.3.15/24 dev eth1
	[ "$(nc 10.0.3.2 "$port" </dev/null | md5sum | cut -d ' ' -f 1)" = "$served" ] || fail "data from the second network"
	echo "both are used"
	while [ -e /sys/block/vdc ] || [ -e /sys/class/net/eth1 ]; do usleep 10000; done
	echo "both are gone"
done

grep -E "virtio|nvme|ahci|eth" /proc/interrupts
echo "all devices are well"
