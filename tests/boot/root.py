#!/usr/bin/env python3
"""A kernel that has the drivers built in boots from a disk, without an initrd: the partition's file system is the root.

    root.py STRATA ENGINE CPUS SECONDS

Twice: what the first boot wrote, the second one reads. Skips (77) where the kernel cannot be had or the host cannot run the
engine.
"""
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import guest

MIB = 1 << 20
INIT = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -o remount,rw /
grep -q '/dev/root / ext4 rw' /proc/mounts || echo "WRONG: the root is not writable"
if [ -e /written ]; then
	md5sum -c /written >/dev/null || echo "WRONG: what was written comes back differently"
	echo "the second boot is well"
else
	head -c 3000000 /dev/urandom >/random
	md5sum /random >/written
	echo "the first boot is well"
fi
sync
mount -o remount,ro /
poweroff -f
"""


def make_disk(path):
    """64 MiB with one partition, which holds an ext4 file system with busybox."""
    if not shutil.which("mke2fs", path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
        guest.skip("mke2fs is missing: e2fsprogs has it")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("bin", "dev", "proc", "sys", "sbin"):
            (root / name).mkdir()
        shutil.copy(guest.busybox(), root / "bin/busybox")
        for name in ("sh", "mount", "grep", "md5sum", "head", "sync", "poweroff", "echo"):
            (root / "bin" / name).symlink_to("busybox")
        (root / "sbin/init").write_text(INIT)
        (root / "sbin/init").chmod(0o755)
        with open(path, "wb") as disk:
            disk.truncate(64 * MIB)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", folder, "-E", f"offset={MIB},root_owner=0:0", path, "60M"],
                       check=True, env=os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}, stdout=subprocess.DEVNULL)
    # A partition table of the PC's kind: one row, for Linux, from sector 2048 on.
    with open(path, "r+b") as disk:
        disk.seek(446)
        disk.write(struct.pack("<B3sB3sII", 0, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", 2048, 60 * MIB // 512))
        disk.seek(510)
        disk.write(b"\x55\xaa")


def main():
    strata, engine, cpus, seconds = sys.argv[1:5]
    kernel = guest.kernel("cloud")
    work = tempfile.TemporaryDirectory()
    make_disk(f"{work.name}/disk")
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--memory", "512M", "--cpus", cpus, "--no-reboot",
               "--disk", f"{work.name}/disk,format=raw,bus=nvme", "--append", "console=ttyS0 panic=-1 root=/dev/nvme0n1p1"]
    problems = []
    for boot in ("first", "second"):
        with guest.Guest(command, float(seconds)) as machine:
            try:
                problems += machine.end_well()
            except guest.Failed as e:
                problems.append(str(e))
            if f"the {boot} boot is well" not in machine.text or "WRONG" in machine.text:
                problems.append(f"the {boot} boot is not well")
            machine.report(problems, f"{boot} boot under {engine}, {cpus} cpus")
    sys.exit(1 if problems else 0)


main()
