#!/usr/bin/env python3
"""Debian's stock drivers bind to the machine's devices: see devices.sh, which the guest runs.

    devices.py STRATA cloud|generic ENGINE CPUS SECONDS

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import sys
from pathlib import Path

import guest

# Each after those it needs; what a kernel has built in is not in its package.
MODULES = ["virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "rng-core", "virtio-rng"]


def module_files(kernel):
    found = {path.name: path for path in (Path(kernel).parent / "lib/modules").rglob("*.ko")}
    names = [name for name in MODULES if f"{name}.ko" in found]
    files = {f"modules/{i:02}-{name}.ko": found[f"{name}.ko"].read_bytes() for i, name in enumerate(names)}
    return files


def main():
    strata, flavour, engine, cpus, seconds = sys.argv[1:6]
    kernel = guest.kernel(flavour)
    script = Path(__file__).with_name("devices.sh").read_bytes()
    initrd = guest.initramfs(f"devices-{flavour}-{engine}-{cpus}", {"devices.sh": script} | module_files(kernel))
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "512M", "--cpus", cpus,
               "--no-reboot", "--log", "guest", "--append", "console=ttyS0 panic=-1 strata.run=sh%20/devices.sh"]
    problems = []
    with guest.Guest(command, float(seconds)) as machine:
        try:
            status = machine.end()
            if status == guest.NOT_POSSIBLE_HERE:
                guest.skip(machine.text.strip())
            if status != 0:
                problems.append(f"exit status {status}, not 0")
        except guest.Failed as e:
            problems.append(str(e))
        problems += guest.forbidden(machine.text)
        problems += [f"missing in the output: {text!r}" for text in ["all devices are well", "exit status 0"]
                     if text not in machine.text]
        problems += [f"in the output: {text!r}" for text in ["No config space access function", "needs a reset"]
                     if text in machine.text]
        if problems:
            print(machine.text)
        print(*problems, f"{flavour} under {engine}, {cpus} cpus: {machine.took():.1f} s", sep="\n")
    sys.exit(1 if problems else 0)


main()
