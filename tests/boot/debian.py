#!/usr/bin/env python3
"""Boots a whole Debian 12 (tools/make-debian) through systemd to a login prompt, logs in, looks round, powers off.

    debian.py STRATA cloud|generic ENGINE CPUS,... SECONDS

Once for each number of processors with STRATA_TEST_LONG, else with the first of them only.
Skips (77) where Debian's packages cannot be had or the host cannot run the engine.
"""
import re
import sys

import guest

PROMPT = r"^root@strata:~# "
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


def use(machine, cpus):
    machine.wait_for(r"^strata login: ")
    print(f"login prompt after {machine.took():.1f} s")
    machine.type("root")
    shell(machine, "export TERM=dumb SYSTEMD_PAGER= SYSTEMD_COLORS=0")
    problems = look_round(machine, cpus)
    print(f"looked round after {machine.took():.1f} s")
    machine.wait_for(PROMPT)
    machine.type("systemctl poweroff")
    status = machine.end()
    return problems + ([f"exit status {status}, not 0"] if status else [])


def boot(strata, flavour, engine, cpus, seconds):
    """Whether all was well."""
    kernel = guest.kernel(flavour)
    initrd = guest.tool("make-debian", flavour, guest.FOLDER)
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "2G", "--cpus", cpus,
               "--no-reboot", "--append", "console=ttyS0 panic=-1"]
    with guest.Guest(command, float(seconds)) as machine:
        try:
            problems = use(machine, cpus)
        except guest.Failed as e:
            if machine.cannot():
                guest.skip(machine.text.strip())
            problems = [str(e)]
        machine.report(problems, f"{flavour} under {engine}, {cpus} cpus")
    return not problems


def main():
    strata, flavour, engine, counts, seconds = sys.argv[1:6]
    counts = counts.split(",")
    well = [boot(strata, flavour, engine, cpus, seconds) for cpus in (counts if guest.LONG else counts[:1])]
    sys.exit(0 if all(well) else 1)


main()
