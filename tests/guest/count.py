#!/usr/bin/env python3
"""Translated code counts its instructions as the interpreter counts them: guest programs that do the same each time are run under both.

    count.py STRATA PROGRAMS [SWITCH,...]

The interpreter finishes the block in which the guest asks for its end, so that it is a few instructions ahead.
"""
import re
import subprocess
import sys

# Loops made twice, branches out of superblocks, faults within pieces and of the jumps that end them, code that changes, changes of AC,
# strings, both widths of code.
PROGRAMS = ["long-arrays", "long-compat", "long-control", "long-exceptions", "long-integer", "long-loops", "long-paging", "long-rebase", "long-rep",
            "long-simd", "long-smap", "long-smc", "long-straddle", "long-strings", "long-syscall", "prot-task"]
AHEAD = 16


def counted(strata, folder, program, *engine):
    done = subprocess.run([strata, "run", "--engine", *engine, "--kernel", f"{folder}/{program}", "--memory", "256M", "--no-reboot", "--stats"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300)
    if done.returncode == 3:
        print(done.stderr)
        sys.exit(77)
    found = re.search(r"(\d+) instructions \(", done.stderr)
    if not found or done.returncode != 33:
        sys.exit(f"{program} under {' '.join(engine)}: exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return int(found[1])


def main():
    strata, folder, switches = sys.argv[1], sys.argv[2], ",".join(["count", *sys.argv[3:]])
    wrong = 0
    for program in PROGRAMS:
        want = counted(strata, folder, program, "interpret")
        have = counted(strata, folder, program, "translate", "--translate", switches)
        right = 0 <= want - have <= AHEAD
        wrong += not right
        print(f"{'ok  ' if right else 'FAIL'} {program}: {want} interpreted, {have} translated")
    sys.exit(1 if wrong else 0)


main()
