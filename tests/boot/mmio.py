#!/usr/bin/env python3
"""Two disks that are not on PCI: Debian's virtio_mmio finds them by ACPI, reads one and writes the other.

    mmio.py STRATA ENGINE SECONDS

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import os
import random
import sys
import tempfile
from pathlib import Path

import guest

CONTENT = random.Random(5).randbytes(4 << 20)
SCRIPT = b"""
for module in /modules/*.ko; do
	insmod "$module" || exit 2
done
until [ -b /dev/vda ] && [ -b /dev/vdb ]; do usleep 10000; done
for disk in vda vdb; do
	driver=$(readlink -f /sys/block/$disk/device/../driver)
	[ "${driver##*/}" = virtio-mmio ] || { echo "$disk is driven by $driver"; exit 3; }
	case $(cat /sys/block/$disk/serial) in source) source=/dev/$disk ;; target) target=/dev/$disk ;; esac
done
dd if=$source of=$target bs=256k conv=fsync || exit 4
grep virtio /proc/interrupts
echo "both disks are well"
"""


def main():
    strata, engine, seconds = sys.argv[1:4]
    kernel = guest.kernel("cloud")
    initrd = guest.initramfs("mmio", {"mmio.sh": SCRIPT} | guest.modules(kernel, ["virtio_mmio", "virtio_blk"]))
    problems = []
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "source", Path(name) / "target"
        source.write_bytes(CONTENT)
        target.touch()
        os.truncate(target, len(CONTENT))
        command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "256M", "--cpus", "2",
                   "--no-reboot", "--log", "guest", "--disk", f"{source},format=raw,transport=mmio,readonly,serial=source",
                   "--disk", f"{target},format=raw,transport=mmio,packed,serial=target",
                   "--append", "console=ttyS0 quiet panic=-1 strata.run=sh%20/mmio.sh"]
        with guest.Guest(command, float(seconds)) as machine:
            try:
                problems += machine.end_well()
            except guest.Failed as e:
                problems.append(str(e))
            if target.read_bytes() != CONTENT:
                problems.append("the disks differ")
            machine.report(problems, "mmio", expected=["both disks are well"], unwanted=["needs a reset"])
    sys.exit(1 if problems else 0)


main()
