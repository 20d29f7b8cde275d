#!/usr/bin/env python3
"""Machines that become files and go on from them: what `strata save` and `strata restore` promise.

    saving.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)

tests/boot/saving.py does so with a real system.
"""
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import cases
import cli
import machines
import sectors
from cli import expect, image, strata
from machines import FOLDER, STATE, console, detached, gone, good, listed, pid, refused, state, talk

os.environ["XDG_DATA_HOME"] = f"{STATE.name}/data"
os.environ["PATH"] += ":/usr/sbin:/sbin"
FILE = f"{STATE.name}/web.state"
HEAD, PARTS = 4096, 64

# Answers each byte with two: how many there were, as a register and as memory have it. 'q' leaves.
COUNTER = sectors.sector(
    sectors.COM1 + b"\x31\xdb"           # xor bx, bx
    b"\xb2\xfd\xec\xa8\x01\x74\xfb"      # 1: mov dl, 0xfd; 2: in al, dx; test al, 1; jz 2b
    b"\xb2\xf8\xec\x3c\x71\x74\x0f"      # mov dl, 0xf8; in al, dx; cmp al, 'q'; je 3f
    b"\xfe\xc3\xfe\x06\x00\x90"          # inc bl; inc byte [0x9000]
    b"\x88\xd8\xee\xa0\x00\x90\xee"      # mov al, bl; out dx, al; mov al, [0x9000]; out dx, al
    b"\xeb\xe3"                          # jmp 1b
    b"\xb0\x03" + sectors.EXIT + sectors.HALT)


# Answers each byte with the generation id.
GENERATION = sectors.sector(
    sectors.COM1 + b"\xb8\x00\xdf\x8e\xd8"  # mov ax, 0xdf00; mov ds, ax
    b"\xb2\xfd\xec\xa8\x01\x74\xfb"      # 1: mov dl, 0xfd; 2: in al, dx; test al, 1; jz 2b
    b"\xb2\xf8\xec\x31\xf6\xb9\x10\x00" # mov dl, 0xf8; in al, dx; xor si, si; mov cx, 16
    b"\xac\xee\xe2\xfc\xeb\xeb")          # 3: lodsb; out dx, al; loop 3b; jmp 1b


def engines():
    """Those that run a guest here at all."""
    return [name for name in ("interpret", "translate", "kvm")
            if cli.strata("run", "--engine", name, "--memory", "16M", "--timeout", "10", "--kernel", image(sectors.exits_with(9), "probe")).returncode == 19]


def count(name, *wanted):
    with console(name) as p:
        for n in wanted:
            talk(p, b"a", bytes([n, n]))


def saved(name="web", file=FILE, *options):
    good("save", name, file, *options)
    expect([listed()[name][key] for key in ("state", "why", "exit_status")], ["stopped", "saved", 0])


def restored(name="web", file=FILE, *options):
    expect(good("restore", file, *options), f"{name}\n")
    expect(state(name), "running")


def begun(*options):
    machines.end_all()  # of a case that failed
    Path(FILE).unlink(missing_ok=True)
    detached("web", COUNTER, *options)
    count("web", 1)


def a_machine_goes_on_where_it_was():
    begun()
    saved()
    expect(os.stat(FILE).st_mode & 0o777, 0o600)
    assert os.stat(FILE).st_size < 200000, os.stat(FILE).st_size  # memory that nobody touched takes nothing
    restored()
    count("web", 2, 3)
    good("reset", "web")  # it is a machine like others: its kernel is there again
    count("web", 1)
    gone("web")


def each_engine_takes_over_from_each():
    names = engines()
    begun()
    seen = 1
    for after in [name for first in names for second in names for name in (first, second)]:
        saved("web", FILE, "--force")
        restored("web", FILE, "--engine", after)
        expect(listed()["web"]["engine"], after)
        count("web", seen + 1, seen + 2)
        seen += 2
    assert "engine: interpret" in (FOLDER / "web/machine.yaml").read_text()  # what it is has not changed
    gone("web")


def its_devices_go_on():
    """All that a machine may have, at rest; and one that was paused runs when it is restored."""
    begun("--net", "user", "--vsock", f"{STATE.name}/vs", "--balloon", "0", "--cpus", "2", "--display", f"vnc={STATE.name}/vnc", "--console", "serial")
    good("pause", "web")
    saved()
    restored()
    count("web", 2)
    gone("web")


def clocks_go_on():
    begun()
    started = time.monotonic()
    before = listed()["web"]["guest_seconds"]
    saved()
    time.sleep(0.5)
    restored("web", FILE, "--clock", "saved")
    # While it was away, however long all the rest has taken, nothing passed.
    after = listed()["web"]["guest_seconds"]
    assert after - before < time.monotonic() - started - 0.49, (before, after)
    saved("web", FILE, "--force")
    time.sleep(0.5)
    restored()
    assert listed()["web"]["guest_seconds"] > before + 0.5, (before, listed()["web"])
    gone("web")


def another_machine_is_another():
    """As often as one likes, beside each other and beside the one that was saved."""
    begun("--net", "user,forward=tcp:127.0.0.1:4222:22,mac=52:54:00:00:00:01")
    saved()
    restored()
    for name in ("mail", "news"):
        restored(name, FILE, "--name", name)
    count("web", 2, 3)
    count("mail", 2)
    count("news", 2, 3, 4)
    configs = [(FOLDER / name / "machine.yaml").read_text() for name in ("web", "mail", "news")]
    nets = [next(line for line in config.splitlines() if line.startswith("net: ")) for config in configs]
    expect(len({net.split("mac=")[1] for net in nets}), 3)
    expect(len({net.split("127.0.0.1:")[1].split(":")[0] for net in nets}), 3)
    refused(["machine mail exists"], "restore", FILE, "--name", "mail")
    refused(["web runs", "--name"], "restore", FILE)
    for name in ("mail", "news"):
        good("rm", "--force", name)
    gone("web")
    restored()  # nothing of it is needed but the file
    count("web", 2)
    gone("web")


def generation(name):
    with console(name) as p:
        p.stdin.write(b"a")
        p.stdin.flush()
        return p.stdout.read(16)


def each_is_of_another_generation():
    machines.end_all()
    Path(FILE).unlink(missing_ok=True)
    detached("web", GENERATION)
    first = generation("web")
    good("reset", "web")
    expect(generation("web"), first)
    saved()
    restored()
    restored("mail", FILE, "--name", "mail")
    seen = {first, generation("web"), generation("mail")}
    expect((len(seen), {len(one) for one in seen}), (3, {16}))
    good("rm", "--force", "mail")
    gone("web")


def disks_are_what_they_were():
    disk, other = (os.path.join(STATE.name, name) for name in ("disk", "other"))
    Path(disk).write_bytes(bytes(1 << 20))
    Path(other).write_bytes(bytes(4096))
    begun("--disk", f"{disk},format=raw", "--disk", f"{other},format=raw,readonly")
    saved()
    refused(["disk " + disk, "not in the machine's own folder", "--name"], "restore", FILE, "--name", "mail")
    restored()
    count("web", 2)
    saved("web", FILE, "--force")
    os.utime(disk, (1, 1))
    refused([disk, "has changed since"], "restore", FILE)
    expect(state("web"), "stopped")
    os.truncate(disk, 2 << 20)
    refused([disk, "has changed since"], "restore", FILE)
    os.unlink(disk)
    refused([disk, "No such file"], "restore", FILE)
    gone("web")


def clones_stand_on_what_was_saved():
    """A machine from an image: its disk is frozen once somebody else needs it."""
    for program in ("mke2fs", "mformat", "ssh-keygen"):
        if not shutil.which(program):
            return
    tree = Path(STATE.name, "tree")
    tree.mkdir()
    (tree / "file").write_text("x")
    expect(strata("image", "import", str(tree), "--name", "tiny", "--size", "32M", "--kernel", image(COUNTER), "--append", "").returncode, 0)
    Path(FILE).unlink(missing_ok=True)
    good("run", "tiny", "--name", "web", "--detach", *machines.ENGINE, "--cpus", "1")
    count("web", 1)
    disk = FOLDER / "web/disk.qcow2"
    saved()
    inode = disk.stat().st_ino
    restored("mail", FILE, "--name", "mail")
    frozen = [name for name in os.listdir(f"{STATE.name}/data/strata/images") if name.startswith("saved-web-")]
    expect(len(frozen), 1)
    base = Path(STATE.name, "data/strata/images", frozen[0], "disk.qcow2")
    expect(base.stat().st_ino, inode)
    assert disk.stat().st_ino != inode
    restored("news", FILE, "--name", "news")
    count("mail", 2)
    count("news", 2)
    restored()  # the machine itself, which has not run meanwhile
    count("web", 2)
    # Nobody pulls away what others stand on.
    refused([frozen[0], "stands on image tiny"], "image", "rm", "tiny")
    refused(["3 machines stand on image " + frozen[0]], "image", "rm", frozen[0])
    good("kill", "web")
    good("start", "web")  # it runs on its own: its disk is no longer the saved one
    good("kill", "web")
    (FOLDER / "web/disk.qcow2").touch()
    refused(["web has run on", "--name"], "restore", FILE)
    restored("more", FILE, "--name", "more")
    for name in ("mail", "news", "more", "web"):
        good("rm", "--force", name)
    good("image", "rm", frozen[0])
    refused(["disk.qcow2", "No such file"], "restore", FILE)
    good("image", "rm", "tiny")
    expect(listed(), {})


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


class File:
    """A saved state, to be changed with its checksums right."""

    def __init__(self):
        self.data = bytearray(Path(FILE).read_bytes())

    def parts(self):
        for i in range(struct.unpack_from("<I", self.data, 12)[0]):
            at = 32 + i * 40
            name, begin, size, _ = struct.unpack_from("<16sQQI", self.data, at)
            yield at, name.rstrip(b"\0").decode(), begin, size

    def edit(self, part, change):
        for at, name, begin, size in self.parts():
            if name == part:
                body = bytearray(self.data[begin:begin + size])
                change(body)
                assert len(body) == size
                self.data[begin:begin + size] = body
                struct.pack_into("<I", self.data, at + 32, crc32c(body))
        return self

    def write(self, name="edited"):
        struct.pack_into("<I", self.data, HEAD - 4, crc32c(self.data[:HEAD - 4]))
        path = Path(STATE.name, name)
        path.write_bytes(self.data)
        return str(path)


def lacks(body):
    """Adds a feature that this host has not; None where it has all of these."""
    count = struct.unpack_from("<I", body, 8)[0]
    for i in range(count):
        at = 16 + i * 24
        leaf, subleaf, eax, ebx, ecx, edx = struct.unpack_from("<6I", body, at)
        for wanted, register, bit in ((7, 3, 29), (7, 4, 22), (7, 3, 18)):
            value = (eax, ebx, ecx, edx)[register - 2]
            if (leaf, subleaf) == (wanted, 0) and not value >> bit & 1:
                struct.pack_into("<I", body, at + register * 4, value | 1 << bit)
                return
    raise LookupError


def faster(body):
    struct.pack_into("<Q", body, 0, struct.unpack_from("<Q", body, 0)[0] * 2)


def flip(body):
    body[len(body) // 2] ^= 1


def other_files_are_refused():
    begun()
    saved()
    good_file = Path(FILE).read_bytes()
    for size, words in [(0, ["no saved state"]), (4000, ["no saved state"]), (5000, ["cut off"]), (len(good_file) - 1, ["cut off"])]:
        Path(STATE.name, "cut").write_bytes(good_file[:size])
        refused([f"{STATE.name}/cut", *words], "restore", f"{STATE.name}/cut")
    Path(STATE.name, "foreign").write_bytes(random.Random(1).randbytes(20000))
    refused(["foreign", "no saved state"], "restore", f"{STATE.name}/foreign")
    refused([STATE.name, "a file"], "restore", STATE.name)
    refused(["nothing", "No such file"], "restore", f"{STATE.name}/nothing")
    for at in (9, 100, 5000, len(good_file) - 1):
        bad = bytearray(good_file)
        bad[at] ^= 4
        Path(STATE.name, "bad").write_bytes(bad)
        refused(["bad", "damaged"], "restore", f"{STATE.name}/bad")
    newer = File()
    newer.data[8] += 1
    refused(["version 2", "newer"], "restore", newer.write())
    refused(["none that this strata makes"], "restore", File().edit("processor", lambda body: flip(body[:16]) or body.__setitem__(20, 1)).write())
    refused(["time stamp counter", "kHz"], "restore", File().edit("processor", faster).write())
    try:
        refused(["cannot do what the saved one can", "it lacks"], "restore", File().edit("processor", lacks).write())
    except LookupError:
        pass
    refused(["restoring", "clock"], "restore", File().edit("state", lambda body: body.__setitem__(0, 0)).write())
    refused(["good name"], "restore", File().edit("name", lambda body: body.__setitem__(0, 0x2f)).write())
    config = File().edit("config", lambda body: body.__setitem__(slice(body.index(b"16M"), body.index(b"16M") + 3), b"32M"))
    good("rm", "web")
    detached("web", COUNTER)
    good("kill", "web")
    refused(["another one than that which was saved", "--name"], "restore", FILE)
    refused(["memory has another form"], "restore", config.write(), "--name", "mail")
    refused(["--engine warp"], "restore", FILE, "--engine", "warp", status=2)
    expect(list(listed()), ["web"])  # nothing has been changed
    expect(listed()["web"]["why"], "killed by its owner")
    gone("web")
    restored()
    count("web", 2)
    gone("web")


def mistakes_are_told_with_what_to_do():
    begun()
    Path(FILE).write_text("mine")
    refused([FILE, "exists", "--force"], "save", "web", FILE)
    expect(Path(FILE).read_text(), "mine")
    refused(["/nonexistent/f", "No such file"], "save", "web", "/nonexistent/f")
    expect(state("web"), "running")
    saved("web", FILE, "--force")
    refused(["web does not run", "strata start web"], "save", "web", FILE, "--force")
    gone("web")
    for verb in ("save", "restore"):
        refused(["missing"], verb, status=2)
    refused(["no machine web"], "save", "web", FILE, "--force")
    refused(["a b", "letters"], "restore", FILE, "--name", "a b", status=2)
    detached("web", COUNTER, "--rm")
    refused(["--rm", "nothing could be restored"], "save", "web", f"{FILE}2")
    good("kill", "web")
    expect(listed(), {})


def who_is_killed_leaves_a_machine_that_goes_on():
    """The command is killed at any moment: the machine runs, or is whole in its file."""
    begun("--memory", "64M")
    seen = 1
    for moment in range(14):
        file = Path(f"{STATE.name}/kill-{moment}")
        with subprocess.Popen([cli.STRATA, "save", "web", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
            time.sleep(moment / 200)
            p.kill()
        while state("web") in ("saving", "ending", "silent"):
            pass
        if state("web") == "stopped":
            restored("web", str(file))
        seen += 1
        count("web", seen)
    left = [name for name in os.listdir(STATE.name) if name.startswith("kill-")]
    for name in left:  # each is a whole one
        expect(strata("restore", f"{STATE.name}/{name}", "--name", name).returncode, 0)
        good("rm", "--force", name)
        os.unlink(f"{STATE.name}/{name}")
    gone("web")


def a_monitor_that_is_killed_leaves_no_file():
    begun()
    os.kill(pid("web"), signal.SIGSTOP)
    with subprocess.Popen([cli.STRATA, "save", "web", FILE], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as p:
        time.sleep(0.2)
        os.kill(pid("web"), signal.SIGKILL)
        assert b"web" in p.stderr.read()
        expect(p.wait(timeout=10), 1)
    assert not os.path.exists(FILE)
    expect(state("web"), "crashed")
    gone("web")


def of_commands_at_once_one_wins():
    begun()
    files = [f"{STATE.name}/race-{i}" for i in range(3)]
    expect(sorted(machines.together([["save", "web", file] for file in files])), [0, 1, 1])
    file, = [file for file in files if os.path.exists(file)]
    expect(sorted(machines.together([["restore", file]] * 3)), [0, 1, 1])
    count("web", 2)
    expect(sorted(machines.together([["restore", file, "--name", "mail"]] * 3)), [0, 1, 1])
    count("mail", 2)
    good("rm", "--force", "mail")
    gone("web")


CASES = [
    a_machine_goes_on_where_it_was,
    each_engine_takes_over_from_each,
    its_devices_go_on,
    clocks_go_on,
    another_machine_is_another,
    each_is_of_another_generation,
    disks_are_what_they_were,
    clones_stand_on_what_was_saved,
    other_files_are_refused,
    mistakes_are_told_with_what_to_do,
    who_is_killed_leaves_a_machine_that_goes_on,
    a_monitor_that_is_killed_leaves_no_file,
    of_commands_at_once_one_wins,
]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        sys.exit(cases.main(CASES))
    finally:
        machines.end_all()
