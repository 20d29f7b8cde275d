#!/usr/bin/env python3
"""The host has no room for what a guest writes: the guest is paused, sees no error, and goes on when there is room.

    full.py STRATA ENGINE CPUS SECONDS

A limit of the process's file sizes stands for a full disk, set from outside: the sandbox would not let us. Skips (77) where the kernel cannot be had or the host cannot run the
engine.
"""
import hashlib
import os
import random
import resource
import sys
import tempfile
from pathlib import Path

import guest

MIB = 1 << 20
SCRIPT = b"""dd if=/dev/nvme0n1 of=/tmp/data bs=1M count=8 2>/dev/null
echo "ready"
read line
echo "writing at $(cut -d. -f1 /proc/uptime)"
dd if=/tmp/data of=/dev/nvme0n1 bs=1M seek=40 conv=fsync 2>/dev/null || echo "WRONG: cannot write"
echo "written at $(cut -d. -f1 /proc/uptime)"
dmesg | grep -iE "error|timeout|abort|stall" && echo "WRONG: the kernel has seen it"
true
"""


def use(machine):
    machine.wait_for("^ready")
    usual = resource.prlimit(machine.machine.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(machine.machine.pid, resource.RLIMIT_FSIZE, (32 * MIB, usual[1]))
    machine.type("")
    machine.wait_for(r"no room on the host: the guest is paused")
    if "\nwritten at" in machine.text:
        yield "written although there was no room"
    resource.prlimit(machine.machine.pid, resource.RLIMIT_FSIZE, usual)
    machine.wait_for(r"there is room again")
    machine.wait_for(r"^written at")
    yield from machine.end_well()


def main():
    strata, engine, cpus, seconds = sys.argv[1:5]
    kernel = guest.kernel("cloud")
    initrd = guest.initramfs(f"full-{engine}-{cpus}", {"full.sh": SCRIPT})
    work = tempfile.TemporaryDirectory()
    disk, data = Path(work.name) / "disk", random.Random(3).randbytes(8 * MIB)
    disk.write_bytes(data)
    os.truncate(disk, 64 * MIB)
    command = [strata, "run", "--engine", engine, "--kernel", kernel,
               "--initrd", initrd, "--memory", "512M", "--cpus", cpus, "--no-reboot", "--no-sandbox", "--disk", f"{disk},format=raw,bus=nvme",
               "--append", "console=ttyS0 panic=-1 strata.run=sh%20/full.sh"]
    problems = []
    with guest.Guest(command, float(seconds)) as machine:
        try:
            problems += use(machine)
        except guest.Failed as e:
            if machine.cannot():
                guest.skip(machine.text.strip())
            problems.append(str(e))
        if "WRONG" in machine.text:
            problems.append("the guest has noticed")
        if hashlib.md5(disk.read_bytes()[40 * MIB:48 * MIB]).digest() != hashlib.md5(data).digest():
            problems.append("the disk does not hold what was written")
        machine.report(problems, f"full disk under {engine}, {cpus} cpus")
    sys.exit(1 if problems else 0)


main()
