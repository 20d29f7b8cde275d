#!/usr/bin/env python3
"""Machines with names: what the verbs about them promise, also when several are at work at once or somebody is killed.

    machines.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)
"""
import contextlib
import fcntl
import json
import os
import random
import re
import select
import signal
import socket
import stat
import struct
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
FOLDER = Path(STATE.name) / "strata/machines"
ENGINE = ["--engine", "interpret", "--memory", "16M"]

# Waits for the power button (PM1 status, bit 8), then powers off.
BUTTON = sectors.sector(b"\xba\x00\x06\xed\xf6\xc4\x01\x74\xfa" + sectors.power_off() + sectors.HALT)


def good(*args, **kwargs):
    done = strata(*args, **kwargs)
    assert done.returncode == 0 and not done.stderr, f"{args}: {done.returncode} {done.stderr}"
    return done.stdout.decode()


def refused(words, *args, status=1):
    one_line(strata(*args), status, *words)


def detached(name, kernel=None, *options):
    expect(good("run", "--name", name, "--detach", *ENGINE, "--kernel", image(kernel or sectors.echo()), *options), f"{name}\n")


def listed():
    return {row["name"]: row for row in json.loads(good("ls", "--json"))}


def folders():
    """Of machines: what begins with a dot is the store's own."""
    return [name for name in os.listdir(FOLDER) if not name.startswith(".")]


def state(name):
    return listed()[name]["state"]


def pid(name):
    return json.loads((FOLDER / name / "outcome").read_bytes())["pid"]


def gone(name):
    good("rm", "--force", name) if state(name) not in ("new", "stopped", "crashed") else good("rm", name)
    expect(listed(), {})


@contextlib.contextmanager
def console(name):
    with subprocess.Popen([cli.STRATA, "console", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        try:
            yield p
        finally:
            p.kill()


def talk(p, text, wanted):
    p.stdin.write(text)
    p.stdin.flush()
    seen = b""
    while len(seen) < len(wanted) and select.select([p.stdout], [], [], 10)[0]:
        more = os.read(p.stdout.fileno(), len(wanted) - len(seen))
        if not more:
            break
        seen += more
    expect(seen, wanted)


def a_machine_lives_in_the_background():
    detached("web")
    row = listed()["web"]
    expect([row[key] for key in ("state", "engine", "cpus", "memory")], ["running", "interpret", 1, 16 << 20])
    assert re.search(r"^web +running +interpret +1 +16 MiB", good("ls"), re.M)
    with console("web") as first:
        talk(first, b"abc", b"bcd")
        with console("web") as second:  # what was said before it came is in the log
            talk(second, b"xy", b"yz")
            talk(first, b"", b"yz")
    assert good("logs", "web").startswith("bcdyz")
    with console("web") as p:
        p.stdin.write(b"q")
        p.stdin.flush()
        expect(p.wait(timeout=10), 0)
    while state("web") in ("starting", "ending"):  # who was at its console heard of it before it was gone
        pass
    row = listed()["web"]
    expect([row["state"], row["why"], row["exit_status"]], ["stopped", "debug exit", 7])
    expect(good("start", "web"), "web\n")
    expect(state("web"), "running")
    good("kill", "web")
    expect([listed()["web"][key] for key in ("state", "exit_status")], ["stopped", 128 + signal.SIGKILL])
    gone("web")


def a_machine_can_be_held():
    detached("web")
    good("pause", "web")
    expect(state("web"), "paused")
    refused(["web", "paused already"], "pause", "web")
    before = listed()["web"]["guest_seconds"]
    time.sleep(0.1)
    expect(listed()["web"]["guest_seconds"], before)
    with console("web") as p:
        p.stdin.write(b"a")
        p.stdin.flush()
        assert not select.select([p.stdout], [], [], 0.2)[0], "a paused guest has answered"
        good("resume", "web")
        talk(p, b"", b"b")
        good("pause", "web")
        good("reset", "web")  # outlived by the pause
        expect(state("web"), "paused")
        good("resume", "web")
        talk(p, b"c", b"d")
    refused(["web", "not paused"], "resume", "web")
    refused(["web", "no balloon", "--balloon 0"], "balloon", "web")
    gone("web")


def attached(name):
    return [row["name"] for row in json.loads(good("show", name, "--json")).get("attached", [])]


def disks_come_and_wait_for_the_guest():
    """This guest knows no hot-plug: what is attached stays until a reset."""
    here = tempfile.TemporaryDirectory()
    disk = Path(here.name) / "a,b.qcow2"
    good("image", "create", str(disk), "--size", "1M")
    wide = str(disk).replace(",", ",,")
    detached("web")
    expect(good("attach", "web", "--disk", wide), "disk0\n")
    refused(["attach", "in use by", f"process {pid('web')}"], "attach", "web", "--disk", wide)
    raw = Path(here.name) / "raw"
    raw.write_bytes(bytes(1 << 20))
    done = strata("attach", "web", "--disk", "raw,bus=nvme,readonly,format=raw", cwd=here.name)
    expect((done.returncode, done.stdout), (0, b"disk1\n"))
    expect(attached("web"), ["disk0", "disk1"])
    assert f"# attached: disk1: {raw}" in good("show", "web")
    refused(["web", "disk1", "has not let go", "reset"], "detach", "web", "disk1", "--timeout", "0.1")
    assert f"# attached: disk1: {raw} (the guest is to let go of it)" in good("show", "web")
    good("reset", "web")
    while attached("web") != ["disk0"]:
        pass
    good("pause", "web")
    refused(["web", "paused", "strata resume"], "detach", "web", "disk0")
    good("resume", "web")
    refused(["web", "disk7", "strata show"], "detach", "web", "disk7")
    refused(["rng", "when the machine was started"], "detach", "web", "rng")
    refused(["attach", "--disk", "nosuch"], "attach", "web", "--disk", f"{raw},nosuch=1", status=2)
    refused(["bus=virtio or bus=nvme"], "attach", "web", "--disk", f"{raw},bus=ide")
    refused(["/nonexistent"], "attach", "web", "--disk", "/nonexistent")
    refused(["--disk FILE", "--net NETWORK"], "attach", "web", status=2)
    refused(["no machine mail", "strata ls"], "attach", "mail", "--disk", str(raw))
    gone("web")
    good("image", "check", str(disk))


def networks_come_as_far_as_the_sandbox_lets_them():
    with tempfile.TemporaryDirectory() as runtime:
        os.environ["XDG_RUNTIME_DIR"] = runtime
        detached("web")
        refused(["without --net user", "segment=NAME"], "attach", "web", "--net", "user")
        expect(good("attach", "web", "--net", "segment=lab"), "net1\n")
        expect(good("attach", "web", "--net", "segment=office,model=e1000,mac=52:54:00:00:00:09"), "net2\n")
        expect(sorted(os.listdir(f"{runtime}/strata/segment")), ["lab", "office"])
        refused(["web", "detach one"], "attach", "web", "--net", "segment=third")
        refused(["attach", "segment=a/b"], "attach", "web", "--net", "segment=a/b", status=2)
        refused(["forward=", "leave it out"], "attach", "web", "--net", "user,forward=tcp:2222:22")
        refused(["capture="], "attach", "web", "--net", "segment=lab,capture=/tmp/x")
        refused(["nothing to attach"], "attach", "web", "--net", "none", status=2)
        assert "# attached: net1: segment=lab" in good("show", "web")
        refused(["net1", "has not let go"], "detach", "web", "net1", "--timeout", "0.1")
        good("reset", "web")
        while attached("web") != ["net2"]:
            pass
        expect(good("attach", "web", "--net", "segment=lab"), "net1\n")
        gone("web")
        detached("web", None, "--net", "user")
        expect(good("attach", "web", "--net", "user"), "net1\n")
        refused(["web", "detach one"], "attach", "web", "--net", "user")
        gone("web")
        del os.environ["XDG_RUNTIME_DIR"]


def the_power_button_is_pressed():
    detached("web", BUTTON)
    good("stop", "web")
    expect([listed()["web"][key] for key in ("state", "why", "exit_status")], ["stopped", "power off", 0])
    good("start", "web")
    good("pause", "web")  # and a paused one goes on, to hear it
    good("stop", "web")
    expect(state("web"), "stopped")
    gone("web")
    detached("deaf")
    done = strata("stop", "deaf", "--timeout", "0.1")
    expect(done.returncode, 0)
    assert b"killed" in done.stderr, done.stderr
    expect(state("deaf"), "stopped")
    gone("deaf")


def events_are_told():
    detached("web")
    with subprocess.Popen([cli.STRATA, "events", "web"], stdout=subprocess.PIPE) as p:
        seen = []
        while not seen:  # until it listens
            good("pause", "web")
            good("resume", "web")
            if select.select([p.stdout], [], [], 0.1)[0]:
                seen.append(json.loads(p.stdout.readline())["event"])
        good("reset", "web")
        good("kill", "web")
        seen += [json.loads(line)["event"] for line in p.stdout]
        expect(p.wait(timeout=10), 0)
    expect(seen[-2:], ["reset", "ended"])
    assert set(seen[:-2]) <= {"paused", "resumed"}, seen
    gone("web")


def what_is_created_is_started_later():
    here = os.path.dirname(image(sectors.echo(), "relative"))
    expect(strata("create", "--name", "web", *ENGINE, "--kernel", "relative", cwd=here).returncode, 0)
    expect(state("web"), "new")
    text = (FOLDER / "web/machine.yaml").read_text()
    for line in (f"folder: {here}", "kernel: relative", "memory: 16M", "engine: interpret"):
        assert f"\n{line}\n" in text, text
    assert all(line in good("show", "web") for line in text.splitlines()[1:])
    expect(json.loads(good("show", "web", "--json"))["config"]["memory"], "16M")
    good("start", "web")
    expect(state("web"), "running")
    gone("web")


def a_configuration_is_edited():
    strata("create", "--name", "web", *ENGINE, "--kernel", image(sectors.echo()))
    path = FOLDER / "web/machine.yaml"
    before = path.read_text()
    for added, words in [("memroy: 1M", ["line 6", "memroy", "did you mean memory"]), ("log: loud", ["line 6", "log", "loud"]),
                         ("cpus: [1", ["line 7", "YAML"]), ("name: x", ["line 6", "name"]), ("no-reboot: 1", ["line 6", "true or false"]),
                         ("memory: 4M", ["line 6", "twice"]), ("folder: /", ["line 6", "twice"])]:
        path.write_text(f"{before}{added}\n")
        refused(["start: machine.yaml", *words], "start", "web")
    path.write_text(before.replace("16M", "32M") + "no-reboot: true\ndisk: []\n")
    good("start", "web")
    expect(listed()["web"]["memory"], 32 << 20)
    good("reset", "web")
    while state("web") != "stopped":
        pass
    expect(listed()["web"]["why"], "reset by the guest")
    gone("web")


def a_machine_is_made_of_a_file():
    here = Path(image(sectors.echo(), "kernel")).parent
    file = here / "web.yaml"
    text = "# mine\nname: web\nkernel: kernel\nengine: interpret\nmemory: 16M\nport:\n  - a=/tmp/a\n  - b=/tmp/b\n"
    file.write_text(text)
    good("create", "-f", str(file))
    expect(json.loads(good("show", "web", "--json"))["config"],
           {"folder": str(here), "kernel": "kernel", "engine": "interpret", "memory": "16M", "port": ["a=/tmp/a", "b=/tmp/b"]})
    refused(["machine web exists"], "create", "--file", str(file))
    good("create", "-f", str(file), "--name", "mail")
    good("rm", "mail")
    # What show prints is such a file.
    file.write_text(good("show", "web"))
    good("rm", "web")
    refused(["--name NAME is missing", "name:"], "create", "-f", str(file), status=2)
    good("create", "-f", str(file), "--name", "web")
    good("start", "web")
    gone("web")
    for line, bad, words in [(3, "kernal: kernel", ["kernal", "did you mean kernel"]), (4, "engine: warp", ["warp"]), (5, "memory: much", ["much"]),
                             (5, "memory: 1", ["must be between"]), (3, "disk: x,frob", ["frob"]), (3, "net: user,forward=1", ["forward=1"]),
                             (5, "cpus: 9", ["9"]), (8, "  - c", ["NAME=SOCKET"]), (5, "[", ["YAML"]), (4, "name: b", ["twice"])]:
        lines = text.splitlines()
        lines[line - 1] = bad
        file.write_text("\n".join(lines) + "\n")
        refused([str(file), f"line {line if bad != '[' else 6}", *words] if bad != "[" else [str(file), "line", "YAML"], "create", "-f", str(file), status=2)
    file.write_text("name: web\n")
    refused(["--kernel FILE is missing"], "create", "-f", str(file), status=2)
    refused(["/nonexistent", "No such file"], "create", "-f", "/nonexistent")
    file.write_text(text)
    refused(["--memory", "the file says that"], "create", "-f", str(file), "--memory", "32M", status=2)
    refused(["unexpected argument"], "run", "-f", str(file), status=2)
    assert "--file" in good("create", "--help") and "--file" not in good("run", "--help")
    expect(listed(), {})


def options_are_set_later():
    strata("create", "--name", "web", *ENGINE, "--kernel", image(sectors.echo()), "--balloon", "0")
    good("set", "web", "cpus", "2")
    good("start", "web")
    expect(listed()["web"]["cpus"], 2)
    good("set", "web", "memory", "8M")  # at once, by the balloon
    expect("target of 8 MiB" in good("balloon", "web") or " 8 MiB" in good("balloon", "web"), True)
    done = strata("set", "web", "memory", "32M")
    expect(done.returncode, 0)
    assert b"web runs, and needs a restart" in done.stderr, done.stderr
    good("kill", "web")
    good("start", "web")
    expect(listed()["web"]["memory"], 32 << 20)
    good("kill", "web")
    good("set", "web", "balloon", "")
    assert "balloon" not in (FOLDER / "web/machine.yaml").read_text()
    before = (FOLDER / "web/machine.yaml").read_bytes()
    for option, value, words in [("memroy", "1M", ["memroy", "did you mean memory"]), ("memory", "x", ["memory", "a size"]), ("cpus", "99", ["99"]),
                                 ("disk", "x", ["machine.yaml"]), ("name", "x", ["unknown option name"]), ("engine", "warp", ["warp"])]:
        refused(words, "set", "web", option, value, status=2)
    refused(["no machine mail"], "set", "mail", "memory", "1G")
    expect((FOLDER / "web/machine.yaml").read_bytes(), before)
    expect(set(together([["set", "web", "cpus", str(n)] for n in (1, 2, 3, 4)])), {0})
    good("start", "web")
    gone("web")


def what_machines_do_is_shown():
    expect(json.loads(good("top", "--json", "--interval", "0.01")), [])
    detached("web")
    detached("busy", sectors.flood())
    rows = {row["name"]: row for row in json.loads(good("top", "--json", "--interval", "0.3"))}
    expect(set(rows), {"web", "busy"})
    assert rows["busy"]["port_ios"] > 100 and rows["busy"]["cpu"] > 0, rows
    expect([rows["busy"][key] for key in ("state", "engine", "disk_read", "net_sent")], ["running", "interpret", 0, 0])
    assert rows["busy"]["instructions"] > 100, rows
    expect([rows["busy"][key] for key in ("code_exits", "code_misses")], [0, 0])
    good("pause", "busy")
    row, = [row for row in json.loads(good("top", "--json", "--interval", "0.1")) if row["name"] == "busy"]
    expect((row["state"], row["port_ios"]), ("paused", 0))
    lines = good("top", "--interval", "0.1").splitlines()
    expect([len(lines), lines[0].split()[0], lines[1].split()[:3]], [3, "NAME", ["busy", "paused", "interpret"]])
    assert "MISS/s" in lines[0], lines
    good("rm", "--force", "busy")
    gone("web")


def needs_translator():
    engines = {e["name"]: e for e in json.loads(good("host", "--json"))["engines"]}
    if not engines["translate"]["usable"]:
        raise cases.Skipped("the translator cannot run here")


def translated_code_is_left_by_some_instructions():
    """IN leaves it, the jump back does not, once it has been taken."""
    needs_translator()
    good("run", "--name", "busy", "--detach", "--engine", "translate", "--kernel", image(sectors.flat_flood()))
    row, = json.loads(good("top", "--json", "--interval", "0.3"))
    assert row["code_exits"] > 100 > row["code_misses"], row
    expect(good("top", "--interval", "0.1").splitlines()[1].split()[4], "-")
    expect(row["counting"], False)
    row, = json.loads(good("top", "--json", "--mips", "--interval", "0.3"))
    assert row["counting"] and row["instructions"] > 1.5 * row["code_exits"] > 100, row  # two a round, one of them an exit
    assert float(good("top", "--mips", "--interval", "0.1").splitlines()[1].split()[4]) >= 0
    # It ends by itself, some seconds after the last look.
    wait_until(lambda: not json.loads(good("top", "--json", "--interval", "0.1"))[0]["counting"], "it ends to count")
    gone("busy")


def ask(name, **request):
    """What a machine answers on its control socket."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(FOLDER / name / "control"))
        lines = s.makefile("rw", encoding="utf-8")
        lines.readline()
        lines.write(json.dumps(request) + "\n")
        lines.flush()
        return json.loads(lines.readline())["result"]


def executed(name):
    """Instructions that were counted while a little time went by."""
    before = ask(name, command="status")["counters"]["instructions"]
    time.sleep(0.05)
    return ask(name, command="status")["counters"]["instructions"] - before


def wait_until(condition, what):
    for _ in range(300):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


def code_that_nothing_leaves_counts_for_those_who_ask():
    """Two processors: one that no interrupt reaches, and one that waits."""
    needs_translator()
    good("run", "--name", "busy", "--detach", "--engine", "translate", "--cpus", "2", "--kernel", image(sectors.flat_spin()))
    expect([ask("busy", command="status")["counting"], ask("busy", command="count", seconds=3600)], [False, {}])
    wait_until(lambda: executed("busy") > 1000, "it begins to count")
    good("kill", "busy")
    good("start", "busy")
    expect([ask("busy", command="count", seconds=2), ask("busy", command="count", seconds=1)], [{}, {}])
    wait_until(lambda: executed("busy") > 1000, "it begins to count")
    wait_until(lambda: not ask("busy", command="status")["counting"], "the time is over")
    wait_until(lambda: not executed("busy"), "it ends to count")
    gone("busy")


def what_ends_is_forgotten_where_wanted():
    detached("web", None, "--rm")
    expect(state("web"), "running")
    good("kill", "web")
    expect(listed(), {})
    expect(folders(), [])


def mistakes_are_told_with_what_to_do():
    kernel = image(sectors.echo())
    detached("web")
    refused(["machine web exists", "strata start web", "strata rm web"], "run", "--name", "web", "--kernel", kernel)
    refused(["web runs"], "start", "web")
    refused(["web runs", "strata stop web", "--force"], "rm", "web")
    gone("web")
    for verb in ("start", "show", "console", "stop", "kill", "pause", "resume", "reset", "rm", "logs", "events"):
        refused(["no machine web", "strata ls"], verb, "web")
        refused(["NAME is missing"], verb, status=2)
        refused(["../web", "letters"], verb, "../web", status=2)
    strata("create", "--name", "web", *ENGINE, "--kernel", kernel)
    for verb in ("console", "stop", "kill", "pause", "resume", "reset", "events"):
        refused(["web does not run", "strata start web"], verb, "web")
    gone("web")
    refused(["a b", "letters"], "create", "--name", "a b", "--kernel", kernel, status=2)
    refused(["--name NAME is missing"], "create", "--kernel", kernel, status=2)
    refused(["create", "--kernel FILE is missing"], "create", "--name", "web", status=2)
    refused(["create", "warp"], "create", "--name", "web", "--kernel", kernel, "--engine", "warp", status=2)
    refused(["--detach", "strata run"], "create", "--name", "web", "--detach", "--kernel", kernel, status=2)
    refused(["--detach needs a name", "--name"], "run", "--detach", "--kernel", kernel, status=2)
    refused(["--rm needs a name"], "run", "--rm", "--kernel", kernel, status=2)
    one_line(strata("ls", env={"PATH": os.environ["PATH"]}), 1, "XDG_STATE_HOME", "HOME")
    one_line(strata("ls", env=os.environ | {"XDG_STATE_HOME": "/proc/none"}), 1, "/proc/none")
    expect(listed(), {})


def a_machine_that_does_not_start_is_none():
    for options in (["--detach"], []):
        one_line(strata("run", "--name", "web", *options, *ENGINE, "--kernel", "/nonexistent"), 1, "kernel /nonexistent")
        expect(listed(), {})
    strata("create", "--name", "web", *ENGINE, "--kernel", "/nonexistent")
    one_line(strata("start", "web"), 1, "kernel /nonexistent")
    expect(state("web"), "new")
    gone("web")


def in_the_foreground_a_name_changes_nothing():
    command = [cli.STRATA, "run", "--name", "web", *ENGINE, "--kernel", image(sectors.echo())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        talk(p, b"abc", b"bcd")
        expect(state("web"), "running")
        refused(["web", "terminal"], "console", "web")
        good("pause", "web")
        good("resume", "web")
        talk(p, b"abc", b"bcd")
        p.stdin.write(b"q")
        p.stdin.flush()
        expect(p.wait(timeout=10), 7)
    expect(listed()["web"]["exit_status"], 7)
    gone("web")


def who_is_killed_is_not_taken_to_run():
    detached("web")
    os.kill(pid("web"), signal.SIGKILL)
    while state("web") == "ending" or state("web") == "starting":
        pass
    expect(state("web"), "crashed")
    assert (FOLDER / "web/control").exists()  # left behind, and in nobody's way
    refused(["web does not run"], "pause", "web")
    good("start", "web")
    expect(state("web"), "running")
    os.kill(pid("web"), signal.SIGSTOP)
    expect(state("web"), "silent")
    os.kill(pid("web"), signal.SIGCONT)
    expect(state("web"), "running")
    os.kill(pid("web"), signal.SIGSTOP)
    good("kill", "web")  # what does not answer is killed all the same
    expect(state("web"), "crashed")
    gone("web")


def who_begins_or_ends_says_nothing():
    """Somebody has the machine's lock, but no socket."""
    strata("create", "--name", "web", *ENGINE, "--kernel", image(sectors.echo()))
    with (FOLDER / "web/lock").open("r+b") as lock, subprocess.Popen(["true"]) as gone_already:
        gone_already.wait()
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        expect(state("web"), "starting")
        for who, wanted in ((os.getpid(), "ending"), (gone_already.pid, "starting")):
            (FOLDER / "web/outcome").write_text(json.dumps({"running": False, "pid": who, "since": 1, "until": 2, "status": 0, "text": "power off"}))
            expect(state("web"), wanted)
    expect(state("web"), "stopped")
    gone("web")


def who_dies_in_the_middle_leaves_nothing():
    """The command is killed at any moment: the machine is whole, or is not there."""
    command = [cli.STRATA, "run", "--name", "web", "--detach", *ENGINE, "--kernel", image(sectors.echo())]
    for moment in range(12):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
            time.sleep(moment / 500)
            p.kill()
        while (row := listed().get("web")) and row["state"] in ("starting", "silent"):
            pass
        if row:
            gone("web")
        expect(folders(), [])


def together(commands):
    """Runs all at once; their exit statuses."""
    running = [subprocess.Popen([cli.STRATA, *command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
               for command in commands]
    return [p.wait(timeout=cli.LIMIT) for p in running]


def of_commands_at_once_one_wins():
    kernel = image(sectors.echo())
    run = ["run", "--name", "web", "--detach", *ENGINE, "--kernel", kernel]
    for _ in range(3):
        expect(sorted(together([run] * 4)), [0, 1, 1, 1])
        expect(state("web"), "running")
        good("kill", "web")
        expect(sorted(together([["start", "web"]] * 4)), [0, 1, 1, 1])
        expect(state("web"), "running")
        expect(sorted(together([["pause", "web"]] * 3)), [0, 1, 1])
        good("kill", "web")
        expect(sorted(together([["rm", "web"]] * 4)), [0, 1, 1, 1])
        expect(listed(), {})


def storms_leave_order():
    kernel = image(sectors.echo())
    commands = [["run", "--name", "web", "--detach", *ENGINE, "--kernel", kernel], ["start", "web"], ["kill", "web"], ["rm", "web"],
                ["rm", "--force", "web"], ["pause", "web"], ["ls"], ["reset", "web"], ["show", "web"]]
    dice = random.Random(5)
    for _ in range(12):
        statuses = together([dice.choice(commands) for _ in range(6)])
        assert set(statuses) <= {0, 1}, statuses
        for name in listed():
            assert state(name) in ("running", "paused", "stopped", "new", "crashed"), listed()
            good("show", name)
    for name in listed():
        gone(name)


def only_the_owner_comes_in():
    detached("web")
    for path, mode in ((FOLDER, 0o700), (FOLDER / "web", 0o700), (FOLDER / "web/control", 0o600), (FOLDER / "web/machine.yaml", 0o600)):
        expect((str(path), stat.S_IMODE(path.stat().st_mode)), (str(path), mode))
    if os.geteuid() == 0:
        # Even where the folders would let somebody in, and the socket.
        others = [*reversed((FOLDER / "web").parents), FOLDER / "web"][-4:]
        modes = {path: path.stat().st_mode for path in [*others, Path(STATE.name), FOLDER / "web/control"]}
        for path in modes:
            path.chmod(0o777)
        child = os.fork()
        if not child:
            os.setgroups([])
            os.setgid(4711)
            os.setuid(4711)
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(str(FOLDER / "web/control"))
                os._exit(0 if s.recv(100) == b"" else 1)
        expect(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        for path, mode in modes.items():
            path.chmod(stat.S_IMODE(mode))
    gone("web")


def the_socket_speaks_for_itself():
    """Without strata's own client: as documented."""
    detached("web")
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(FOLDER / "web/control"))
        lines = s.makefile("rw")
        hello = json.loads(lines.readline())
        expect((hello["protocol"], hello["name"]), (1, "web"))
        lines.write('{"command": "help", "id": 1}\n{"command": "status"}\nnonsense\n')
        lines.flush()
        assert "pause" in json.loads(lines.readline())["result"]
        expect(json.loads(lines.readline())["result"]["state"], "running")
        expect(json.loads(lines.readline())["error"]["code"], "bad-request")
    gone("web")


CASES = [
    a_machine_lives_in_the_background,
    a_machine_can_be_held,
    disks_come_and_wait_for_the_guest,
    networks_come_as_far_as_the_sandbox_lets_them,
    the_power_button_is_pressed,
    events_are_told,
    what_is_created_is_started_later,
    a_configuration_is_edited,
    a_machine_is_made_of_a_file,
    options_are_set_later,
    what_machines_do_is_shown,
    translated_code_is_left_by_some_instructions,
    code_that_nothing_leaves_counts_for_those_who_ask,
    what_ends_is_forgotten_where_wanted,
    mistakes_are_told_with_what_to_do,
    a_machine_that_does_not_start_is_none,
    in_the_foreground_a_name_changes_nothing,
    who_is_killed_is_not_taken_to_run,
    who_begins_or_ends_says_nothing,
    who_dies_in_the_middle_leaves_nothing,
    of_commands_at_once_one_wins,
    storms_leave_order,
    only_the_owner_comes_in,
    the_socket_speaks_for_itself,
]


def end_all():
    """Whatever a case that failed has left."""
    for name in folders() if FOLDER.exists() else []:
        strata("rm", "--force", name)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of the last line, too
    try:
        sys.exit(cases.main(CASES))
    finally:
        end_all()
