#!/usr/bin/env python3
"""OCI images of two layers become machines: what one runs is run, with its environment, folder and user, and the machine powers off. With another
image's kernel come its modules: the drivers of the machine's devices, and what the kernel asks for later; the network is up, for a program and for
an init of the image's own, neither of which has more than a shell. With STRATA_TEST_LONG, a Debian that has systemd and udev, but no program
and no configuration for networks.

    oci.py STRATA ENGINE SECONDS

Skips (77) where umoci is missing, the kernel cannot be had or the host cannot run the engine.
"""
import os
import shutil
import socket
import sys
import tempfile
import threading
from pathlib import Path

import guest
from home import Home

sys.path.insert(0, f"{guest.ROOT}/tests/cli")
import oci  # pylint: disable=wrong-import-position

PROGRAM = b"""#!/bin/sh
echo "run as $(id -un) in $(pwd): $WORD, $1"
[ -c /dev/null ] && [ -d /proc/1 ] && [ -d /sys/class ] && echo "all is there"
[ ! -e /etc/old ] && echo "the second layer counts"
hostname
exit 5
"""
PROGRAM_SAYS = ["run as ada in /work: it's, a  b\n", "all is there\n", "the second layer counts\n", "app\n", "what the image runs has ended: exit status 5\n"]

# What a machine is to its program, where nobody but strata has set up anything.
LOOK = r"""#!/bin/sh
export PATH=/bin
cd "/lib/modules/$(uname -r)" && [ -s modules.dep ] && echo "modules are there"
lsmod | grep -q '^virtio_net ' && echo "the network's driver is there"
ifconfig lo | grep -q 'inet addr:127.0.0.1 ' && echo "lo is up"
ifconfig eth0 | grep -q 'inet addr:10.0.2.15 .*Mask:255.255.255.0' && echo "eth0 has its address"
grep -qx 'nameserver [0-9]*\.[0-9]*\.[0-9]*\.[0-9]*' /etc/resolv.conf && echo "there is a name server"
grep -q localhost /etc/hosts && echo "localhost has a name"
cat /etc/kept.conf
nc 10.0.2.2 PORT </dev/null
lsmod | grep -q '^overlay ' && echo "overlay is there too early"
mount -t overlay -o lowerdir=/etc:/bin overlay /at && [ -e /at/busybox ] && umount /at && echo "overlay comes when it is asked for"
mount -t virtiofs host /at && cat /at/file
hostname
"""
LOOKS = ["modules are there\n", "the network's driver is there\n", "lo is up\n", "eth0 has its address\n", "there is a name server\n", "localhost has a name\n",
         "kept\n", "hello from the host\n", "overlay comes when it is asked for\n", "of the host's\n"]
APPLETS = "sh mount umount mkdir cat id hostname sync su sleep uname lsmod grep ifconfig nc poweroff".split()


def layer():
    return {"bin": None, "bin/busybox": guest.busybox().read_bytes(), "etc": None, "etc/old": b"x", "etc/hostname": b"box\n", "etc/kept.conf": b"kept\n",
            "etc/passwd": b"root:x:0:0::/:/bin/sh\nada:x:7:7::/:/bin/sh\n", "etc/group": b"ada:x:7:\n", **{f"bin/{name}": "-> busybox" for name in APPLETS},
            **{name: None for name in ("dev", "proc", "sys", "run", "work", "at")}}


PROMPT = r"^root@strata:~# "
# In Debian, at the prompt: (command, what it says).
SYSTEM = [("systemctl is-system-running --wait", "running"), ("modprobe dummy && lsmod | grep -c '^dummy '", "1"), ("cat /sys/class/net/eth0/operstate", "up"),
          ("head -n 1 </dev/tcp/10.0.2.2/PORT", "hello from the host"), ("grep -c ^nameserver /etc/resolv.conf", "1"), ("getent hosts localhost | grep -c ^::1", "1")]


class Greeter(threading.Thread):
    """Greets who connects to it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.start()

    def run(self):
        while True:
            with self.socket.accept()[0] as peer:
                peer.sendall(b"hello from the host\n")


class Test:
    def __init__(self, strata, engine, seconds, folder):
        self.home, self.engine, self.seconds, self.folder, self.problems = Home(strata, folder), engine, float(seconds), folder, []
        self.port = str(Greeter().port)
        self.layout = oci.Layout(f"{folder}/app")

    def run(self, tag, expected, unwanted, *options):
        command = [self.home.strata, "run", f"app:{tag}", "--name", tag, "--rm", "--engine", self.engine, "--memory", "256M", "--cpus", "1", *options]
        problems = []
        with guest.Guest(command, self.seconds, env=self.home.env) as machine:
            try:
                problems += machine.end_well()
            except guest.Failed as e:
                problems.append(str(e))
            machine.report(problems, f"oci: {tag}", expected=expected, unwanted=unwanted)
        self.problems += problems

    def look_round(self, machine):
        machine.wait_for(r"^strata login: ")
        machine.type("root")
        machine.shell("export TERM=dumb SYSTEMD_PAGER= SYSTEMD_COLORS=0", PROMPT)
        for command, expected in SYSTEM:
            said = machine.shell(command.replace("PORT", self.port), PROMPT)[1].strip()
            self.problems += [f"{command}: {said!r}, not {expected!r}"] if said != expected else []
        machine.wait_for(PROMPT)
        machine.type("systemctl poweroff")
        self.problems += machine.end_well()

    def is_a_system(self):
        system = Path(guest.tool("make-debian", "cloud", guest.FOLDER)).with_name("debian.tar").read_bytes()
        self.layout.image("debian", [system])
        self.home("image", "import", f"oci:{self.folder}/app:debian", "--size", "1G", "--kernel-of", "kernel")
        command = [self.home.strata, "run", "app:debian", "--name", "debian", "--rm", "--engine", self.engine, "--memory", "512M", "--cpus", "1"]
        with guest.Guest(command, 2 * self.seconds, env=self.home.env) as machine:
            try:
                self.look_round(machine)
            except guest.Failed as e:
                self.problems.append(str(e))
            machine.report(self.problems, "oci: debian")

    def runs_its_program(self, kernel):
        self.layout.image("app", [layer(), {"etc/.wh.old": b"", "bin/program": PROGRAM}], Env=["PATH=/bin", "WORD=it's"], WorkingDir="/work",
                          Entrypoint=["/bin/program"], Cmd=["a  b"], User="ada")
        self.home("image", "import", f"oci:{self.folder}/app:app", "--size", "64M", "--kernel", kernel)
        self.run("app", PROGRAM_SAYS, [], "--net", "none")

    def has_its_network(self, kernel):
        look = LOOK.replace("PORT", self.port).encode()
        share = Path(self.folder, "share")
        share.mkdir()
        (share / "file").write_text("of the host's\n")
        self.layout.image("program", [layer(), {"bin/program": look}], Entrypoint=["/bin/program"])
        # Of two kinds of trees: here /lib leads elsewhere.
        self.layout.image("init", [layer(), {"usr": None, "usr/lib": None, "lib": "-> usr/lib", "sbin": None, "sbin/init": look + b"poweroff -f\n"}])
        self.home("image", "import", str(Path(kernel).parent), "--name", "kernel", "--size", "512M")
        for tag, last in [("program", "what the image runs has ended: exit status 0\n"), ("init", "init\n")]:
            self.home("image", "import", f"oci:{self.folder}/app:{tag}", "--size", "256M", "--kernel-of", "kernel")
            self.run(tag, [*LOOKS, f"{tag}\n", last], ["too early", "cannot be loaded"], "--share", f"{share}:host")


def main():
    strata, engine, seconds = sys.argv[1:4]
    if not shutil.which("umoci"):
        guest.skip("umoci is missing")
    kernel = guest.kernel("cloud")
    with tempfile.TemporaryDirectory() as folder:
        test = Test(strata, engine, seconds, folder)
        test.runs_its_program(kernel)
        test.has_its_network(kernel)
        images = ["app:app", "app:init", "app:program", "kernel"]
        if guest.LONG:
            test.is_a_system()
            images.insert(1, "app:debian")
        if sorted(os.listdir(f"{folder}/data/strata/images")) != images:
            print("there are other images")
            test.problems.append("images")
    sys.exit(1 if test.problems else 0)


main()
