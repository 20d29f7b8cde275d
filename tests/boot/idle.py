#!/usr/bin/env python3
"""A machine that does nothing costs next to nothing: the processor time of the whole monitor while a shell waits at its prompt.

    idle.py STRATA ENGINE SECONDS

30 seconds of it with STRATA_TEST_LONG, else 5. Other work on the host makes it slower, not busier, so that time is no flaw here.
Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import os
import sys
import time

import guest

SHARE_MAX = 0.02  # of one of the host's processors
WATCHED = 30 if guest.LONG else 5


def used(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    strata, engine, seconds = sys.argv[1:4]
    kernel, initrd = guest.kernel("cloud"), guest.initramfs("idle")
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "256M", "--no-reboot",
               "--append", "console=ttyS0 panic=-1"]
    problems = []
    with guest.Guest(command, float(seconds)) as machine:
        try:
            machine.wait_for(r"^.*# $")
            time.sleep(3)  # what a kernel does after its boot
            before, began = used(machine.machine.pid), time.monotonic()
            time.sleep(WATCHED)
            share = (used(machine.machine.pid) - before) / (time.monotonic() - began)
            print(f"{share:.2%} of a processor over {WATCHED} s")
            if share > SHARE_MAX:
                problems.append(f"{share:.2%} of a processor, not {SHARE_MAX:.0%} at most")
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
