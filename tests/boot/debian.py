#!/usr/bin/env python3
"""Boots a whole Debian 12 through systemd to a login prompt, logs in, looks round, powers off.

    debian.py STRATA cloud|generic ENGINE CPUS,... SECONDS memory|efi

From an initramfs that is all of it (tools/make-debian), or from nothing but a disk (tools/make-debian-disk) by OVMF and GRUB.
Once for each number of processors with STRATA_TEST_LONG, else with the first of them only; from a disk, which takes as long to make as
to boot, with STRATA_TEST_LONG only.
Skips (77) where Debian's packages cannot be had or the host cannot run the engine.
"""
import os
import re
import subprocess
import sys
import tempfile

import guest

PROMPT = r"^root@strata:~# "
# On the way from the reset vector to the root file system.
BY_EFI = [r"BdsDxe: starting Boot", r"GRUB loads Linux", r"efi: EFI v2"]
# What the kernel and the system may say at the level of errors and warnings, and why.
KNOWN = [
    r"PCI: Fatal: No config space access function found",  # the machine has no PCI
    r"PCI: System does not support PCI",
    r"mce: Unable to init MCE device",  # nor machine-check banks
    r"device-mapper: core: CONFIG_IMA_DISABLE_HTABLE is disabled",  # how Debian configures its kernel
    r"could not read from '/sys/module/\w+/initstate': No such device",  # two load what refuses this machine: one fails, one looks
    r"hrtimer: interrupt took \d+ ns",  # the host was busy elsewhere in the middle of one
    r"-- No entries --",
]


def unknown(text):
    return [line for line in text.split("\n") if line.strip() and not any(re.search(known, line) for known in KNOWN)]


def shell(machine, command):
    return machine.shell(command, PROMPT)


def look_round(machine, cpus):
    """What is wrong in the system that runs."""
    problems = []
    _, state = shell(machine, "systemctl is-system-running --wait")
    if state.strip() != "running":
        problems.append(f"the system is {state.strip()}: {shell(machine, 'systemctl --failed --no-pager --plain')[1]}")
    for command in ("journalctl -p err -b -o cat --no-pager", "dmesg -l emerg,alert,crit,err,warn"):
        problems += [f"{command}: {line}" for line in unknown(shell(machine, command)[1])]
    _, listed = shell(machine, "lscpu")
    if not re.search(rf"^CPU\(s\): +{cpus}$", listed, re.M):
        problems.append(f"lscpu: {listed}")
    _, count = shell(machine, "nproc")
    if count.strip() != cpus:
        problems.append(f"nproc: {count}")
    return problems


def use(machine, cpus, efi):
    for mark in BY_EFI if efi else ():
        machine.wait_for(mark)
        print(f"{mark!r} after {machine.took():.1f} s")
    machine.wait_for(r"^strata login: ")
    print(f"login prompt after {machine.took():.1f} s")
    machine.type("root")
    shell(machine, "export TERM=dumb SYSTEMD_PAGER= SYSTEMD_COLORS=0")
    problems = look_round(machine, cpus)
    if efi and shell(machine, "test -d /sys/firmware/efi && findmnt -no SOURCE,OPTIONS /")[1].split(",")[0] != "/dev/vda2 rw":
        problems.append("the root is not the disk's second partition, or nobody knows of EFI")
    print(f"looked round after {machine.took():.1f} s")
    machine.wait_for(PROMPT)
    machine.type("systemctl poweroff")
    status = machine.end()
    return problems + ([f"exit status {status}, not 0"] if status else [])


def from_memory(flavour):
    return ["--kernel", guest.kernel(flavour), "--initrd", guest.tool("make-debian", flavour, guest.FOLDER),
            "--append", "console=ttyS0 panic=-1"]


def from_disk(flavour, work):
    """A copy, since whoever boots it writes to it."""
    disk = os.path.join(work, "disk")
    subprocess.run(["cp", "--sparse=always", guest.tool("make-debian-disk", f"{flavour}-efi", guest.FOLDER), disk], check=True)
    return ["--firmware", "ovmf", "--disk", f"{disk},format=raw"]


def boot(strata, source, engine, cpus, seconds, efi):
    """Whether all was well."""
    command = [strata, "run", "--engine", engine, *source, "--memory", "2G", "--cpus", cpus, "--no-reboot"]
    with guest.Guest(command, float(seconds)) as machine:
        try:
            problems = use(machine, cpus, efi)
        except guest.Failed as e:
            if machine.cannot() or "install Debian's package" in machine.text:
                guest.skip(machine.text.strip())
            problems = [str(e)]
        machine.report(problems, f"{'from a disk' if efi else 'from memory'} under {engine}, {cpus} cpus")
    return not problems


def main():
    strata, flavour, engine, counts, seconds, source = sys.argv[1:7]
    counts, efi = counts.split(","), source == "efi"
    if efi and not guest.LONG:
        guest.skip("a long test: STRATA_TEST_LONG=1 runs it")
    well = []
    for cpus in counts if guest.LONG else counts[:1]:
        with tempfile.TemporaryDirectory(dir=guest.FOLDER) as work:
            words = from_disk(flavour, work) if efi else from_memory(flavour)
            well.append(boot(strata, words, engine, cpus, seconds, efi))
    sys.exit(0 if all(well) else 1)


main()
