#!/usr/bin/env python3
"""Firmware boots a disk: SeaBIOS or OVMF finds it, GRUB (tools/make-boot-disk) loads Debian's stock kernel, which runs a command.

    firmware.py STRATA FIRMWARE ENGINE CPUS SECONDS virtio|ide|nvme|ahci|cdrom

Then, but for the slow engine, a machine that resets itself. Skips (77) where the kernel or the firmware cannot be had.
"""
import re
import sys

import guest

MEMORY = "512M"
COMMAND = ("echo%20cpus%20$(nproc)%20sum%20$((6*7));"
           "%20ls%20/sys/firmware/acpi/tables/MCFG%20/sys/firmware/dmi/tables/DMI;"
           "%20grep%20-q%20Strata%20/sys/class/dmi/id/sys_vendor%20&&%20echo%20by%20Strata")
EXPECTED = ["GRUB loads Linux", "/sys/firmware/acpi/tables/MCFG", "/sys/firmware/dmi/tables/DMI",
            "by Strata", "exit status 0"]
SAYS = {"seabios": ["SeaBIOS (version", "Booting from "], "ovmf": ["BdsDxe: starting Boot", "efi: EFI v2"]}
MISSING = ["ACPI Error", "ACPI BIOS Error", "ACPI BIOS Warning", "No config space access function"]


def reboots(command, seconds):
    """What is wrong with a machine that is reset: firmware and boot loader must come again, and so must the kernel."""
    with guest.Guest([word for word in command if word != "--no-reboot"], seconds) as machine:
        try:
            for _ in range(2):
                machine.wait_for("GRUB loads Linux")
                machine.wait_for("Linux version")
        except guest.Failed as e:
            return [f"reset: {e}", machine.text]
    return []


def make_disk(disk, name, command):
    guest.tool("make-boot-disk", disk, guest.kernel("cloud"), guest.initramfs(name), f"console=ttyS0 panic=-1 strata.run={command}")

def main():
    strata, firmware, engine, cpus, seconds, bus = sys.argv[1:7]
    name = f"firmware-{firmware}-{engine}-{bus}"
    disk = f"{guest.FOLDER}/{name}.{'iso' if bus == 'cdrom' else 'efi' if firmware == 'ovmf' else 'disk'}"
    drive = ["--cdrom", disk] if bus == "cdrom" else ["--disk", f"{disk},format=raw,readonly,bus={bus}"]
    make_disk(disk, name, COMMAND)
    command = [strata, "run", "--engine", engine, "--firmware", firmware, *drive,
               "--memory", MEMORY, "--cpus", cpus, "--no-reboot", *(["--translate", "stats"] if engine == "translate" else [])]
    problems = []
    with guest.Guest(command, float(seconds)) as machine:
        try:
            machine.wait_for("GRUB loads Linux")
            print(f"GRUB's menu after {machine.took():.1f} s")
            machine.wait_for("Linux version")
            print(f"Linux's first line after {machine.took():.1f} s")
            problems += machine.end_well()
        except guest.Failed as e:
            problems.append(str(e))
            if "install Debian's package" in machine.text:
                guest.skip(machine.text.strip())
        took = machine.took()
        problems += guest.forbidden(machine.text)
        problems += [f"missing in the output: {text!r}" for text in [*EXPECTED, *SAYS[firmware], f"cpus {cpus} sum 42"] if text not in machine.text]
        problems += [f"in the output: {text!r}" for text in MISSING if text in machine.text]
        # What firmware and boot loaders did, without paging and with it, must not keep the translator from this later on.
        if engine == "translate" and not re.search(r"put back [1-9]", machine.text):
            problems.append("nothing of an address space was put back when it returned")
        if problems:
            print(machine.text)
        elif bus == "virtio" and firmware == "seabios" and engine != "interpret":
            make_disk(disk, name, "reboot%20-f")
            problems += reboots(command, float(seconds))
        print(*problems, f"{firmware} from {bus} under {engine}, {cpus} cpus: {took:.1f} s", sep="\n")
    sys.exit(1 if problems else 0)


main()
