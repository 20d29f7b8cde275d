#!/usr/bin/env python3
"""kill -9, of a monitor or of a command about a machine, at any moment: every disk is consistent and has what was flushed, the other machines
run on, and `strata ls` tells the truth.

    kills.py STRATA ENGINE ROUNDS SECONDS

Three machines of Debian's stock kernel write numbered records to qcow2 disks of their own, and say on their consoles which of them have been
flushed. A long test. Skips (77) where the kernel cannot be had.
"""
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

import guest
from home import Home

NAMES = ["ada", "bob", "cy"]
SLOTS, BLOCK = 512, 4096
# Record i is in slot i % SLOTS, and i in the block behind them all.
SCRIPT = b"""
disk=/dev/nvme0n1
i=$(dd if=$disk bs=4096 skip=512 count=1 2>/dev/null | head -n 1 | tr -dc 0-9)
while i=$((${i:-0} + 1)); do
	yes "record $i" | head -c 4096 | dd of=$disk bs=4096 seek=$((i % 512)) conv=notrunc,fsync 2>/dev/null &&
		yes "$i" | head -c 4096 | dd of=$disk bs=4096 seek=512 conv=notrunc,fsync 2>/dev/null && echo "flushed $i"
done
"""
# Some are over before they are killed.
COMMANDS = [["ls"], ["show", "NAME"], ["pause", "NAME"], ["resume", "NAME"], ["reset", "NAME"], ["start", "NAME"], ["set", "NAME", "timeout", "100000"],
            ["kill", "NAME"], ["stop", "NAME", "--timeout", "0.2"], ["save", "NAME", "FOLDER/state"], ["attach", "NAME", "--disk", "FOLDER/more.qcow2"],
            ["detach", "NAME", "disk0", "--timeout", "0.2"], ["balloon", "NAME", "8M"]]
SETTLED = ("running", "paused", "stopped", "crashed")


def record(i):
    line = f"record {i}\n".encode()
    return (line * (BLOCK // len(line) + 1))[:BLOCK]


class World:
    def __init__(self, strata, engine, folder, seconds):
        self.home, self.folder, self.strata = Home(strata, folder), folder, strata
        self.deadline = time.monotonic() + seconds
        kernel, initrd = guest.kernel("cloud"), guest.initramfs("kills", {"kills.sh": SCRIPT})
        for name in [*NAMES, "more"]:
            self.home("image", "create", self.disk(name), "--size", "16M")
        for name in NAMES:
            self.home("create", "--name", name, "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "128M", "--balloon", "0",
                      "--disk", f"{self.disk(name)},bus=nvme", "--append", "console=ttyS0 quiet panic=-1 strata.run=sh%20/kills.sh")
            self.home("start", name)

    def disk(self, name):
        return f"{self.folder}/{name}.qcow2"

    def flushed(self, name):
        return max((int(found) for found in re.findall(r"^flushed (\d+)\r?$", self.home("logs", name), re.M)), default=0)

    def settled(self, name):
        """Its row, once nothing is under way any more."""
        while (row := self.home.state(name))["state"] not in SETTLED:
            if time.monotonic() > self.deadline:
                raise guest.Failed(f"{name} is {row['state']}")
        return row

    def goes_on(self, name):
        """Another record is flushed."""
        before = self.flushed(name)
        while self.flushed(name) <= before:
            if time.monotonic() > self.deadline:
                raise guest.Failed(f"{name} does not go on: {self.home.state(name)}\n{self.home('logs', name)[-2000:]}")
            time.sleep(0.02)

    def check_disk(self, name):
        """It is consistent, and has the last records that were flushed."""
        flushed = self.flushed(name)
        self.home("image", "check", self.disk(name))
        self.home("image", "convert", self.disk(name), f"{self.folder}/raw", "--format", "raw", "--force")
        with open(f"{self.folder}/raw", "rb") as raw:
            data = raw.read()
        for i in range(max(1, flushed - SLOTS // 2), flushed + 1):
            at = i % SLOTS * BLOCK
            if data[at:at + BLOCK] != record(i):
                raise guest.Failed(f"{name}: record {i} of {flushed} is not there: {data[at:at + 40]}")

    def kill_monitor(self, name, dice):
        row = self.home.state(name)
        time.sleep(dice.random())
        os.kill(row["pid"], signal.SIGKILL)
        while (state := self.home.state(name)["state"]) in ("running", "ending", "silent"):  # until its threads have gone
            if time.monotonic() > self.deadline:
                break
        if state != "crashed":
            raise guest.Failed(f"{name} was killed, and is {state}")

    def kill_command(self, name, dice):
        words = [word.replace("NAME", name).replace("FOLDER", self.folder) for word in dice.choice(COMMANDS)]
        with subprocess.Popen([self.strata, *words], env=self.home.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
            time.sleep(dice.random() ** 3 * 0.5)
            p.kill()
        return words[0]

    def one_round(self, dice):
        name = dice.choice(NAMES)
        others = {other: self.home.state(other)["pid"] for other in NAMES if other != name}
        what = "monitor" if dice.random() < 0.4 else None
        if what:
            self.kill_monitor(name, dice)
        else:
            what = self.kill_command(name, dice)
        row = self.settled(name)
        lives = "pid" in row and os.path.exists(f"/proc/{row['pid']}")
        if lives != (row["state"] in ("running", "paused")):
            raise guest.Failed(f"{what}: {name} is said to be {row['state']}: {row}")
        for other, pid in others.items():
            now = self.home.state(other)
            if (now["state"], now.get("pid")) != ("running", pid):
                raise guest.Failed(f"{what} of {name}: {other} has become {now}")
        if row["state"] == "paused":
            self.home("resume", name)
        elif row["state"] != "running":
            self.check_disk(name)
            self.home("start", name)
        for each in NAMES:
            self.goes_on(each)
        return f"{what}/{row['state']}"


def main():
    strata, engine, rounds, seconds = sys.argv[1:5]
    if not guest.LONG:
        guest.skip("a long test: STRATA_TEST_LONG=1 runs it")
    dice, problems, seen = random.Random(int(os.environ.get("STRATA_SEED", "1"))), [], {}
    with tempfile.TemporaryDirectory() as folder:
        world = World(strata, engine, folder, float(seconds))
        try:
            for name in NAMES:
                world.goes_on(name)
            for _ in range(int(rounds)):
                what = world.one_round(dice)
                seen[what] = seen.get(what, 0) + 1
            for name in NAMES:
                world.kill_monitor(name, dice)
                world.check_disk(name)
                print(f"{name}: {world.flushed(name)} records")
            world.home("image", "check", world.disk("more"))
        except guest.Failed as e:
            problems.append(str(e))
        finally:
            for name in NAMES:
                subprocess.run([strata, "rm", "--force", name], env=world.home.env, capture_output=True)
    print(*problems, ", ".join(f"{count} {what}" for what, count in sorted(seen.items())), sep="\n")
    sys.exit(1 if problems else 0)


main()
