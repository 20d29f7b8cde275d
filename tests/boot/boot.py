#!/usr/bin/env python3
"""Boots one of Debian's stock kernels, unmodified, to a shell command and a clean power-off.

    boot.py STRATA cloud|generic ENGINE CPUS SECONDS

Skips (77) where the kernel cannot be had (no network, not Debian) or the host cannot run the engine.
"""
import sys

import guest

# What the guest runs: its /init decodes %20.
COMMAND = ("uname%20-rm;%20head%20-c%20100000%20/dev/urandom%20|%20md5sum%20|%20wc%20-c;%20echo%20sum%20$((6*7));"
           "%20echo%20cpus%20$(nproc)")


def main():
    strata, flavour, engine, cpus, seconds = sys.argv[1:6]
    kernel = guest.kernel(flavour)
    # Each test its own: two run side by side.
    initrd = guest.initramfs(f"boot-{flavour}-{engine}-{cpus}")
    expected = ["x86_64", "\n36", "sum 42", f"cpus {cpus}\n", "exit status 0"]
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "512M", "--cpus", cpus,
               "--no-reboot", "--append", f"console=ttyS0 panic=-1 strata.run={COMMAND}"]
    problems = []
    with guest.Guest(command, float(seconds)) as machine:
        try:
            problems += machine.end_well()
        except guest.Failed as e:
            problems.append(str(e))
        problems += [f"missing in the output: {text!r}" for text in expected if text not in machine.text]
        problems += guest.forbidden(machine.text)
        if problems:
            print(machine.text)
        print(*problems, f"{flavour} under {engine}, {cpus} cpus: {machine.took():.1f} s", sep="\n")
    sys.exit(1 if problems else 0)


main()
