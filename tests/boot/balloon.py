#!/usr/bin/env python3
"""The memory balloon: Debian's driver inflates it, and memory that the guest frees goes back to the host.

    balloon.py STRATA ENGINE SECONDS

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import re
import sys
import time
from pathlib import Path

import guest

PROMPT = r"^.*# $"
FILE_MIB = 200
BALLOON_MIB = 64
SHRINKS_MIB = 64  # at least: free ranges of less than 2 MiB are not reported


def resident(pid):
    """MiB of shared memory, which is what guests' is, that the monitor has mapped."""
    return int(re.search(r"^RssShmem:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)[1]) >> 10


def run(machine, command):
    status, output = machine.shell(command, PROMPT)
    print(f"{machine.took():.1f} s: {command}", flush=True)
    if status:
        raise guest.Failed(f"{command!r} ends with {status}: {output}")


def use(machine):
    pid = machine.machine.pid
    run(machine, "for m in /modules/*.ko; do insmod $m || exit 2; done")
    run(machine, f"until [ $(sed -n 's/balloon_inflate //p' /proc/vmstat) = {BALLOON_MIB << 8} ]; do usleep 100000; done")
    run(machine, "dd if=/dev/urandom of=/piece bs=1M count=8 && md5sum </piece >/sum")
    run(machine, f"for i in $(seq {FILE_MIB // 8}); do cat /piece; done >/file")
    full = resident(pid)
    run(machine, "mv /file /gone && rm /gone")
    while (now := resident(pid)) > full - SHRINKS_MIB:
        if time.monotonic() > machine.deadline:
            raise guest.Failed(f"{full} MiB are resident with a file of {FILE_MIB} MiB, and {now} MiB after its end")
        time.sleep(0.1)
    print(f"{full} MiB resident with a file of {FILE_MIB} MiB, {now} MiB without")
    # What was given back can be used again.
    run(machine, f"for i in $(seq {FILE_MIB // 8}); do cat /piece; done >/file")
    run(machine, f"dd if=/file bs=8M skip={FILE_MIB // 8 - 1} count=1 | md5sum | cmp - /sum")
    machine.type("exit")


def main():
    strata, engine, seconds = sys.argv[1:4]
    kernel = guest.kernel("cloud")
    initrd = guest.initramfs("balloon", guest.modules(kernel, ["virtio_pci", "virtio_balloon"]))
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "512M", "--no-reboot",
               "--balloon", f"{BALLOON_MIB}M", "--log", "guest", "--stats", "--append", "console=ttyS0 quiet panic=-1"]
    problems = []
    with guest.Guest(command, float(seconds)) as machine:
        try:
            use(machine)
            problems += machine.end_well()
        except guest.Failed as e:
            if machine.machine.poll() == guest.NOT_POSSIBLE_HERE:
                guest.skip(machine.text.strip())
            problems.append(str(e))
        problems += guest.forbidden(machine.text)
        problems += [f"in the output: {text!r}" for text in ["needs a reset"] if text in machine.text]
        given = re.search(r"^strata: balloon: (\d+) MiB", machine.text, re.M)
        if not given or int(given[1]) < BALLOON_MIB + SHRINKS_MIB:
            problems.append(f"given back in all: {given and given[1]} MiB")
        if problems:
            print(machine.text)
        print(*problems, f"balloon: {machine.took():.1f} s", sep="\n")
    sys.exit(1 if problems else 0)


main()
