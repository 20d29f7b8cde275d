#!/usr/bin/env python3
"""An OCI image of two layers becomes a machine: what it runs is run, with its environment, folder and user, and the machine powers off.

    oci.py STRATA ENGINE SECONDS

Skips (77) where umoci is missing, the kernel cannot be had or the host cannot run the engine.
"""
import os
import shutil
import sys
import tempfile

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


def make(folder):
    busybox = guest.busybox().read_bytes()
    applets = "sh mount mkdir cat id hostname sync su sleep".split()
    base = {"bin": None, "bin/busybox": busybox, "etc": None, "etc/old": b"x", "etc/hostname": b"box\n", "etc/passwd": b"root:x:0:0::/:/bin/sh\nada:x:7:7::/:/bin/sh\n",
            "etc/group": b"ada:x:7:\n", **{f"bin/{name}": "-> busybox" for name in applets}, **{name: None for name in ("dev", "proc", "sys", "run", "work")}}
    layout = oci.Layout(folder)
    layout.image("1", [base, {"etc/.wh.old": b"", "bin/program": PROGRAM}], Env=["PATH=/bin", "WORD=it's"], WorkingDir="/work", Entrypoint=["/bin/program"], Cmd=["a  b"],
                 User="ada")


def main():
    strata, engine, seconds = sys.argv[1:4]
    if not shutil.which("umoci"):
        guest.skip("umoci is missing")
    kernel = guest.kernel("cloud")
    with tempfile.TemporaryDirectory() as folder:
        home = Home(strata, folder)
        make(f"{folder}/app")
        home("image", "import", f"oci:{folder}/app:1", "--size", "64M", "--kernel", kernel)
        command = [strata, "run", "app:1", "--name", "app", "--rm", "--engine", engine, "--memory", "256M", "--cpus", "1", "--net", "none"]
        with guest.Guest(command, float(seconds), env=home.env) as machine:
            problems = []
            try:
                problems += machine.end_well()
            except guest.Failed as e:
                problems.append(str(e))
            machine.report(problems, "oci", expected=["run as ada in /work: it's, a  b\n", "all is there\n", "the second layer counts\n", "app\n",
                                                      "what the image runs has ended: exit status 5\n"])
        if os.listdir(f"{folder}/data/strata/images") != ["app:1"]:
            print("there are other images")
            problems.append("images")
    sys.exit(1 if problems else 0)


main()
