#!/usr/bin/env python3
"""Networks other than user mode's IPv4: see networks.sh, which the guests run.

    networks.py STRATA ENGINE tap|segment|ipv6 SECONDS

tap      an interface in a network namespace of the test's own; data both ways, work on segments left undone, and a capture
segment  two machines of one segment ping each other and transfer data; one is killed, and another takes its place
ipv6     user mode's other protocol

Skips (77) where the kernel cannot be had, or the host cannot run the engine or make namespaces.
"""
import hashlib
import os
import random
import signal
import socket
import struct
import sys
import tempfile
import threading
from pathlib import Path

import guest

SIZE = 4 << 20
CONTENT = random.Random(3).randbytes(SIZE)
SUM = hashlib.md5(CONTENT).hexdigest()


class Peer(threading.Thread):
    """Sends CONTENT to whoever comes first, takes what the second one sends."""

    def __init__(self, family, address):
        super().__init__(daemon=True)
        self.received = b""
        self.socket = socket.create_server((address, 0), family=family)
        self.port = self.socket.getsockname()[1]
        self.start()

    def run(self):
        with self.socket.accept()[0] as peer:
            peer.sendall(CONTENT)
        with self.socket.accept()[0] as peer:
            self.received = b"".join(iter(lambda: peer.recv(65536), b""))


def frames(capture):
    """(outbound, frame) of a pcapng file."""
    data, at = Path(capture).read_bytes(), 0
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        assert length % 4 == 0 and struct.unpack_from("<I", data, at + length - 4)[0] == length, "not a pcapng file"
        if kind == 6:
            captured, = struct.unpack_from("<I", data, at + 20)
            flags, = struct.unpack_from("<I", data, at + length - 12)
            yield flags == 2, data[at + 28:at + 28 + captured]
        at += length


class Test:
    def __init__(self, strata, engine, name, seconds):
        self.strata, self.engine, self.seconds = strata, engine, float(seconds)
        self.kernel = guest.kernel("cloud")
        script = Path(__file__).with_name("networks.sh").read_bytes()
        self.initrd = guest.initramfs(f"networks-{name}", {"networks.sh": script, "content": CONTENT} | guest.modules(self.kernel, ["virtio_pci", "virtio_net"]))
        self.problems = []

    def machine(self, net, arguments, cpus="1", env=None):
        run = "%20".join(["sh", "/networks.sh", *arguments])
        return guest.Guest([self.strata, "run", "--engine", self.engine, "--kernel", self.kernel, "--initrd", self.initrd,
                            "--memory", "192M", "--cpus", cpus, "--no-reboot", "--log", "guest", "--net", net, "--append",
                            f"console=ttyS0 quiet panic=-1 strata.run={run}"], self.seconds, env)

    def finish(self, machine, expected=0):
        self.problems += machine.end_well(expected)
        self.problems += guest.forbidden(machine.text)
        self.problems += [f"in the output: {text!r}" for text in ("needs a reset", "impossible head") if text in machine.text]

    def tap(self):
        peer = Peer(socket.AF_INET, "10.9.0.1")
        with tempfile.TemporaryDirectory() as work:
            capture = f"{work}/frames"
            with self.machine(f"tap=tap0,queues=2,capture={capture}", ["talk", "10.9.0.2/24", "10.9.0.1", str(peer.port), SUM], "2") as m:
                self.attempt(m, lambda: self.finish(m))
            seen = list(frames(capture))
        if peer.received != CONTENT:
            self.problems.append("what the guest sent has not arrived")
        for outbound in (False, True):
            if max((len(f) for way, f in seen if way == outbound), default=0) <= 1514:
                self.problems.append(f"no frame {'from' if outbound else 'to'} the guest was left in one piece")

    def ipv6(self):
        peer = Peer(socket.AF_INET6, "::1")
        with self.machine("user", ["talk", "fec0::15/64", "fec0::2", str(peer.port), SUM]) as m:
            self.attempt(m, lambda: self.finish(m))
        if peer.received != CONTENT:
            self.problems.append("what the guest sent has not arrived")

    def segment(self):
        with tempfile.TemporaryDirectory() as runtime:
            env = os.environ | {"XDG_RUNTIME_DIR": runtime}
            server = self.machine("segment=lab", ["serve", "10.8.0.1/24"], env=env)
            lost = self.machine("segment=lab,mac=52:54:00:00:00:02", ["stay", "10.8.0.2/24", "10.8.0.1"], env=env)
            with server, lost:
                self.attempt(server, lambda: server.wait_for("^the guest serves"))
                self.attempt(lost, lambda: lost.wait_for("^the guest stays"))
                lost.machine.send_signal(signal.SIGKILL)
                lost.machine.wait()
                for last in (2, 3):
                    client = self.machine(f"segment=lab,mac=52:54:00:00:00:0{last}",
                                          ["fetch", f"10.8.0.{last}/24", "10.8.0.1", SUM], env=env)
                    with client:
                        self.attempt(client, lambda: self.finish(client))
                server.machine.send_signal(signal.SIGTERM)
                self.attempt(server, lambda: self.finish(server, 128 + signal.SIGTERM))

    def attempt(self, machine, what):
        try:
            what()
        except guest.Failed as e:
            self.problems.append(str(e))
        if self.problems:
            print(machine.text)


def main():
    strata, engine, name, seconds = sys.argv[1:5]
    if name == "tap":
        why = guest.own_tap("10.9.0.1/24")
        if why:
            guest.skip(f"no tap in a namespace of our own: {why}")
    test = Test(strata, engine, name, seconds)
    getattr(test, name)()
    print(*test.problems, sep="\n")
    sys.exit(1 if test.problems else 0)


main()
