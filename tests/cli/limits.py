#!/usr/bin/env python3
"""Limits of machines by control groups, and what is left of these: nothing. Where the host has none, that is told.

    limits.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)

tests/boot/limits.py runs it in a machine, whose kernel has all controllers.
"""
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cases
import cli
import sectors
from cli import expect, image, one_line, strata

STATE = tempfile.TemporaryDirectory()
os.environ["XDG_STATE_HOME"] = STATE.name
os.environ.pop("STRATA_CGROUP", None)
ENGINE = ["--engine", "interpret", "--memory", "16M"]
ALL = "memory=128M,cpu=0.5,weight=50,pids=64"
FEW = bool(os.environ.get("STRATA_LIMITS_FEW"))  # where all is slow
SPIN = sectors.sector(b"\xeb\xfe")  # jmp $


def top():
    """Where control groups of version 2 are; None: nowhere."""
    found = re.search(r"^\S+ \S+ \S+ / (\S+) .* - cgroup2 ", Path("/proc/self/mountinfo").read_text(), re.M)
    return Path(found[1]) if found else None


def possible():
    at = top()
    return at and {"memory", "cpu", "pids"} <= set((at / "cgroup.controllers").read_text().split()) and os.access(at, os.W_OK)


def good(*args, **kwargs):
    done = strata(*args, **kwargs)
    assert done.returncode == 0 and not done.stderr, f"{args}: {done.returncode} {done.stderr}"
    return done.stdout.decode()


def refused(words, *args, status=1, **kwargs):
    one_line(strata(*args, **kwargs), status, *words)


def detached(name, *options, kernel=None):
    expect(good("run", "--name", name, "--detach", *ENGINE, "--kernel", image(kernel or sectors.echo()), *options), f"{name}\n")


def listed():
    return {row["name"]: row for row in json.loads(good("ls", "--json"))}


def pid(name):
    return listed()[name]["pid"]


def group(name):
    text = Path(f"/proc/{pid(name)}/cgroup").read_text()
    return Path(f"{top()}{re.search('^0::(.*)$', text, re.M)[1]}")


def says(folder, *files):
    return [(folder / file).read_text().strip() for file in files]


def left():
    """Groups of ours."""
    return sorted(str(path) for path in top().rglob("strata-*") if path.is_dir())


def ended(name):
    while listed()[name]["state"] not in ("stopped", "crashed", "starved"):
        pass


def words_are_checked():
    for limits, words in [("", ["memory=2G,cpu=1.5"]), ("frob=1", ["no option frob=1", "memory=", "pids="]), ("memory", ["no option memory"]),
                          ("memory=1M", ["memory=1M", "16M"]), ("memory=x", ["memory=x"]), ("cpu=0", ["cpu=0", "0.01"]), ("cpu=-1", ["cpu=-1"]),
                          ("cpu=1e9", ["cpu=1e9"]), ("cpu=nan", ["cpu=nan"]), ("weight=0", ["weight=0", "10000"]), ("pids=1", ["pids=1", "16"]),
                          ("cpu=1,cpu=2", ["cpu=", "twice"]), ("memory=64M", ["16 MiB", "80M"]), ("cpu=" + "1" * 300, ["memory=2G"])]:
        refused(["--limits", *words], "run", "--name", "web", *ENGINE, "--kernel", "x", "--limits", limits, status=2)
    refused(["--limits needs a name"], "run", *ENGINE, "--kernel", "x", "--limits", "cpu=1", status=2)
    file = image(b"name: web\nkernel: kernel\nmemory: 16M\nlimits: memory=100M,frob=1\n", "web.yaml")
    refused([file, "line 4", "frob"], "create", "-f", file, status=2)
    # With a balloon a guest may be content with less.
    good("create", "--name", "web", *ENGINE, "--kernel", "x", "--balloon", "0", "--limits", "memory=64M")
    assert "\nlimits: memory=64M\n" in good("show", "web")
    refused(["cpu=x"], "set", "web", "limits", "cpu=x", status=2)
    good("set", "web", "limits", "cpu=1")
    good("set", "web", "limits", "")
    assert "limits" not in good("show", "web")
    good("rm", "web")


def what_is_not_there_is_told():
    if possible():
        with subprocess.Popen(["sleep", "1000"]) as p, own_group() as folder:
            (folder / "cgroup.procs").write_text(str(p.pid))
            refused(["limits", str(folder), "processes of its own"], "run", "--name", "web", *ENGINE, "--kernel", image(sectors.echo()), "--limits",
                    "cpu=1", status=3, env=os.environ | {"STRATA_CGROUP": str(folder)})
            p.kill()
    else:
        refused(["limits", "control group"], "run", "--name", "web", *ENGINE, "--kernel", image(sectors.echo()), "--limits", "cpu=1", status=3)
    refused(["limits", "STRATA_CGROUP", "/tmp"], "run", "--name", "web", *ENGINE, "--kernel", image(sectors.echo()), "--limits", "cpu=1", status=3,
            env=os.environ | {"STRATA_CGROUP": "/tmp"})
    expect(listed(), {})


def more_memory_than_there_is_is_asked_for():
    more = ["run", "--name", "big", "--detach", "--engine", "interpret", "--kernel", image(sectors.echo())]
    for name in ([], ["--name", "big"]):
        refused(["1024000 MiB", "memory", "MiB left", "--overcommit"], "run", *name, *ENGINE[:2], "--kernel", image(sectors.echo()), "--memory", "1000G", status=3)
    # What is promised is not there, though nobody has touched it.
    half = (int(re.search(r"^MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text(), re.M)[1]) >> 10) * 2 // 3
    good(*more, "--memory", f"{half}M")
    refused(["promised", "strata ls", "--overcommit"], *[word.replace("big", "other") for word in more], "--memory", f"{half}M", status=3)
    assert "other" not in listed()
    good(*[word.replace("big", "other") for word in more], "--memory", f"{half}M", "--overcommit")
    good("kill", "other")
    good("kill", "big")
    refused(["other", "exists"], *[word.replace("big", "other") for word in more], "--memory", f"{half}M")
    good("start", "big")  # a promise ends with its machine
    # Of several at once, one is first.
    good("kill", "big")
    good("set", "other", "overcommit", "")
    running = [subprocess.Popen([cli.STRATA, "start", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for name in ("big", "other")]
    expect(sorted(p.wait(timeout=cli.LIMIT) for p in running), [0, 3])
    for name in ("big", "other"):
        good("rm", "--force", name)


def limits_are_kept():
    detached("web", "--limits", ALL)
    at = group("web")
    expect(says(at, "memory.max", "cpu.max", "cpu.weight", "pids.max"), [str(128 << 20), "50000 100000", "50", "64"])
    expect(listed()["web"]["limits"], {"memory": 128 << 20, "cpu": 0.5, "weight": 50, "pids": 64})
    expect(json.loads(good("show", "web", "--json"))["limits"], listed()["web"]["limits"])
    assert f"\nlimits: {ALL}\n" in good("show", "web")
    # All of its threads are in it, and nobody else.
    expect(says(at, "cgroup.procs"), [str(pid("web"))])
    expect(len(says(at, "cgroup.threads")[0].split()), len(os.listdir(f"/proc/{pid('web')}/task")))
    good("rm", "--force", "web")
    expect(left(), [])


def a_guest_that_spins_is_slowed_down():
    detached("web", "--limits", "cpu=0.2", kernel=SPIN)
    while int(re.search(r"^nr_throttled (\d+)$", (group("web") / "cpu.stat").read_text(), re.M)[1]) < 3:
        time.sleep(0.05)
    good("rm", "--force", "web")


def limits_are_set_later():
    detached("web", "--limits", "cpu=0.5")
    at = group("web")
    good("set", "web", "limits", "memory=256M,cpu=2,pids=100")
    expect(listed()["web"]["limits"], {"memory": 256 << 20, "cpu": 2.0, "pids": 100})
    good("set", "web", "limits", "weight=200")
    expect(listed()["web"]["limits"], {"weight": 200})
    good("set", "web", "limits", "")
    expect(listed()["web"]["limits"], {})
    expect(says(at, "cpu.max", "cpu.weight"), ["max 100000", "100"])
    expect(group("web"), at)
    good("kill", "web")
    good("start", "web")
    assert "limits" not in listed()["web"]
    done = strata("set", "web", "limits", "cpu=1")
    expect(done.returncode, 0)
    assert b"web runs, and needs a restart" in done.stderr and b"started without limits" in done.stderr, done.stderr
    good("kill", "web")
    good("start", "web")
    expect(listed()["web"]["limits"], {"cpu": 1.0})
    good("rm", "--force", "web")
    # What it has already is not taken away: the kernel would kill it.
    detached("web", "--limits", "cpu=1,memory=1G", "--balloon", "0", "--memory", "512M")
    at = group("web")
    used = int(says(at, "memory.current")[0])
    if used > 16 << 20:
        done = strata("set", "web", "limits", "memory=16M")
        assert b"needs a restart" in done.stderr and b"MiB" in done.stderr, done.stderr
        expect(says(at, "memory.max"), [str(1 << 30)])
    good("rm", "--force", "web")
    expect(left(), [])


def who_was_ended_by_its_limit_is_told_from_who_was_killed():
    detached("web", "--limits", ALL)
    at = group("web")
    os.kill(pid("web"), signal.SIGKILL)
    ended("web")
    expect(listed()["web"]["state"], "crashed")
    for first in ("show", "ls"):  # whoever looks first
        good("start", "web")
        (at / "memory.max").write_text("64K")  # less than it has: the kernel ends it
        while (row := json.loads(good("show", "web", "--json")) if first == "show" else listed()["web"])["state"] in ("running", "ending", "starting", "silent"):
            pass
        expect(row["state"], "starved")
        assert "limit of memory" in row["why"], row
        while at.exists():
            good("ls")
        assert re.search("^web +starved ", good("ls"), re.M) and "limit of memory" in good("show", "web")
    good("start", "web")
    assert listed()["web"]["state"] != "starved"
    os.kill(pid("web"), signal.SIGKILL)
    ended("web")
    expect(listed()["web"]["state"], "crashed")
    good("rm", "web")
    expect(left(), [])


def nothing_is_left():
    detached("web", "--limits", ALL)
    good("kill", "web")
    expect(left(), [])
    good("start", "web")
    at = group("web")
    os.kill(pid("web"), signal.SIGKILL)
    ended("web")
    while at.exists():  # a helper's end is waited for by nobody
        good("ls")
    # The next one tidies up, whoever that is: a start of the same machine, too.
    good("start", "web")
    os.kill(pid("web"), signal.SIGKILL)
    while strata("start", "web").returncode:
        pass
    expect(left(), [str(group("web"))])
    os.kill(pid("web"), signal.SIGKILL)
    while strata("rm", "web").returncode:
        pass
    expect(left(), [])
    detached("gone", "--limits", ALL, "--rm")
    os.kill(pid("gone"), signal.SIGKILL)
    while listed():
        pass
    expect(left(), [])


def who_is_killed_at_any_moment_leaves_nothing():
    command = [cli.STRATA, "run", "--name", "web", "--detach", *ENGINE, "--kernel", image(sectors.echo()), "--limits", ALL]
    for moment in range(0, 60, 20) if FEW else range(0, 60, 5):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True) as p:
            time.sleep(moment / 1000)
            os.killpg(p.pid, signal.SIGKILL)
        while (row := listed().get("web")) and row["state"] in ("starting", "ending", "silent"):
            pass
        if row:
            good("rm", "--force", "web")
        expect((listed(), left()), ({}, []))


def who_tidies_up_is_in_nobodys_way():
    detached("web", "--limits", ALL)
    good("kill", "web")
    with subprocess.Popen(["sh", "-c", 'while "$0" ls; do :; done', cli.STRATA], stdout=subprocess.DEVNULL, start_new_session=True) as p:
        try:
            for _ in range(2 if FEW else 10):
                good("start", "web")
                expect(says(group("web"), "cgroup.procs"), [str(pid("web"))])
                good("kill", "web")
        finally:
            os.killpg(p.pid, signal.SIGKILL)
    good("rm", "web")
    expect(left(), [])


@contextlib.contextmanager
def own_group():
    folder = top() / "mine"
    (top() / "cgroup.subtree_control").write_text("+memory +cpu +pids")
    folder.mkdir()
    try:
        yield folder
    finally:
        for path in (folder / "shell", folder):
            while path.exists():
                with contextlib.suppress(OSError):
                    path.rmdir()


def become_user(procs):
    if procs:
        procs.write_text("0")
    os.setgroups([])
    os.setgid(4711)
    os.setuid(4711)


def an_ordinary_user_needs_a_group_of_his_own():
    if os.geteuid() or not all(parent.stat().st_mode & 0o001 for parent in Path(cli.STRATA).parents):
        return
    kernel = image(sectors.echo())
    os.chmod(cli.WORK.name, 0o755)
    with tempfile.TemporaryDirectory() as state, own_group() as folder:
        os.chown(state, 4711, 4711)
        who = {"preexec_fn": lambda: become_user(None), "env": os.environ | {"XDG_STATE_HOME": state}}
        run = ["run", "--name", "web", "--detach", *ENGINE, "--kernel", kernel, "--limits", ALL]
        refused(["not yours", "STRATA_CGROUP"], *run, status=3, **who)
        (folder / "shell").mkdir()
        for path in (folder, *(folder / name for name in ("cgroup.procs", "cgroup.subtree_control")), folder / "shell/cgroup.procs"):
            os.chown(path, 4711, 4711)
        who["preexec_fn"] = lambda: become_user(folder / "shell/cgroup.procs")
        good(*run, **who)
        rows = json.loads(good("ls", "--json", **who))
        expect(rows[0]["limits"], {"memory": 128 << 20, "cpu": 0.5, "weight": 50, "pids": 64})
        good("set", "web", "limits", "cpu=2", **who)
        expect(json.loads(good("ls", "--json", **who))[0]["limits"], {"cpu": 2.0})
        good("rm", "--force", "web", **who)
        expect(left(), [])


ANYWHERE = [words_are_checked, what_is_not_there_is_told, more_memory_than_there_is_is_asked_for]
CASES = [
    limits_are_kept,
    a_guest_that_spins_is_slowed_down,
    limits_are_set_later,
    who_was_ended_by_its_limit_is_told_from_who_was_killed,
    nothing_is_left,
    who_is_killed_at_any_moment_leaves_nothing,
    who_tidies_up_is_in_nobodys_way,
    an_ordinary_user_needs_a_group_of_his_own,
]

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of the last line, too
    try:
        sys.exit(cases.main(([] if FEW else ANYWHERE) + (CASES if possible() else [])))
    finally:
        for name in listed():
            strata("rm", "--force", name)
