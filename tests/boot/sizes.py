#!/usr/bin/env python3
"""Memory from 128 MiB to 16 GiB: the guest has all of it, on both sides of PCI's hole, and the host gives what is touched only.

    sizes.py STRATA ENGINE SECONDS

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import pathlib
import re
import sys

import guest

MIB = 1 << 20
# The machine's memory, and what the kernel may keep of it before it counts (its own image, its page descriptors), in MiB.
SIZES = [(128, 48), (4096, 192), (16384, 448)]
HELD_MAX = 640 * MIB  # whatever the machine's size: 256 MiB are the guest's page descriptors, with 16 GiB


def held_by(pid):
    """What the host gave: the monitor's own memory, and what its guest's RAM, a file without a name, holds, whether mapped just now
    or not (the translator's windows come and go). An ordinary user may not look at the file, and hears of the monitor's own only."""
    folder = pathlib.Path(f"/proc/{pid}")
    own = int(re.search(r"^RssAnon:\s+(\d+) kB$", (folder / "status").read_text(encoding="ascii"), re.M).group(1)) << 10
    try:
        files = [fd.stat() for fd in (folder / "fd").iterdir() if "memfd" in str(fd.readlink())]
    except PermissionError:
        return own
    return own + sum({f.st_ino: f.st_blocks * 512 for f in files}.values())


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
            held = held_by(machine.machine.pid)
            machine.type("")
            problems += machine.end_well()
            if not size * MIB - kept * MIB <= total <= size * MIB:
                problems.append(f"the guest has {total // MIB} MiB")
            if held > HELD_MAX:
                problems.append(f"{held // MIB} MiB are held")
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
