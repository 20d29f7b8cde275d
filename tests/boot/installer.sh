#!/bin/sh
# What the guest of installer.py runs in the installer, before its first question: uses a disk and the network.
# installer.sh SECTORS SUM PORT: the disk's size, and the MD5 sum of its first 8 MiB and of the page at the host's port. The
# disk's driver is in /modules.
sectors=$1
sum=$2
port=$3

fail() {
	echo "WRONG: $*" >/dev/ttyS0
	echo o >/proc/sysrq-trigger
	exit
}

# Some of what it needs may be there.
for module in /modules/*.ko; do insmod "$module"; done
# SCSI disks get their names in the order in which they answer.
tries=0
until size=$(grep -lx "$sectors" /sys/block/[sv]d?/size); do
	tries=$((tries + 1))
	[ "$tries" -lt 600 ] || fail "no disk of that size: $(cat /proc/partitions)"
	sleep 0.1
done
disk=$(basename "${size%/size}")

read_sum() {
	dd "if=/dev/$disk" bs=1M "skip=$1" count=8 2>/dev/null | md5sum | cut -d ' ' -f 1
}

[ "$(read_sum 0)" = "$sum" ] || fail "the disk's contents"
dd "if=/dev/$disk" "of=/dev/$disk" bs=1M count=8 seek=16 2>/dev/null || fail "cannot write"
sync
echo 3 >/proc/sys/vm/drop_caches
[ "$(read_sum 16)" = "$sum" ] || fail "what was written comes back differently"
echo "the disk is well" >/dev/ttyS0

# The installer has found the network device's driver by itself.
tries=0
until [ -e /sys/class/net/e*/device/driver ]; do
	tries=$((tries + 1))
	[ "$tries" -lt 600 ] || fail "no network device: $(ls /sys/class/net)"
	sleep 0.1
done
card=$(basename /sys/class/net/e*)
ip link set "$card" up
ip address add 10.0.2.15/24 dev "$card"
tries=0
until wget -q -O /tmp/data "http://10.0.2.2:$port/data"; do
	tries=$((tries + 1))
	[ "$tries" -lt 20 ] || fail "no data from the network"
	sleep 0.5
done
[ "$(md5sum </tmp/data | cut -d ' ' -f 1)" = "$sum" ] || fail "data from the network"
for function in /sys/bus/pci/devices/*; do
	echo "$(cat "$function/vendor" "$function/device" | tr '\n' ' ')$(basename "$(readlink "$function/driver")")" >/dev/ttyS0
done
echo "$(uname -m) all is well" >/dev/ttyS0
echo o >/proc/sysrq-trigger
