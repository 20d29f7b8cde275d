#!/usr/bin/env python3
"""stress-ng's processor, memory, I/O and scheduler classes on a stock Debian kernel whose root is a disk: the kernel has nothing
to say, each stressor's own checks hold, and the file system is clean afterwards.

    stress.py STRATA ENGINE[:SWITCH,...] CPUS SECONDS [STRESSOR,...]

All of them with STRATA_TEST_LONG, two of each side by side, for about SECONDS in all, but at least one each; STRATA_STRESS_SECONDS in
the environment says how many seconds instead. Without, or if they are named, a few, for three seconds each.

Skips (77) where the kernel or the packages cannot be had or the host cannot run the engine.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import guest

GIB = 1 << 30
CLASSES = ["cpu", "memory", "io", "scheduler"]
# What a short run has: computation of all kinds, memory, processes, files, and processors that talk to each other.
FEW = ["cpu", "vecmath", "vm", "fork", "switch", "futex", "hdd", "tlb-shootdown"]
# Stressors that ask for what no guest of this kind has, or that are left out by stress-ng itself.
EXCLUDED = {
    "smi": "writes to an SMI port: this machine has no system management mode",
    "cpu-online": "stress-ng runs it with --pathological only, since systems may hang",
    "oom-pipe": "the same",
    "io-uring": "0.15.06's asks statx for a file by a name that it has removed, and ends with ENOENT: on the bare host and under QEMU, too",
}
# Dependencies of installation scripts, which do not run.
UNUSED = ["adduser", "debconf", "dpkg", "passwd", "perl*", "tar"]
INIT = """#!/bin/sh
export PATH=/bin:/usr/bin HOME=/
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null # some kernels have done it
mkdir -p /dev/shm /dev/pts /dev/mqueue
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
mount -t mqueue mqueue /dev/mqueue
mount -t tmpfs tmpfs /run
ip link set lo up
mkdir -p /work
seconds=$1
echo "stress begins"
for stressor in $(cat /stressors); do
	echo "@ $stressor"
	# A stressor that the system runs out of memory under may be ended.
	stress-ng --$stressor 2 --timeout ${seconds}s --temp-path /work --verify --oomable --log-brief 2>&1
	echo "@end $stressor $?"
done
echo "stress ends"
rm -rf /work
sync
mount -o remount,ro / && echo "the file system is at rest"
poweroff -f
"""
ENDED, NO_RESOURCE, NOT_IMPLEMENTED, SIGNALED = 0, 3, 4, 5  # stress-ng's exit statuses that are no failure


def tools_path():
    return os.environ | {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}


def stressors(root):
    """What the classes have, in their order."""
    libraries = ":".join(str(path.parent) for path in root.rglob("libbsd.so.0"))
    found = []
    for name in CLASSES:
        done = subprocess.run([root / "usr/bin/stress-ng", "--class", f"{name}?"], stdout=subprocess.PIPE, text=True,
                              env=os.environ | {"LD_LIBRARY_PATH": f"{root}/usr/lib/x86_64-linux-gnu:{root}/lib/x86_64-linux-gnu:{libraries}"})
        found += [s for s in done.stdout.partition("stressors:")[2].split() if s not in found and s not in EXCLUDED]
    return found


def make_root():
    """stress-ng and busybox, unpacked once."""
    root = Path(guest.FOLDER) / "stress"
    if not (root / "usr/bin/stress-ng").exists():
        partial = root.with_name(f".stress.{os.getpid()}")
        done = subprocess.run([f"{guest.ROOT}/tools/unpack-debs", partial, "stress-ng", "busybox-static", *(f"-{name}" for name in UNUSED)],
                              capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(partial, ignore_errors=True)
            guest.skip(done.stderr.strip())
        partial.rename(root)
    return root


def make_disk(path, root, names):
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "root"
        shutil.copytree(root, copy, symlinks=True)
        for name in ("dev", "proc", "sys", "run", "tmp", "sbin", "work"):
            (copy / name).mkdir(exist_ok=True)
        for name in subprocess.run([copy / "bin/busybox", "--list"], stdout=subprocess.PIPE, text=True, check=True).stdout.split():
            if not (copy / "bin" / name).exists() and not (copy / "usr/bin" / name).exists():
                (copy / "bin" / name).symlink_to("busybox")
        (copy / "etc").mkdir(exist_ok=True)
        (copy / "etc/passwd").write_text("root::0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
        (copy / "sbin/init").write_text(INIT)
        (copy / "sbin/init").chmod(0o755)
        (copy / "stressors").write_text("\n".join(names) + "\n")
        with open(path, "wb") as disk:
            disk.truncate(2 * GIB)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", copy, "-E", "root_owner=0:0", path], check=True, env=tools_path(),
                       stdout=subprocess.DEVNULL)


def without_oom(text):
    """Reports of the kernel's out-of-memory killer are no warnings, but show a call trace, too."""
    return re.sub(r"^.*invoked oom-killer(.*\n)*?.*Out of memory.*$", "", text, flags=re.M)


def judge(text, names):
    """What is wrong, and which did not run: stress-ng says that they need what this guest does not have."""
    ends = dict(re.findall(r"^@end (\S+) (\d+)$", text, re.M))
    problems = [f"{name}: no end" for name in names if name not in ends]
    failed = {name for name, status in ends.items() if int(status) not in (ENDED, NO_RESOURCE, NOT_IMPLEMENTED)}
    problems += [f"{name}: status {ends[name]}" for name in sorted(failed)]
    problems += [f"it says: {line}" for line in re.findall(r"^.*\bfail: .*$|^stress-ng: .*verif.*fail.*$", text, re.M)]
    problems += guest.forbidden(without_oom(text))
    if "the file system is at rest" not in text:
        problems.append("the file system was not brought to rest")
    return problems, [name for name, status in ends.items() if status != "0" and name not in failed]


def main():
    strata, engine, cpus, seconds = sys.argv[1:5]
    seconds = int(os.environ.get("STRATA_STRESS_SECONDS", seconds))
    if not shutil.which("mke2fs", path=tools_path()["PATH"]):
        guest.skip("mke2fs is missing: e2fsprogs has it")
    kernel, root = guest.kernel("cloud"), make_root()
    names = sys.argv[5].split(",") if len(sys.argv) > 5 else stressors(root) if guest.LONG else FEW
    each = max(1, seconds // len(names)) if guest.LONG else 3
    work = tempfile.TemporaryDirectory()
    disk = f"{work.name}/disk"
    make_disk(disk, root, names)
    engine, _, switches = engine.partition(":")
    command = [strata, "run", *(["--translate", switches] if switches else ["--engine", engine]), "--kernel", kernel, "--memory", "2G", "--cpus", cpus, "--no-reboot",
               "--disk", f"{disk},format=raw,bus=nvme", "--append", f"console=ttyS0 panic=-1 root=/dev/nvme0n1 rw -- {each}"]
    problems, idle = [], []
    with guest.Guest(command, 300 + 6 * each * len(names)) as machine:
        try:
            problems += machine.end_well()
        except guest.Failed as e:
            problems.append(str(e))
        wrong, idle = judge(machine.text, names)
        problems += wrong
        done = subprocess.run(["e2fsck", "-f", "-n", disk], env=tools_path(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            problems.append(f"e2fsck: {done.stdout}")
        if problems:
            print(machine.text)
        without = f", all but {' '.join(idle)}" if idle else ""
        print(*problems, f"{len(names)} stressors{without}, {each} s each, under {engine} {switches}, {cpus} cpus: {machine.took():.1f} s", sep="\n")
    sys.exit(1 if problems else 0)


main()
