#!/usr/bin/env python3
"""Boots one of Debian's stock kernels, unmodified, to a shell command and a clean power-off.

    boot.py STRATA cloud|generic ENGINE CPUS SECONDS

Skips (77) where the kernel cannot be had (no network, not Debian) or the host cannot run the engine.
"""
import sys

import guest

# What the guest runs: its /init decodes %20.
COMMAND = ("uname%20-rm;%20head%20-c%20100000%20/dev/urandom%20|%20md5sum%20|%20wc%20-c;%20echo%20sum%20$((6*7));"
           "%20echo%20cpus%20$(nproc);%20cd%20/sys/devices/system;%20grep%20.%20cpu/cpu?/topology/*%20node/node?/cpulist")
# How four processors are arranged, and what the kernel makes of it: of processor 0, 1, ... in /sys/devices/system/cpu.
ARRANGED = {
    ("cloud", "4"): (",sockets=2,cores=2,threads=1,numa", {
        "physical_package_id": "0 0 1 1", "core_id": "0 1 0 1", "thread_siblings_list": "0 1 2 3",
        "core_siblings_list": "0-1 0-1 2-3 2-3"}, ["0-1", "2-3"]),
    ("generic", "4"): (",cores=2,threads=2", {
        "physical_package_id": "0 0 0 0", "core_id": "0 0 1 1", "thread_siblings_list": "0-1 0-1 2-3 2-3",
        "core_siblings_list": "0-3 0-3 0-3 0-3"}, ["0-3"]),
}


def arrangement(flavour, cpus):
    """The rest of --cpus, and what the guest is to say of it."""
    option, facts, nodes = ARRANGED.get((flavour, cpus), ("", {}, []))
    lines = [f"cpu/cpu{i}/topology/{fact}:{value}\n" for fact, values in facts.items() for i, value in enumerate(values.split())]
    return option, lines + [f"node/node{i}/cpulist:{of}\n" for i, of in enumerate(nodes)]


def main():
    strata, flavour, engine, cpus, seconds = sys.argv[1:6]
    kernel = guest.kernel(flavour)
    # Each test its own: two run side by side.
    initrd = guest.initramfs(f"boot-{flavour}-{engine}-{cpus}")
    option, facts = arrangement(flavour, cpus)
    expected = ["x86_64", "\n36", "sum 42", f"cpus {cpus}\n", "exit status 0", *facts]
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "512M", "--cpus", cpus + option,
               "--no-reboot", "--append", f"console=ttyS0 panic=-1 strata.run={COMMAND}"]
    problems = []
    with guest.Guest(command, float(seconds)) as machine:
        try:
            problems += machine.end_well()
        except guest.Failed as e:
            problems.append(str(e))
        problems += [f"missing in the output: {text!r}" for text in expected if text not in machine.text]
        machine.report(problems, f"{flavour} under {engine}, {cpus} cpus")
    sys.exit(1 if problems else 0)


main()
