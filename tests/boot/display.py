#!/usr/bin/env python3
"""A person at a VNC viewer: reads what SeaBIOS, GRUB and Linux write on the screen, types commands, moves the mouse.

    display.py STRATA ENGINE CPUS SECONDS

Text is found in the picture by the shapes of the video BIOS's font, first in text mode, then in Linux's frame buffer by bochs-drm.
Skips (77) where the kernel or the firmware cannot be had.
"""
import os
import sys
import tempfile
import time
from pathlib import Path

import guest
import rfb

ROM = Path("/usr/share/seabios/vgabios-stdvga.bin")
MODULES = ["psmouse", "bochs"]
ALPHABET = "abcdefghijklmnopqrstuvwxyzWRONG0123456789"


class Person:
    """Watches a machine's screen until it shows something; `machine` says when it has ended instead."""

    def __init__(self, address, machine, seconds):
        self.viewer = rfb.Viewer(address, seconds)
        self.machine, self.begun, self.deadline = machine, time.monotonic(), time.monotonic() + seconds
        self.font = rfb.Font(ROM.read_bytes())

    def text(self):
        return self.font.text(self.viewer)

    def wait_for(self, *words):
        """One of the words; which."""
        while True:
            self.viewer.update(0.1)
            text = self.text()
            if found := [word for word in words if word in text]:
                return found[0]
            if time.monotonic() > self.deadline or self.machine.poll() is not None:
                raise guest.Failed(f"{words} not on the screen, which is {self.viewer.width} by {self.viewer.height} and shows:\n{text}")

    def watch_to_the_end(self):
        """Who does not take the picture is not heard either: the server reads what a viewer sends once it has sent what it owes."""
        try:
            while self.machine.poll() is None and time.monotonic() < self.deadline:
                self.viewer.update(0.1)
        except (EOFError, ConnectionError):
            pass

    def enter(self, line, *words):
        self.viewer.type(line + "\n")
        return self.wait_for(*words)


def session(person):
    """What is wrong."""
    person.wait_for("SeaBIOS (version", "GRUB loads Linux")
    person.wait_for("GRUB loads Linux", "Linux version")
    person.wait_for("'exit' powers off")
    if (person.viewer.width, person.viewer.height) != (720, 400):
        yield f"text mode is {person.viewer.width} by {person.viewer.height}"
    person.enter('echo "<$((6*7)) $(uname -s)>"', "<42 Linux>")
    print(f"typed in text mode after {time.monotonic() - person.begun:.1f} s")
    if person.enter("clear; sh /display.sh", "abcde", "WRONG") == "WRONG":
        yield person.text()
        return
    person.viewer.update(0.5)
    person.font.learn(person.viewer, ALPHABET)  # Linux's font is not quite the BIOS's
    person.wait_for("the mouse is watched")
    if (person.viewer.width, person.viewer.height) != (1024, 768):
        yield f"the frame buffer is {person.viewer.width} by {person.viewer.height}"
    person.viewer.point(100, 100)
    person.viewer.point(103, 105, 1)
    person.wait_for("all is well")
    if " 29 03 fb" not in person.text():
        yield f"the mouse was moved otherwise:\n{person.text()}"
    print(f"moved the mouse after {time.monotonic() - person.begun:.1f} s")
    person.viewer.type("exit\n")
    person.watch_to_the_end()


def main():
    strata, engine, cpus, seconds = sys.argv[1:5]
    if not ROM.exists():
        guest.skip(f"{ROM} is missing: install Debian's package seabios")
    kernel = guest.kernel("generic")
    script = Path(__file__).with_name("display.sh").read_bytes()
    initrd = guest.initramfs(f"display-{engine}-{cpus}", {"display.sh": script} | guest.modules(kernel, MODULES))
    disk = f"{guest.FOLDER}/display-{engine}-{cpus}.disk"
    guest.tool("make-boot-disk", disk, kernel, initrd, "console=tty0 panic=-1")
    work = tempfile.TemporaryDirectory()
    address = os.path.join(work.name, "screen")
    command = [strata, "run", "--engine", engine, "--firmware", "seabios", "--disk", f"{disk},format=raw,readonly", "--memory", "512M",
               "--cpus", cpus, "--no-reboot", "--log", "guest", "--display", f"vnc={address}"]
    problems = []
    with guest.Guest(command, float(seconds)) as machine:
        try:
            problems += session(Person(address, machine.machine, float(seconds)))
            if not problems:
                problems += machine.end_well()
        except (guest.Failed, EOFError, OSError) as e:
            problems.append(repr(e) if isinstance(e, EOFError) else str(e))
            machine.machine.kill()
            problems += [f"it ended with {machine.end()}"]
        machine.report(problems, f"display under {engine}, {cpus} cpus")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
