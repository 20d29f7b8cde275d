#!/usr/bin/env python3
"""Shared folders: Debian's virtiofs mounts two of them, and what the guest and the host see agrees.

    share.py STRATA ENGINE SECONDS

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import os
import random
import sys
import tempfile
from pathlib import Path

import guest

CONTENT = random.Random(3).randbytes(9 << 20)
MANY = 100
SCRIPT = b"""
fail() { echo "wrong: $*"; exit 1; }
for module in /modules/*.ko; do
	insmod "$module" || exit 2
done
mkdir /shared /look
mount -t virtiofs work /shared && mount -t virtiofs look /look || fail mount
# What the host has made.
cmp /content /shared/content || fail content
[ "$(ls /shared/many | wc -l)" = 100 ] || fail many
[ "$(cat /shared/many/57)" = 57 ] || fail a file of many
[ "$(readlink /shared/link)" = content ] && cmp /shared/link /content || fail link
# What leads out of the folder leads nowhere on the host, but somewhere in the guest.
echo guest >/secret
[ "$(cat /shared/way-out)" = guest ] || fail way out
# What the guest makes.
cat /content >/shared/copy && cmp /content /shared/copy || fail copy
mkdir -p /shared/new/below && echo one >/shared/new/below/file && echo two >>/shared/new/below/file || fail new
mv /shared/new/below/file /shared/moved && ln /shared/moved /shared/again && ln -s moved /shared/soft || fail names
[ "$(stat -c %h /shared/moved)" = 2 ] && [ "$(cat /shared/soft)" = "one
two" ] || fail links
echo rest >/shared/short && truncate -s 3 /shared/short && chmod 640 /shared/short && touch -d @1000000000 /shared/short || fail short
[ "$(stat -c '%s %a %Y' /shared/short)" = "3 640 1000000000" ] || fail attributes
dd if=/content of=/shared/sparse bs=4096 count=1 seek=2048 2>/dev/null || fail sparse
echo hidden >/shared/hidden && exec 3</shared/hidden && rm /shared/hidden && read -r word <&3 && [ "$word" = hidden ] && exec 3<&- || fail hidden
rm -r /shared/many && rmdir /shared/new/below || fail rm
df /shared >/dev/null && sync || fail sync
mkfifo /shared/pipe 2>/dev/null && fail pipe
mknod /shared/device c 1 3 2>/dev/null && fail device
# To be looked at, only.
[ "$(cat /look/content | md5sum)" = "$(md5sum </content)" ] || fail look
echo x 2>/dev/null >/look/content && fail read-only
rm /look/content 2>/dev/null && fail read-only
# What comes while it runs.
echo "the guest waits"
until [ "$(cat /shared/late 2>/dev/null)" = late ]; do usleep 50000; done
umount /shared && umount /look || fail umount
echo "all folders are well"
"""


def prepare(work):
    (work / "secret").write_text("host\n")
    for folder in ("work", "look"):
        (work / folder).mkdir()
        (work / folder / "content").write_bytes(CONTENT)
    (work / "work/link").symlink_to("content")
    (work / "work/way-out").symlink_to("../secret")
    (work / "work/many").mkdir()
    for i in range(MANY):
        (work / "work/many" / str(i)).write_text(f"{i}\n")


def check(work):
    shared = work / "work"
    found = sorted(str(path.relative_to(shared)) for path in shared.rglob("*"))
    wanted = sorted(["again", "content", "copy", "late", "link", "moved", "new", "short", "soft", "sparse", "way-out"])
    if found != wanted:
        yield f"the host finds {found}"
        return
    if (shared / "copy").read_bytes() != CONTENT or (shared / "content").read_bytes() != CONTENT:
        yield "the copy differs"
    if (shared / "moved").read_text() != "one\ntwo\n" or not os.path.samefile(shared / "moved", shared / "again"):
        yield "what was moved and linked differs"
    if os.readlink(shared / "soft") != "moved" or (shared / "short").read_bytes() != b"res":
        yield "a link or a size differs"
    short = os.stat(shared / "short")
    if short.st_mode & 0o7777 != 0o640 or short.st_mtime != 1000000000:
        yield "attributes differ"
    if (shared / "sparse").read_bytes() != bytes(8 << 20) + CONTENT[:4096]:
        yield "the sparse file differs"
    if (work / "secret").read_text() != "host\n" or sorted(os.listdir(work)) != ["look", "secret", "work"]:
        yield "something outside has changed"
    if os.listdir(work / "look") != ["content"] or (work / "look/content").read_bytes() != CONTENT:
        yield "the read-only folder was written to"


def main():
    strata, engine, seconds = sys.argv[1:4]
    kernel = guest.kernel("cloud")
    files = {"share.sh": SCRIPT, "content": CONTENT}
    initrd = guest.initramfs("share", files | guest.modules(kernel, ["virtio_pci", "virtiofs"]))
    problems = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        prepare(work)
        command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "512M", "--cpus", "2",
                   "--no-reboot", "--log", "guest", "--share", f"{work}/work:work", "--share", f"{work}/look:look,readonly",
                   "--append", "console=ttyS0 quiet panic=-1 strata.run=sh%20/share.sh"]
        with guest.Guest(command, float(seconds)) as machine:
            try:
                machine.wait_for("^the guest waits")
                (work / "work/late").write_text("late")
                problems += machine.end_well()
            except guest.Failed as e:
                problems.append(str(e))
            problems += check(work)
            machine.report(problems, "share", expected=["all folders are well"], unwanted=["needs a reset"])
    sys.exit(1 if problems else 0)


main()
