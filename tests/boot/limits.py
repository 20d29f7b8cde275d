#!/usr/bin/env python3
"""Limits by control groups (tests/cli/limits.py), in a machine: its kernel has all controllers, whatever the host has.

    limits.py STRATA ENGINE SECONDS

The guest is a host's kernel with this host's files, which it is given to read, for its programs. Skips (77) where the kernel cannot be had or the host cannot run the
engine.
"""
import os
import re
import subprocess
import sys

import guest

SCRIPT = """
for module in /modules/*.ko; do
	insmod "$module" || exit 2
done
mkdir /host
mount -t virtiofs host /host || exit 3
for folder in proc sys dev; do mount --rbind /$folder /host/$folder || mount --bind /$folder /host/$folder; done
mkdir -p /dev/shm && mount -t tmpfs shm /host/dev/shm || exit 4
mount -t cgroup2 cgroups /host/sys/fs/cgroup || exit 5
ifconfig lo up
# What is executed again and again is not read each time from the host.
mkdir /host/dev/shm/own && cd /host && cp STRATA LIBRARIES dev/shm/own || exit 6
exec chroot /host /usr/bin/env HOME=/dev/shm TMPDIR=/dev/shm PATH=/usr/bin:/bin:/usr/sbin:/sbin PYTHONDONTWRITEBYTECODE=1 \\
	LD_LIBRARY_PATH=/dev/shm/own STRATA_LIMITS_FEW=1 python3 TEST /dev/shm/own/strata
"""


def libraries(program):
    """What ldd(1) finds, relative to the root."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [path[1:] for path in re.findall(r" => (/\S+)", said)]


def main():
    strata, engine, seconds = sys.argv[1:4]
    kernel = guest.kernel("cloud")
    script = SCRIPT.replace("TEST", f"{guest.ROOT}/tests/cli/limits.py").replace("LIBRARIES", " ".join(libraries(strata)))
    script = script.replace("STRATA ", f"{os.path.realpath(strata)[1:]} ")
    initrd = guest.initramfs("limits", {"limits.sh": script.encode()} | guest.modules(kernel, ["virtio_pci", "virtiofs"]))
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "1G", "--cpus", "1", "--no-reboot",
               "--share", "/:host,readonly", "--append", "console=ttyS0 quiet panic=-1 strata.run=sh%20/limits.sh"]
    with guest.Guest(command, float(seconds)) as machine:
        problems = []
        try:
            problems += machine.end_well()
        except guest.Failed as e:
            problems.append(str(e))
        machine.report(problems, "limits", expected=["ok   limits_are_kept", "ok   an_ordinary_user_needs_a_group_of_his_own"], unwanted=["FAIL"])
    sys.exit(1 if problems else 0)


main()
