#!/usr/bin/env python3
"""Two at a time, Debian's apt-cache builds its cache of packages and sums it up, writes it and sums it up again, hundreds of times on
processors that it moves between: memory that changes by itself, or is not where it should be, is a wrong sum.

    caches.py STRATA ENGINE[:SWITCH,...] CPUS SECONDS [ROUNDS]

Long runs only. Skips (77) without STRATA_TEST_LONG, where Debian's packages cannot be had, or where the host cannot run the engine.
"""
import os
import sys
from pathlib import Path

import guest

ROUNDS = 250
INIT = """#!/bin/bash
export PATH=/bin:/usr/bin:/sbin:/usr/sbin LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null # some kernels have done it
mount -t tmpfs tmpfs /tmp
mkdir /tmp/a /tmp/b
head -c 3000000 /bin/bash >/tmp/file
want=$(sha256sum </tmp/file)
rounds() {
	for n in $(seq ROUNDS); do
		options="-o Debug::NoLocking=1 -o Dir::Cache=/tmp/$1"
		out=$(apt-cache $options gencaches 2>&1) || echo "WRONG $1 $n, building: ${out//$'\\n'/ }"
		out=$(apt-cache $options stats 2>&1) || echo "WRONG $1 $n, reading: ${out//$'\\n'/ }"
		cat /tmp/file >/tmp/$1/copy
		[ "$(sha256sum </tmp/$1/copy)" = "$want" ] || echo "WRONG $1 $n, copying"
		rm -f /tmp/$1/*
		[ $((n % 25)) != 0 ] || echo "round $n of $1"
	done
}
rounds a &
rounds b &
wait
echo "all rounds done"
echo o >/proc/sysrq-trigger
sleep 60
"""


def initrd(rounds):
    """Debian's, and one file behind it."""
    debian = Path(guest.tool("make-debian", "cloud", guest.FOLDER)).read_bytes()
    archive = guest.make_initramfs().Newc()
    archive.add("caches", 0o100755, INIT.replace("ROUNDS", str(rounds)).encode())
    path = Path(guest.FOLDER) / f"caches.{os.getpid()}.cpio"
    path.write_bytes(debian + bytes(-len(debian) % 512) + archive.finish())
    return path


def main():
    strata, engine, cpus, seconds = sys.argv[1:5]
    rounds = int(sys.argv[5]) if len(sys.argv) > 5 else ROUNDS
    if not guest.LONG and len(sys.argv) <= 5:
        guest.skip("long runs only")
    engine, _, switches = engine.partition(":")
    path = initrd(rounds)
    command = [strata, "run", "--engine", engine, *([f"--{engine}", switches] if switches else []), "--kernel", guest.kernel("cloud"),
               "--initrd", path, "--memory", "1500M", "--cpus", cpus, "--no-reboot", "--append", "console=ttyS0 quiet panic=-1 rdinit=/caches"]
    try:
        with guest.Guest(command, float(seconds)) as machine:
            try:
                machine.wait_for(r"^all rounds done")
                status = machine.end()
                problems = [f"exit status {status}, not 0"] if status else []
            except guest.Failed as e:
                if machine.cannot():
                    guest.skip(machine.text.strip())
                problems = [str(e)]
            problems += [line for line in machine.text.splitlines() if line.startswith("WRONG")]
            machine.report(problems, f"{rounds} rounds of two under {engine}, {cpus} cpus")
    finally:
        path.unlink(missing_ok=True)
    sys.exit(1 if problems else 0)


main()
