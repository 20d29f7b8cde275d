#!/usr/bin/env python3
"""A virtio console and a port with a name: Debian's driver has both, and what passes arrives as it was sent.

    ports.py STRATA ENGINE SECONDS

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import hashlib
import random
import socket
import sys
import tempfile

import guest

CONTENT = random.Random(4).randbytes(1 << 20)
SCRIPT = b"""
for module in /modules/*.ko; do
	insmod "$module" || exit 2
done
until [ -c /dev/hvc0 ]; do usleep 10000; done
exec </dev/hvc0 >/dev/hvc0 2>&1
stty -echo
echo "the guest is here"
read -r line
echo "heard: $line"
until port=$(grep -l '^one$' /sys/class/virtio-ports/*/name); do usleep 10000; done
port=/dev/$(basename "$(dirname "$port")")
exec 3<>"$port"
for round in 1 2; do
	echo "round $round"
	echo "sum: $(head -c 1048576 <&3 | md5sum)"
	cat /content >&3
	cat <&3 >/rest
	echo "rest: $(cat /rest)"
done
echo "all is well"
"""


def exchange(path):
    """Sends all, reads all that comes back meanwhile and later, says one thing more."""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        peer.settimeout(60)
        peer.sendall(CONTENT)
        got = b""
        while len(got) < len(CONTENT) and (data := peer.recv(65536)):
            got += data
        peer.sendall(b"good-bye")
    return got


def main():
    strata, engine, seconds = sys.argv[1:4]
    kernel = guest.kernel("cloud")
    files = {"ports.sh": SCRIPT, "content": CONTENT}
    initrd = guest.initramfs("ports", files | guest.modules(kernel, ["virtio_pci", "virtio_console"]))
    problems = []
    with tempfile.TemporaryDirectory() as work:
        path = f"{work}/one"
        command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "256M", "--cpus", "2",
                   "--no-reboot", "--log", "guest", "--console", "virtio", "--port", f"one={path}", "--port", f"two={work}/two",
                   "--append", "console=ttyS0 quiet panic=-1 strata.run=sh%20/ports.sh"]
        with guest.Guest(command, float(seconds)) as machine:
            try:
                machine.wait_for("^the guest is here")
                machine.type("hello guest")
                machine.wait_for("^heard: hello guest")
                for n in (1, 2):
                    machine.wait_for(f"^round {n}")
                    if exchange(path) != CONTENT:
                        problems.append(f"round {n}: what the guest sent is not what arrived")
                    if machine.wait_for("^sum: ([0-9a-f]*)")[1] != hashlib.md5(CONTENT).hexdigest():
                        problems.append(f"round {n}: what arrived is not what was sent")
                    machine.wait_for("^rest: good-bye")
                machine.wait_for("^all is well")
                problems += machine.end_well()
            except (guest.Failed, OSError) as e:
                problems.append(repr(e))
            machine.report(problems, "ports", unwanted=["needs a reset"])
    sys.exit(1 if problems else 0)


main()
