#!/usr/bin/env python3
"""Memory from 128 MiB to 16 GiB: the guest has all of it, on both sides of PCI's hole, and the host gives what is touched only.

    sizes.py STRATA ENGINE SECONDS

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import re
import sys

import guest

MIB = 1 << 20
# The machine's memory, and what the kernel may keep of it before it counts (its own image, its page descriptors), in MiB.
SIZES = [(128, 48), (4096, 192), (16384, 448)]
RESIDENT_MAX = 384 * MIB  # of the monitor, whatever the machine's size: mostly the guest's page descriptors, for 16 GiB


def resident(pid):
    """A page of the guest that is mapped several times, as the translator's windows are, counts once; an ordinary user, who may not
    look so closely, hears only of what is the monitor's own."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            return int(re.search(r"^Pss:\s+(\d+) kB$", f.read(), re.M).group(1)) << 10
    except PermissionError:
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return int(re.search(r"^RssAnon:\s+(\d+) kB$", f.read(), re.M).group(1)) << 10


def boot(strata, engine, seconds, size, kept):
    """What is wrong."""
    kernel, initrd = guest.kernel("cloud"), guest.initramfs("sizes")
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", f"{size}M", "--no-reboot", "--overcommit",
               "--append", "console=ttyS0 panic=-1 strata.run=grep%20MemTotal%20/proc/meminfo;%20grep%20RAM%20/proc/iomem;"
               "%20echo%20here;%20read%20x"]
    problems = []
    with guest.Guest(command, seconds) as machine:
        try:
            total = int(machine.wait_for(r"^MemTotal: +(\d+) kB").group(1)) << 10
            machine.wait_for("^here")
            held = resident(machine.machine.pid)
            machine.type("")
            problems += machine.end_well()
            if not size * MIB - kept * MIB <= total <= size * MIB:
                problems.append(f"the guest has {total // MIB} MiB")
            if held > RESIDENT_MAX:
                problems.append(f"{held // MIB} MiB are resident")
            if size >= 4096 and not re.search(r"^100000000-[0-9a-f]+ : System RAM", machine.text, re.M):
                problems.append("no memory above 4 GiB")
            print(f"{size} MiB: the guest has {total // MIB}, the monitor holds {held // MIB}, {machine.took():.1f} s")
        except guest.Failed as e:
            problems.append(str(e))
        problems += guest.forbidden(machine.text)
        if problems:
            print(machine.text)
    return [f"{size} MiB: {problem}" for problem in problems]


def main():
    strata, engine, seconds = sys.argv[1:4]
    problems = [problem for size, kept in SIZES for problem in boot(strata, engine, float(seconds), size, kept)]
    print(*problems, sep="\n")
    sys.exit(1 if problems else 0)


main()
