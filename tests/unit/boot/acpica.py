#!/usr/bin/env python3
"""Lets ACPICA, the interpreter inside Linux and the BSDs, read the ACPI tables.

usage: acpica.py TEST-ACPI

iasl must disassemble each table without complaint and compile the DSDT's source again; acpiexec
must load them and know the devices by name. Exit status 77 when ACPICA's tools are missing.
"""
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# What acpiexec must print: names it loaded, and resources and values it decoded.
FACTS = ["COM2 Device", "VR01 Device", "Address : FEDA1000", "RTC_ Device", "KBD_ Device", "HPET Device", "C000 Device", "C0FE Device",
         "Address Minimum : 03F8", "Interrupt List : 4", "Address : FEC00000", "Contains 4 Elements",
         "PCI0 Device", "Address Minimum : C0000000", "Address Maximum : 000000817FFFFFFF",
         "S018 Device", "S01F Device", "HPEV Method", "_E01 Method", "VGEN Device", "00000000000DF000", "Received a Device Notify on [VGEN]"]
COMMANDS = r"namespace;resources \_SB.COM1;resources \_SB.MBRD;resources \_SB.PCI0;resources \_SB.VR01;evaluate \_S5;evaluate \_GPE._E01;evaluate \_SB.VGEN.ADDR;evaluate \_GPE._E02;evaluate \_SB.PCI0.S018._EJ0 1"


def run(*command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def fail(what, text):
    print(f"{what}:\n{text}")
    sys.exit(1)


def main():
    if not shutil.which("iasl") or not shutil.which("acpiexec"):
        print("iasl or acpiexec is missing (package acpica-tools)")
        return 77
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True, timeout=60)
        tables = sorted(p.name for p in Path(folder).glob("*.dat"))
        for table in tables:
            status, text = run("iasl", "-d", table, folder=folder)
            if status or re.search(r"error|warning|incorrect|invalid|unknown", text, re.I):
                fail(f"iasl -d {table}", text)
        status, text = run("iasl", "-p", "again", "DSDT.dsl", folder=folder)
        if status or not re.search(r"\b0 Errors, 0 Warnings", text):
            fail("iasl DSDT.dsl", text)
        status, text = run("acpiexec", "-b", COMMANDS, *tables, folder=folder)
        missing = [fact for fact in FACTS if fact not in text]
        if status or missing or re.search(r"ACPI (Error|Warning|BIOS Error)", text):
            fail(f"acpiexec (missing: {missing})", text)
    print(f"{len(tables)} tables")
    return 0


sys.exit(main())
