#!/bin/sh
# What the guest of display.py runs, on the screen and by the keyboard that the test is about.
fail() {
	echo "WRONG: $*"
	echo "WRONG: $*" >/dev/ttyS0
	exit 2
}

[ -e /sys/bus/serio/drivers/atkbd/serio0 ] || fail "no driver for the keyboard"
for module in /modules/*.ko; do
	insmod "$module" || fail "cannot load $module"
done
tries=0
until grep -q 'ImExPS/2' /proc/bus/input/devices; do
	tries=$((tries + 1))
	[ "$tries" -lt 100 ] || fail "no mouse with a wheel and five buttons: $(cat /proc/bus/input/devices)"
	usleep 100000
done
ls /sys/bus/pci/drivers/bochs-drm | grep -q "^0000:" || fail "no driver for the VGA"
grep -q bochs /proc/fb || fail "the console is not on the VGA's frame buffer: $(cat /proc/fb)"
clear
echo "abcdefghijklmnopqrstuvwxyzWRONG0123456789"
echo "the mouse is watched"
head -c 3 /dev/input/mice | od -A n -t x1
echo "all is well"
