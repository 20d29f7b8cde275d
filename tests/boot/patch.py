#!/usr/bin/env python3
"""A kernel that patches its own code while all its processors run it: see patch.sh, which the guest runs.

    patch.py STRATA cloud|generic ENGINE CPUS SECONDS LONG_SECONDS

SECONDS of patching, LONG_SECONDS with STRATA_TEST_LONG; 0 of them: none.
Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import os
import re
import sys
from pathlib import Path

import guest

# Without dependencies, in the kernel's package; those that a kernel does not have are left out.
MODULES = ["crc32_generic", "dummy", "loop", "raid6_pq", "veth", "xor"]
BOOT_SECONDS = 120
# Patching everything at once is one long step. A processor that is stuck for good does not come to the end in time.
PATIENCE = "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=300"


def module_files(kernel):
    found = {path.name: path for path in (Path(kernel).parent / "lib/modules").rglob("*.ko")}
    return {f"modules/{name}.ko": found[f"{name}.ko"].read_bytes() for name in MODULES if f"{name}.ko" in found}


def main():
    strata, flavour, engine, cpus, short, long = sys.argv[1:7]
    seconds = long if guest.LONG else short
    if seconds == "0":
        guest.skip("only with STRATA_TEST_LONG=1")
    kernel = guest.kernel(flavour)
    files = module_files(kernel)
    script = Path(__file__).with_name("patch.sh").read_bytes()
    initrd = guest.initramfs(f"patch-{flavour}-{engine}-{cpus}", {"patch.sh": script} | files)
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "512M", "--cpus", cpus,
               "--no-reboot", "--append", f"console=ttyS0 panic=-1 {PATIENCE} strata.run=sh%20/patch.sh%20{seconds}"]
    problems = []
    with guest.Guest(command, BOOT_SECONDS + 5 * float(seconds)) as machine:
        try:
            problems += machine.end_well()
        except guest.Failed as e:
            problems.append(str(e))
        text = machine.text
        problems += guest.forbidden(text) + re.findall(r"^WRONG: .*", text, re.M)
        workers = [int(rounds) for rounds in re.findall(r"^worker \d+: (\d+) rounds", text, re.M)]
        if len(workers) != int(cpus) - 1 or 0 in workers:
            problems.append(f"workers that came through, by their rounds: {workers}")
        said = re.search(r"^turns (\d+), patched \d+ times, modules (\d+), seen in the trace (\d+)$", text, re.M)
        if not said or "0" in said.groups():
            problems.append("not everything was done once")
        if problems:
            print(text)
        print(*problems, said[0] if said else "", f"workers' rounds: {workers}",
              f"{flavour} under {engine}, {cpus} cpus: {machine.took():.1f} s", sep="\n")
    os.unlink(initrd)
    sys.exit(1 if problems else 0)


main()
