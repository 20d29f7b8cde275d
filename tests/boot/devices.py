#!/usr/bin/env python3
"""Debian's stock drivers bind to the machine's devices: see devices.sh, which the guest runs.

    devices.py STRATA cloud|generic ENGINE CPUS SECONDS messages|wires virtio|nvme|ahci|ide

Messages: interrupts as devices like them; wires: the kernel is told not to use messages. The last is what the disks are; the
network is virtio's, with ahci an e1000.

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import hashlib
import itertools
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import guest

# What the disks are called, and the drivers that are not for all machines.
KINDS = {"virtio": (["vda", "vdb"], ["virtio_blk"]), "nvme": (["nvme0n1", "nvme1n1"], ["nvme"]),
         "ahci": (["sda", "sdb"], ["ahci", "sd_mod", "e1000"]),
         "ide": (["sda", "sdb"], ["ata_piix", "sd_mod", "sr_mod"])}
MODULES = ["virtio_pci", "virtio-rng", "virtio_net"]
MIB = 1 << 20


class Server(threading.Thread):
    """What the guest finds at 10.0.2.2, and 10.0.3.2: sends `content` to who comes first, takes what the second sends, and sends
    again."""

    def __init__(self, content):
        super().__init__(daemon=True)
        self.content, self.received = content, []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.start()

    def run(self):
        for visit in itertools.count(1):
            peer, _ = self.socket.accept()
            with peer:
                if visit == 2:
                    self.received.append(b"".join(iter(lambda: peer.recv(65536), b"")))
                else:
                    peer.sendall(self.content)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def call_guest(port, seconds):
    """What the guest says to who comes in by the forward. Until it listens, connections end without a word."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as peer:
                if said := b"".join(iter(lambda: peer.recv(65536), b"")):
                    return said.decode().strip()
        except OSError:
            pass
        time.sleep(0.2)
    return "nothing"


def make_disks(folder):
    """Two images: 64 MiB whose first 16 the guest reads, and copies to 32; and 8 MiB that it may only read."""
    contents = {"first": random.Random(1).randbytes(16 * MIB), "second": random.Random(2).randbytes(8 * MIB)}
    for name, size in (("first", 64 * MIB), ("second", 8 * MIB)):
        path = Path(folder) / name
        path.write_bytes(contents[name])
        os.truncate(path, size)
    return contents


def check_disks(folder, contents):
    first, second = ((Path(folder) / name).read_bytes() for name in ("first", "second"))
    if first[:16 * MIB] != contents["first"] or first[32 * MIB:48 * MIB] != contents["first"]:
        yield "the first disk does not hold what the guest copied"
    if any(first[16 * MIB:32 * MIB]) or first[48 * MIB:49 * MIB] != b"\xff" * MIB:
        yield "the first disk was written where it should not have been, or not where it should"
    if second != contents["second"]:
        yield "the second disk was written to"


def check_requests(text):
    """--trace requests: in each table times only grow, and some requests of disks and some frames pass all parts there are."""
    ways = {"disk": "123456", "frame from": "123456", "frame for": "654321"}
    whole = {kind: 0 for kind in ways}
    for title, *rows in (table.splitlines() for table in text.split("\n\n") if "  part " in table):
        times = [float(row[20:30]) for row in rows if re.match(r"  [\w ,]{18} +\d", row)]
        if times != sorted(times):
            yield f"a time that is before the one above it: {title}"
        numbers = "".join(n for row in rows for n in re.findall(r"\d", row[2:5]))
        for kind, way in ways.items():
            whole[kind] += kind in title and numbers == way and "is interrupted" in rows[-1]
    yield from (f"no {kind} request has passed all parts" for kind, count in whole.items() if not count)


def plug_and_unplug(machine, strata, disk, env):
    """What is attached while the guest runs is found, used, and gone again: twice."""
    def ask(*words):
        done = subprocess.run([strata, *words], capture_output=True, text=True, env=env, timeout=60)
        if done.returncode:
            raise guest.Failed(done.stderr.strip())
        return done.stdout.strip()

    for _ in range(2):
        machine.wait_for("^there is room")
        devices = ask("attach", "guest", "--disk", f"{disk},format=raw"), ask("attach", "guest", "--net", "user")
        machine.wait_for("^both are used")
        for device in devices:
            if f"attached: {device}: " not in ask("show", "guest"):
                raise guest.Failed(f"{device} is not shown")
            ask("detach", "guest", device, "--timeout", "60")
        machine.wait_for("^both are gone")


def main():
    strata, flavour, engine, cpus, seconds, interrupts, kind = sys.argv[1:8]
    names, drivers = KINDS[kind]
    kernel = guest.kernel(flavour)
    script = Path(__file__).with_name("devices.sh").read_bytes()
    initrd = guest.initramfs(f"devices-{flavour}-{engine}-{cpus}-{interrupts}-{kind}",
                             {"devices.sh": script} | guest.modules(kernel, MODULES + drivers))
    work = tempfile.TemporaryDirectory()
    contents = make_disks(work.name)
    server, port = Server(contents["first"][:2 * MIB]), free_port()
    sums = "%20".join(hashlib.md5(data).hexdigest() for data in (*contents.values(), server.content))
    hot = kind == "virtio" and interrupts == "messages" and engine != "interpret"
    third, env = Path(work.name) / "third", os.environ | {"XDG_STATE_HOME": work.name}
    third.write_bytes(contents["second"])
    os.truncate(third, 32 * MIB)
    trace = None if hot else Path(work.name) / "trace"
    nomsi = "pci=nomsi " if interrupts == "wires" else ""
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "512M", "--cpus", cpus,
               "--no-reboot", "--log", "guest", "--disk", f"{work.name}/first,format=raw,bus={kind},serial=strata-0001",
               "--disk", f"{work.name}/second,format=raw,bus={kind},readonly{',packed' if kind == 'virtio' else ''}",
               "--net", f"user,model={'e1000' if kind == 'ahci' else 'virtio'},forward=tcp:127.0.0.1:{port}:7777", "--append",
               f"console=ttyS0 panic=-1 {nomsi}strata.run=sh%20/devices.sh%20{interrupts}%20{'%20'.join(names)}%20{sums}%20{server.port}%20{'hot' if hot else 'cold'}",
               *(["--name", "guest"] if hot else ["--trace", f"requests={trace}"])]
    if kind == "ide":
        disc = Path(work.name) / "disc"
        disc.write_bytes(contents["second"])
        command += ["--cdrom", str(disc)]
    problems = []
    with guest.Guest(command, float(seconds), env) as machine:
        try:
            machine.wait_for("^the guest listens")
            said = call_guest(port, 60)
            if said != "hello from the guest":
                problems.append(f"the guest's port said {said!r}")
            if hot:
                plug_and_unplug(machine, strata, third, env)
                if third.read_bytes() != contents["second"] * 3 + bytes(8 * MIB):
                    problems.append("the third disk does not hold what the guest copied")
            problems += machine.end_well()
        except guest.Failed as e:
            problems.append(str(e))
        problems += check_disks(work.name, contents)
        if trace:
            problems += check_requests(trace.read_text())
        if server.content not in server.received:
            problems.append("what the guest sent has not arrived")
        machine.report(problems, f"{flavour} under {engine}, {cpus} cpus, {interrupts}, {kind}",
                       expected=["all devices are well", "exit status 0"], unwanted=["No config space access function", "needs a reset"])
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
