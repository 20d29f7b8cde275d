#!/usr/bin/env python3
"""The memory balloon: Debian's driver inflates it, and memory that the guest frees goes back to the host.

    balloon.py STRATA ENGINE SECONDS

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import guest

PROMPT = r"^.*# $"
FILE_MIB = 200
BALLOON_MIB, LATER_MIB = 64, 96
SHRINKS_MIB = 128  # at least: free ranges of less than 2 MiB are not reported


class Machine(guest.Guest):
    def ask(self, size):
        subprocess.run([self.strata, "balloon", "guest", size], check=True, env=self.env, timeout=60)

    def held(self):
        """MiB of the host's memory that are the guest's: what was never touched, or was given back, is not."""
        shown = subprocess.run([self.strata, "show", "guest", "--json"], check=True, env=self.env, capture_output=True, timeout=60)
        return json.loads(shown.stdout)["host_memory"] >> 20


def run(machine, command):
    status, output = machine.shell(command, PROMPT)
    print(f"{machine.took():.1f} s: {command}", flush=True)
    if status:
        raise guest.Failed(f"{command!r} ends with {status}: {output}")


def use(machine):
    run(machine, "for m in /modules/*.ko; do insmod $m || exit 2; done")
    for size in (BALLOON_MIB, LATER_MIB):
        machine.ask(f"{size}M")
        run(machine, f"until [ $(sed -n 's/balloon_inflate //p' /proc/vmstat) = {size << 8} ]; do usleep 100000; done")
    run(machine, "dd if=/dev/urandom of=/piece bs=1M count=8 && md5sum </piece >/sum")
    run(machine, f"for i in $(seq {FILE_MIB // 8}); do cat /piece; done >/file")
    full = machine.held()
    run(machine, "mv /file /gone && rm /gone")
    while (now := machine.held()) > full - SHRINKS_MIB:
        if time.monotonic() > machine.deadline:
            raise guest.Failed(f"{full} MiB are held with a file of {FILE_MIB} MiB, and {now} MiB after its end")
        time.sleep(0.2)
    print(f"{full} MiB held with a file of {FILE_MIB} MiB, {now} MiB without")
    # What was given back can be used again.
    run(machine, f"for i in $(seq {FILE_MIB // 8}); do cat /piece; done >/file")
    run(machine, f"dd if=/file bs=8M skip={FILE_MIB // 8 - 1} count=1 | md5sum | cmp - /sum")
    machine.type("exit")


def main():
    strata, engine, seconds = sys.argv[1:4]
    kernel = guest.kernel("cloud")
    initrd = guest.initramfs("balloon", guest.modules(kernel, ["virtio_pci", "virtio_balloon"]))
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "512M", "--no-reboot",
               "--balloon", f"{BALLOON_MIB}M", "--log", "guest", "--stats", "--name", "guest", "--append", "console=ttyS0 quiet panic=-1"]
    problems = []
    with tempfile.TemporaryDirectory() as state, Machine(command, float(seconds), os.environ | {"XDG_STATE_HOME": state}) as machine:
        machine.strata, machine.env = strata, os.environ | {"XDG_STATE_HOME": state}
        try:
            use(machine)
            problems += machine.end_well()
        except guest.Failed as e:
            if machine.machine.poll() == guest.NOT_POSSIBLE_HERE:
                guest.skip(machine.text.strip())
            problems.append(str(e))
        given = re.search(r"^strata: balloon: (\d+) MiB", machine.text, re.M)
        if not given or int(given[1]) < LATER_MIB + SHRINKS_MIB:
            problems.append(f"given back in all: {given and given[1]} MiB")
        machine.report(problems, "balloon", unwanted=["needs a reset"])
    sys.exit(1 if problems else 0)


main()
