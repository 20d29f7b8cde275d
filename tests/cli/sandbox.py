#!/usr/bin/env python3
"""The sandbox as the kernel shows it from outside, while a guest runs.

    sandbox.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)
"""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import cases
import cli
import sectors
from cli import expect, image, run, strata

ROOT = os.geteuid() == 0
SOME_USER = 4711  # anyone but root and nobody
CAPABILITIES = ["CapInh", "CapPrm", "CapEff", "CapAmb"]


def stages():
    return {stage["name"]: stage for stage in json.loads(strata("host", "--json").stdout)["sandbox"]}


INSTRUMENTED = all("sanitizers" in stage["detail"] for stage in stages().values())


@contextlib.contextmanager
def running(engine, *options, wrapper=(), **kwargs):
    """A monitor whose guest has answered: so guest code runs, and the sandbox must be complete."""
    command = [*wrapper, cli.STRATA, "run", "--engine", engine, "--memory", "16M", "--kernel", image(sectors.echo()), *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs) as p:
        try:
            p.stdin.write(b"a")
            p.stdin.flush()
            expect(p.stdout.read(1), b"b")
            yield p
            p.stdin.write(b"q")
            p.stdin.flush()
            expect((p.wait(timeout=5), p.stderr.read()), (7, b""))
        finally:
            p.kill()


def threads(pid):
    """The status file of each thread, as a dictionary."""
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/status", encoding="utf-8") as f:
            yield dict(line.rstrip("\n").split(":\t", 1) for line in f)


def check_thread(status, user):
    """user: its id, None for root without another user to become."""
    expect(status["NoNewPrivs"], "1")
    for name in CAPABILITIES:
        expect((name, int(status[name], 16)), (name, 0))
    if stages()["filter"]["complete"]:
        expect(status["Seccomp"], "2")
    if user is not None:
        expect(set(status["Uid"].split()), {str(user)})


def usable(engine):
    engines = {e["name"]: e["usable"] for e in json.loads(strata("host", "--json").stdout)["engines"]}
    return engines.get(engine)


def each_thread_is_confined_under_each_engine():
    for engine in filter(usable, ["interpret", "translate", "kvm"]):
        with running(engine, "--cpus", "2") as p:
            seen = list(threads(p.pid))
            assert len(seen) >= 6, f"{engine}: only {len(seen)} threads"  # main, sentinel, console, cpus
            for status in seen:
                check_thread(status, 65534 if ROOT else os.getuid())
                if ROOT:
                    expect(set(status["Gid"].split()), {"65534"})
                    expect(status["Groups"].strip(), "")
                    expect(int(status["CapBnd"], 16), 0)


def processors_stay_where_they_are_pinned():
    allowed = sorted(os.sched_getaffinity(0))
    pins = [allowed[-1], allowed[0]]
    with running("interpret", "--cpus", "2", "--pin", ",".join(map(str, pins))) as p:
        for tid in os.listdir(f"/proc/{p.pid}/task"):
            with open(f"/proc/{p.pid}/task/{tid}/stat", encoding="utf-8") as f:
                name, rest = f.read().split("(", 1)[1].rsplit(") ", 1)
            if name in ("cpu0", "cpu1"):
                expect(os.sched_getaffinity(int(tid)), {pins[int(name[3])]})
            if name == "cpu0":  # the one that has answered
                expect(int(rest.split()[36]), pins[0])  # field 39 of all: where it ran last


def inherited_descriptors_are_closed():
    reader, writer = os.pipe()
    with running("interpret", pass_fds=[reader]) as p:
        os.close(reader)
        try:
            os.write(writer, b"x")
            raise AssertionError("somebody still has the pipe's other end")
        except BrokenPipeError:
            pass
    os.close(writer)


def memory_is_for_nobody_else():
    with running("interpret") as p:
        with open(f"/proc/{p.pid}/limits", encoding="utf-8") as f:
            core = next(line for line in f if line.startswith("Max core file size"))
        expect(core.split()[4:6], ["0", "0"])
        # What belongs to a process that is not dumpable belongs to root.
        expect(os.stat(f"/proc/{p.pid}/maps").st_uid, 0)


def no_sandbox_keeps_everything():
    with running("interpret", "--no-sandbox") as p:
        for status in threads(p.pid):
            expect((status["Seccomp"], status["NoNewPrivs"]), ("0", "0"))
            expect(set(status["Uid"].split()), {str(os.getuid())})


def ordinary_user_is_confined():
    if not ROOT:
        return
    os.chmod(cli.WORK.name, 0o755)

    def become_ordinary():
        os.setgroups([])
        os.setresgid(SOME_USER, SOME_USER, SOME_USER)
        os.setresuid(SOME_USER, SOME_USER, SOME_USER)

    with running("interpret", preexec_fn=become_ordinary) as p:
        for status in threads(p.pid):
            check_thread(status, SOME_USER)


def root_with_no_other_user_is_confined():
    """In a user namespace that maps root alone, as containers of ordinary users have it."""
    wrapper = ["unshare", "--user", "--map-root-user"]
    if not shutil.which("unshare") or subprocess.run([*wrapper, "true"], capture_output=True).returncode:
        return
    with running("interpret", wrapper=wrapper) as p:
        for status in threads(p.pid):
            check_thread(status, None)


def host_without_proc_still_runs():
    """Without /proc descriptors and threads cannot be listed: a warning each, and the rest is done. Several times, because
    the filter then meets threads that are still starting."""
    script = 'umount -l /proc && exec "$@"'
    wrapper = ["unshare", "--mount", "sh", "-c", script, "sh"]
    if not shutil.which("unshare") or subprocess.run([*wrapper, "true"], capture_output=True).returncode:
        return
    for _ in range(10):
        done = subprocess.run([*wrapper, *cli.command(sectors.exits_with(5))], capture_output=True, timeout=20)
        expect(done.returncode, 11)
        expect(done.stderr.count(b"incomplete: /proc"), 2)


def terminal_is_left_as_found():
    with cli.Terminal(*cli.command(sectors.echo())) as t:
        t.wait_raw()
        t.type(b"A")
        expect(t.read(1), b"B")
        t.process.send_signal(signal.SIGSTOP)
        t.process.send_signal(signal.SIGCONT)  # raw again: a request to the terminal from within
        t.type(b"B")
        expect(t.read(1), b"C")
        t.process.send_signal(signal.SIGSEGV)
        cli.ends_within(t.process, 1.5, -signal.SIGSEGV)
        t.check_restored()


def reset_and_trace_need_nothing_refused():
    path = os.path.join(cli.WORK.name, "trace")
    done = run(sectors.resets_once(), "--trace", f"exits,instructions={path}", "--stats")
    expect(done.returncode, 11)
    assert b"sandbox" not in done.stderr, done.stderr
    assert os.path.getsize(path) > 0


def host_names_the_stages():
    expect(list(stages()), ["descriptors", "privileges", "process", "filter"])
    assert b"sandbox    filter" in strata("host").stdout


CASES = [host_names_the_stages, no_sandbox_keeps_everything, terminal_is_left_as_found, reset_and_trace_need_nothing_refused,
         processors_stay_where_they_are_pinned]
CONFINED = [
    each_thread_is_confined_under_each_engine,
    inherited_descriptors_are_closed,
    memory_is_for_nobody_else,
    ordinary_user_is_confined,
    root_with_no_other_user_is_confined,
    host_without_proc_still_runs,
]

if __name__ == "__main__":
    sys.exit(cases.main(CASES + ([] if INSTRUMENTED else CONFINED)))
