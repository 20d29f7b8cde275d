#!/usr/bin/env python3
"""A machine that does nothing costs next to nothing: how often the whole monitor wakes up while a shell waits at its prompt.

    idle.py STRATA ENGINE SECONDS

30 seconds of it with STRATA_TEST_LONG, else 5. What decides is a count: the host's pace and other work on it change the time of a
wake-up, not their number. A thread that spins does not wake up; it is seen by its time, of which even the slowest host needs little.
Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import os
import sys
import time

import guest

WAKES_MAX = 50  # a second, of all threads; Debian's kernel has some ten
SPIN = 0.25  # of one of the host's processors
WATCHED = 30 if guest.LONG else 5


def wakes(pid):
    """How often a thread has begun to wait."""
    count = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status", encoding="ascii") as f:
            count += sum(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt_switches"))
    return count


def used(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    strata, engine, limit = sys.argv[1:4]
    kernel, initrd = guest.kernel("cloud"), guest.initramfs("idle")
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "256M", "--no-reboot",
               "--append", "console=ttyS0 panic=-1"]
    problems = []
    with guest.Guest(command, float(limit)) as machine:
        try:
            machine.wait_for(r"^.*# $")
            time.sleep(3)  # what a kernel does after its boot
            pid = machine.machine.pid
            before, began, waits = used(pid), time.monotonic(), wakes(pid)
            time.sleep(WATCHED)
            waits, seconds = wakes(pid) - waits, time.monotonic() - began
            share, rate = (used(pid) - before) / seconds, waits / seconds
            print(f"{rate:.0f} wake-ups a second, {share:.2%} of a processor, over {WATCHED} s")
            if rate > WAKES_MAX:
                problems.append(f"{rate:.0f} wake-ups a second, not {WAKES_MAX} at most")
            if share > SPIN:
                problems.append(f"{share:.0%} of a processor: somebody spins")
            machine.type("exit")
            status = machine.end()
            if status:
                problems.append(f"exit status {status}, not 0")
        except guest.Failed as e:
            if machine.cannot():
                guest.skip(machine.text.strip())
            problems.append(str(e))
        problems += guest.forbidden(machine.text)
        if problems:
            print(machine.text)
    print(*problems, sep="\n")
    sys.exit(1 if problems else 0)


main()
