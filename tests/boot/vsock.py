#!/usr/bin/env python3
"""Virtio sockets: Debian's driver, and Unix sockets of the host's by Firecracker's convention.

    vsock.py STRATA ENGINE GUEST SECONDS        GUEST: the program vsock_guest.c

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import hashlib
import random
import socket
import sys
import tempfile
import threading
from pathlib import Path

import guest

SIZE = 3 << 20
CONTENT = random.Random(4).randbytes(SIZE)
SCRIPT = f"""
for module in /modules/*.ko; do
	insmod "$module" || exit 2
done
vsock-guest refused 9 || exit 3
sum=$(vsock-guest send 1234 </content)
[ "$sum" = {hashlib.md5(CONTENT).hexdigest()} ] || exit 4
vsock-guest echo 5000 || exit 5
echo "all is well"
""".encode()


def everything(peer):
    return b"".join(iter(lambda: peer.recv(65536), b""))


def serve(path):
    """Answers what comes with its MD5 sum."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    Path(path).chmod(0o666)
    listener.listen()

    def answer():
        with listener.accept()[0] as peer:
            peer.sendall(hashlib.md5(everything(peer)).hexdigest().encode())

    threading.Thread(target=answer, daemon=True).start()


def call(path, line):
    peer = socket.socket(socket.AF_UNIX)
    peer.connect(path)
    peer.sendall(line)
    return peer


def talk(path):
    with call(path, b"CONNECT 77\n") as peer:
        if said := everything(peer):
            yield f"a port at which nobody listens said {said!r}"
    with call(path, b"CONNECT 5000 please\n") as peer:
        if said := everything(peer):
            yield f"nonsense was answered by {said!r}"
    with call(path, b"CONNECT 5000\n") as peer:
        first = b""
        while not first.endswith(b"\n") and (byte := peer.recv(1)):
            first += byte
        if not first.startswith(b"OK "):
            yield f"the greeting was answered by {first!r}"
        peer.sendall(CONTENT)  # the guest reads all of it first
        peer.shutdown(socket.SHUT_WR)
        if everything(peer) != CONTENT:
            yield "what was sent comes back differently"


def main():
    strata, engine, program, seconds = sys.argv[1:5]
    kernel = guest.kernel("cloud")
    files = {"vsock.sh": SCRIPT, "content": CONTENT, "bin/vsock-guest": Path(program).read_bytes()}
    initrd = guest.initramfs("vsock", files | guest.modules(kernel, ["virtio_pci", "vmw_vsock_virtio_transport"]))
    problems = []
    with tempfile.TemporaryDirectory() as work:
        Path(work).chmod(0o755)
        path = f"{work}/vsock"
        serve(f"{path}_1234")
        command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "192M", "--no-reboot",
                   "--log", "guest", "--vsock", f"{path},cid=7", "--append", "console=ttyS0 quiet panic=-1 strata.run=sh%20/vsock.sh"]
        with guest.Guest(command, float(seconds)) as machine:
            try:
                machine.wait_for("^the guest listens")
                problems += talk(path)
                problems += machine.end_well()
            except guest.Failed as e:
                problems.append(str(e))
            machine.report(problems, "virtio sockets", unwanted=["needs a reset", "no credit"])
    sys.exit(1 if problems else 0)


main()
