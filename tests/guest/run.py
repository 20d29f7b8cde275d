#!/usr/bin/env python3
"""Runs the guest programs of programs.list under one engine and judges their output.

Exit status: 0 all as expected, 1 some are not, 77 the engine cannot run here, 2 usage.
"""
import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
EXIT_PASS = (0x10 << 1) | 1  # lib/layout.h
QEMU = "qemu-system-x86_64"
COUNTERS = "translator of cpu"  # where those of --translate stats begin


class Program:
    """One line of programs.list."""

    def __init__(self, line):
        name, mode, expect, *notes = line.split(None, 3)
        self.name = name
        self.mode = mode
        self.expect = expect
        self.skip = {}    # engine: reason
        self.known = {}   # engine: {test: reason}
        cpus = re.search(r"\bcpus:(\d)", notes[0]) if notes else None
        self.cpus = cpus[1] if cpus else "1"
        self.counts = re.findall(r"\bcounts:([a-z-]+)", notes[0]) if notes else []
        self.most = {name: int(most) for name, most in re.findall(r"\bmost:([a-z-]+):(\d+)", notes[0])} if notes else {}
        self.soft = bool(notes) and "kvm:soft" in notes[0]
        for engine, kind, text in re.findall(r"(\w+):(skip|except)\(([^()]*)\)", notes[0] if notes else ""):
            if kind == "skip":
                self.skip[engine] = text
            else:
                names, _, reason = text.partition(":")
                for test in names.split(";"):
                    self.known.setdefault(engine, {})[test.strip()] = reason.strip()


def read_list(path):
    with open(path, encoding="utf-8") as f:
        return [Program(line) for line in (raw.strip() for raw in f) if line and not line.startswith("#")]


def counted(args, program):
    """The counters that are looked at, with the least and the most they may be: with all optimizations on."""
    if args.engine != "translate" or args.switches:
        return {}
    return {name: (1, None) for name in program.counts} | {name: (0, most) for name, most in program.most.items()}


def command(args, program):
    kernel = os.path.join(args.programs, program.name)
    if args.engine == "qemu":
        return [QEMU, "-accel", "tcg", "-cpu", "max", "-m", "256M", "-nodefaults", "-display", "none",
                "-smp", program.cpus, "-serial", "stdio", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x4",
                "-kernel", kernel]
    wanted = args.switches or ("stats" if counted(args, program) else "")
    switches = ["--" + args.engine, wanted] if wanted else []
    return [args.strata, "run", "--engine", args.engine, *switches, "--kernel", kernel, "--memory", "256M", "--cpus", program.cpus,
            "--no-reboot"]


def execute(args, program):
    """Runs one program; returns (exit status or "timeout", output text, seconds)."""
    start = time.monotonic()
    limit = 5 if program.expect == "TIMEOUT" else args.timeout
    with subprocess.Popen(command(args, program), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        try:
            out, _ = process.communicate(timeout=limit)
            status = process.returncode
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                out, _ = process.communicate(timeout=2)  # SIGTERM must end a monitor within a second
                status = "timeout"
            except subprocess.TimeoutExpired:
                process.kill()
                out, _ = process.communicate()
                status = "killed"
    text, _, counters = out.decode("latin-1").replace("\r", "").partition(COUNTERS)
    for name, (least, most) in counted(args, program).items():
        found = re.search(name.replace("-", " ") + r" +(\d+)", counters)
        if not found or int(found[1]) < least or (most is not None and int(found[1]) > most):
            text += f"FAIL {name}: the translator counted {found[1] if found else 'nothing'}\n"
    return status, text, time.monotonic() - start


def judge(args, program, status, text):
    """None when the result is the expected one, else what is wrong."""
    lines = text.splitlines()
    known = {test: why for tag in args.tags for test, why in program.known.get(tag, {}).items()}
    if program.expect == "TIMEOUT":
        if status != "timeout":
            return f"ended with {status} where it must not end"
        return None if "spinning" in lines else "never started"
    if program.expect == "TRIPLE":
        if "about to triple fault" not in lines:
            return "never reached the triple fault"
        want = 0 if args.engine == "qemu" else 1  # qemu -no-reboot takes it for a reset
        return None if status == want else f"exit status {status}, want {want}"
    failed = [line for line in lines if line.startswith("FAIL ")]
    unknown = [line for line in failed if line[5:].split(":")[0] not in known]
    if unknown:
        return unknown[0]
    if status == "timeout":
        return f"no end within {args.timeout} s, last line: {lines[-1] if lines else ''}"
    if not lines or lines[-1] not in ("PASS", "FAIL"):
        return f"exit status {status}, last line: {lines[-1] if lines else ''}"
    if not failed and (lines[-1] != "PASS" or status != EXIT_PASS):
        return f"exit status {status}, last line: {lines[-1]}"
    return None


def available(args):
    """Why the engine cannot be used here, or None."""
    if args.engine == "qemu":
        return None if shutil.which(QEMU) else f"{QEMU} is not installed"
    if not args.strata or not os.access(args.strata, os.X_OK):
        return f"no executable at {args.strata}"
    if args.engine == "kvm" and not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "/dev/kvm cannot be opened"
    return None


def kvm_is_soft(args):
    """True when `strata host` finds that this host's KVM cannot be relied on."""
    if args.engine != "kvm":
        return False
    text = subprocess.run([args.strata, "host"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
                          timeout=60).stdout.decode()
    return re.search(r"^engine\s+kvm\s+usable", text, re.M) is None


def translator_switches(strata):
    """The names in the table that `strata help run` prints below --translate."""
    text = subprocess.run([strata, "help", "run"], stdout=subprocess.PIPE, check=True, timeout=60).stdout.decode()
    table = re.search(r"^ +--translate .*\n((?: {8,}.*\n)+)", text, re.M)
    return re.findall(r"^ {9,}([a-z-]+) ", table.group(1), re.M)


def tags(args):
    """What programs.list may name in skip and except: the engine, the build, and what kind of KVM it is."""
    found = [args.engine]
    if args.tsan:
        found += ["tsan", "tsan" + args.engine]
    if args.engine == "kvm":
        split = ["split"] if "user-irqchip" not in args.switches else []
        soft = ["soft"] if args.soft else []
        found += split + soft + ["softsplit"] * bool(split and soft)
    return found


def one(args, program):
    for tag in args.tags:
        if tag in program.skip:
            return program, "skip", program.skip[tag], 0.0, ""
    if args.soft and not program.soft:
        return program, "skip", "this host's KVM emulates in software, and not enough", 0.0, ""
    status, text, seconds = execute(args, program)
    # A program that writes 1 to the debug-exit port ends so, too, but has said something before.
    if args.engine != "qemu" and status == 3 and text.startswith("strata: "):
        return program, "skip", "the engine cannot run on this host", seconds, text
    problem = judge(args, program, status, text)
    return program, "FAIL" if problem else "pass", problem or "", seconds, text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=["interpret", "translate", "kvm", "qemu"], default="interpret")
    parser.add_argument("--tsan", action="store_true", help="the build has the thread sanitizer: slow, and late with signals")
    parser.add_argument("--switches", default="", help="of the engine: NAME[,NAME...]")
    parser.add_argument("--strata", default=os.environ.get("STRATA", "build/strata"))
    parser.add_argument("--programs", default=os.path.join(HERE, "build"), help="folder with the built programs")
    parser.add_argument("--list", default=os.path.join(HERE, "programs.list"))
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--each-switch", action="store_true",
                        help="the 64-bit programs with each of the translator's switches")
    parser.add_argument("--every", type=int, default=1, metavar="N",
                        help="of these pairs one in N, evenly over programs and switches, but all with check; all of them where STRATA_TEST_LONG is set")
    parser.add_argument("--show", action="store_true", help="print each program's output")
    parser.add_argument("names", nargs="*", help="only these programs")
    args = parser.parse_args()
    why = available(args)
    if why:
        print(f"skip: {why}")
        return 77
    args.timeout *= 5 if args.tsan else 1
    args.soft = kvm_is_soft(args)
    args.tags = tags(args)
    programs = [p for p in read_list(args.list) if not args.names or p.name in args.names]
    switches = [args.switches]
    if args.each_switch:
        switches = translator_switches(args.strata)
        programs = [p for p in programs if p.mode == "64-bit" and p.expect != "TIMEOUT"]
    counts = {"pass": 0, "FAIL": 0, "skip": 0}
    for turn, args.switches in enumerate(switches):
        every = 1 if args.switches == "check" or os.environ.get("STRATA_TEST_LONG") else args.every
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            for program, verdict, note, seconds, text in pool.map(lambda p: one(args, p), programs[turn % every::every]):
                counts[verdict] += 1
                print(f"{program.name:24} {args.switches or program.mode:12} {verdict:5} {seconds:6.2f}s  {note}", flush=True)
                if args.show or (verdict == "FAIL" and "exit status -" in note):  # a crash may have said why
                    print(text)
    print(f"{counts['pass']} passed, {counts['FAIL']} failed, {counts['skip']} skipped")
    return 1 if counts["FAIL"] or not programs or not switches else 0


if __name__ == "__main__":
    sys.exit(main())
