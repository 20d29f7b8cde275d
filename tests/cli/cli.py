#!/usr/bin/env python3
"""The command line's promises: exit statuses, messages, standard input and output, signals, the terminal.

    cli.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)
"""
import json
import os
import pty
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time

import cases
import sectors

STRATA = os.path.abspath(sys.argv[1])
TSAN = "/tsan/" in STRATA  # a build with the thread sanitizer
WORK = tempfile.TemporaryDirectory()
LIMIT = 100 if TSAN else 20  # seconds
ESCAPE = b"\x1d"


def image(content, name="kernel"):
    path = os.path.join(WORK.name, name)
    with open(path, "wb") as f:
        f.write(content)
    return path


def command(kernel, *options):
    return [STRATA, "run", "--engine", "interpret", "--memory", "16M", "--kernel", image(kernel), *options]


def strata(*args, **kwargs):
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([STRATA, *args], capture_output=True, timeout=LIMIT, **kwargs)


def run(kernel, *options, **kwargs):
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(command(kernel, *options), capture_output=True, timeout=LIMIT, **kwargs)


def expect(value, wanted):
    assert value == wanted, f"got {value!r}, want {wanted!r}"


def one_line(done, status, *words):
    """An error: that status and one line on standard error that has all the words."""
    expect(done.returncode, status)
    text = done.stderr.decode()
    assert text.count("\n") == 1 and text.startswith("strata: "), f"not one line: {text!r}"
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"


def ends_within(process, seconds, status):
    start = time.monotonic()
    try:
        got = process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError("did not end") from None
    took = time.monotonic() - start
    expect(got, status)
    assert took < seconds, f"took {took:.2f} s"


# Usage


def usage_without_verb_is_refused():
    expect(strata().returncode, 2)


def firmware_and_kernel_exclude_each_other():
    one_line(strata("run"), 2, "--kernel FILE is missing", "--firmware")
    one_line(strata("run", "--kernel", "x", "--firmware", "seabios"), 2, "--kernel", "--firmware")
    for option in ("--initrd", "--append"):
        one_line(strata("run", "--firmware", "seabios", option, "x"), 2, option, "boot loader")


def firmware_variables_are_for_firmware_that_has_some():
    one_line(strata("run", "--firmware", "seabios,vars=x"), 2, "vars=", "ovmf")
    for text in ("ovmf,vars=", "ovmf,x=1", "ovmf,"):
        done = strata("run", "--firmware", text)
        if b"install Debian's package" not in done.stderr:
            one_line(done, 2, "--firmware", "vars=FILE")


def firmware_that_is_none_is_refused():
    one_line(strata("run", "--engine", "interpret", "--firmware", "/nonexistent"), 1, "firmware /nonexistent", "No such file")
    for content in (b"x" * 65536, b"\xea" * 65535, b""):
        path = image(content, "firmware")
        one_line(strata("run", "--engine", "interpret", "--firmware", path), 1, "firmware", path)


def displays_are_checked():
    for display, words in [("x", ["vnc=ADDRESS"]), ("vnc=nowhere", ["nowhere", "must be an address"]), ("vnc=0.0.0.0", ["password=FILE"]),
                           ("vnc=127.0.0.1,frob", ["no option frob"]), ("vnc=::1,password=/nonexistent", ["/nonexistent", "No such file"])]:
        one_line(strata("run", "--kernel", "x", "--display", display), 2, "--display", *words)


def shared_folders_are_checked():
    for share, words in [("x", ["FOLDER:TAG"]), (":tag", ["FOLDER:TAG"]), ("/tmp:", ["FOLDER:TAG"]), ("/tmp:tag,frob", ["no option frob", "readonly"]),
                         ("/tmp:" + "t" * 37, ["longer than 36"])]:
        one_line(strata("run", "--kernel", "x", "--share", share), 2, "--share", *words)
    one_line(strata("run", "--kernel", "x", "--share", "/tmp:a", "--share", "/:a"), 2, "--share", "two folders", "tag a")
    one_line(strata("run", "--kernel", "x", "--share", "/nonexistent:a"), 1, "share a", "/nonexistent", "No such file")
    one_line(strata("run", "--kernel", "x", "--share", "/dev/null:a"), 1, "share a", "/dev/null", "Not a directory")


def disks_without_pci_are_checked():
    for disks, words in [(["x,transport=frob"], ["transport=frob", "pci", "mmio"]), (["x,bus=nvme,transport=mmio"], ["transport=mmio", "bus=virtio"]),
                         ([f"{n},transport=mmio" for n in range(3)], ["more than 2", "transport=mmio"])]:
        one_line(strata("run", "--kernel", "x", *(word for disk in disks for word in ("--disk", disk))), 2, *words)


def ports_are_checked():
    for port, words in [("x", ["NAME=SOCKET"]), ("=x", ["NAME=SOCKET"]), ("x=", ["NAME=SOCKET"]), ("n" * 65 + "=x", ["longer than 64"])]:
        one_line(strata("run", "--kernel", "x", "--port", port), 2, "--port", *words)
    one_line(strata("run", "--kernel", "x", "--port", "a=x", "--port", "a=y"), 2, "--port", "two ports", "called a")
    one_line(strata("run", "--kernel", "x", "--console", "frob"), 2, "--console", "frob", "serial", "virtio")
    one_line(strata("run", "--kernel", image(bytes(4096)), "--engine", "interpret", "--port", "a=/nonexistent/x"), 1, "port a", "/nonexistent/x", "No such file")
    one_line(strata("run", "--kernel", image(bytes(4096)), "--engine", "interpret", "--port", "a=/" + "x" * 120), 1, "port a", "longer than")
    # A socket is not taken from whoever listens at it.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{folder}/x")
        other.listen()
        for option in (["--port", f"a={folder}/x"], ["--vsock", f"{folder}/x"]):
            one_line(strata("run", "--kernel", image(bytes(4096)), "--engine", "interpret", *option), 1, f"{folder}/x", "another program listens")
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(f"{folder}/x")


def usage_errors_name_the_culprit():
    for args, words in [
        (["rnu"], ["rnu", "did you mean run"]),
        (["frobnicate"], ["frobnicate", "help"]),
        (["run", "--kernle", "x"], ["--kernle", "did you mean --kernel"]),
        (["run", "--wibble"], ["--wibble"]),
        (["run", "a", "kernel"], ["kernel"]),
        (["run"], ["--kernel"]),
        (["run", "--kernel"], ["--kernel", "needs a value"]),
        (["run", "--kernel", "x", "--memory", "lots"], ["--memory", "lots"]),
        (["run", "--kernel", "x", "--memory", "1K"], ["--memory", "between"]),
        (["run", "--kernel", "x", "--memory", "99999999999999999999G"], ["--memory"]),
        (["run", "--kernel", "x", "--cpus", "0"], ["--cpus"]),
        (["run", "--kernel", "x", "--cpus", "9999"], ["--cpus", "between 1 and 8"]),
        (["run", "--kernel", "x", "--cpus", "4x"], ["--cpus 4x"]),
        (["run", "--kernel", "x", "--cpus", ""], ["--cpus"]),
        (["run", "--kernel", "x", "--cpus", "4,"], ["--cpus", "sockets="]),
        (["run", "--kernel", "x", "--cpus", "4,dies=2"], ["dies=2", "sockets="]),
        (["run", "--kernel", "x", "--cpus", "4,cores=0"], ["cores=0", "between 1 and 8"]),
        (["run", "--kernel", "x", "--cpus", "4,sockets=3"], ["3 x 1 x 1", "is 3, not 4"]),
        (["run", "--kernel", "x", "--cpus", "4,sockets=2,cores=2,threads=2"], ["is 8, not 4"]),
        (["run", "--kernel", "x", "--cpus", "4,numa"], ["numa", "sockets="]),
        (["run", "--kernel", "x", "--timeout", "-3"], ["--timeout"]),
        (["run", "--kernel", "x", "--timeout", "soon"], ["--timeout"]),
        (["run", "--kernel", "x", "--engine", "warp"], ["warp", "engine"]),
        (["run", "--kernel", "x", "--log", "loud"], ["loud", "warning"]),
        (["run", "--kernel", "x", "--no-reboot=yes"], ["--no-reboot"]),
        (["run", "--kernel", "x", "--trace", "exits"], ["--trace", "file"]),
        (["run", "--kernel", "x", "--trace", "dreams=/tmp/x"], ["dreams"]),
        (["host", "--jsno"], ["did you mean --json"]),
    ]:
        one_line(strata(*args), 2, *words)


def pins_must_be_the_hosts():
    kernel, allowed = image(sectors.exits_with(1)), sorted(os.sched_getaffinity(0))
    one_line(strata("run", "--kernel", kernel, "--pin", "100000"), 2, "--pin 100000", "no such processor")
    for text in ("", "x", "0,", "-1", "0-1"):
        one_line(strata("run", "--kernel", kernel, "--pin", text), 2, "--pin")
    one_line(strata("run", "--kernel", kernel, "--pin", f"{allowed[0]},{allowed[0]}"), 2, "one for each")
    if len(allowed) > 1:
        elsewhere = strata("run", "--kernel", kernel, "--pin", str(allowed[1]),
                           preexec_fn=lambda: os.sched_setaffinity(0, {allowed[0]}))
        one_line(elsewhere, 2, "may not run there")


def help_is_printed_on_request():
    for args in (["help"], ["--help"], ["help", "run"], ["run", "--help"], ["host", "-h"]):
        done = strata(*args)
        expect((done.returncode, done.stderr), (0, b""))
        assert done.stdout.startswith(b"usage: strata")


def version_is_a_number():
    done = strata("version")
    assert re.fullmatch(rb"strata \d+\.\d+\.\d+\n", done.stdout), done.stdout
    expect(strata("--version").stdout, done.stdout)


def host_names_every_engine():
    text = strata("host").stdout.decode()
    facts = json.loads(strata("host", "--json").stdout)
    engines = {engine["name"]: engine for engine in facts["engines"]}
    expect(engines["interpret"]["usable"], True)
    assert engines["kvm"]["usable"] or engines["kvm"]["reason"]
    assert all(name in text for name in engines)
    assert facts["memory"] > 0 and facts["cpu"] and 1e8 < facts["tsc_hz"] < 2e10


# Images


def image_missing_is_one_line():
    one_line(strata("run", "--kernel", "/nonexistent/kernel"), 1, "/nonexistent/kernel", "No such file")
    one_line(run(sectors.exits_with(1), "--initrd", "/nonexistent/initrd"), 1, "initrd")


def image_that_is_none_is_refused():
    # Not random anew each time: one in fifty such files begins like a BIOS where a processor takes its first instruction.
    noise = random.Random(0).randbytes(4096)
    for content in (b"", b"hello\n", b"\x7fELF", noise, b"\0" * 100000):
        one_line(run(content), 1, "kernel")
    one_line(strata("run", "--kernel", "/"), 1, "kernel")
    one_line(strata("run", "--kernel", "/dev/zero"), 1, "kernel")


def initrd_larger_than_memory_is_refused():
    one_line(run(sectors.exits_with(1), "--initrd", image(b"\0" * (17 << 20), "initrd")), 1, "initrd")


# Ends


def networks_are_made_or_refused():
    options = "run", "--engine", "interpret", "--kernel", image(sectors.exits_with(3)), "--memory", "2M"
    expect(strata(*options, "--net", "user,model=e1000,mac=52:54:00:12:34:57").returncode, 7)
    one_line(strata(*options, "--net", "user,model=ne2000"), 2, "--net", "model=ne2000", "virtio or e1000")
    one_line(strata(*options, "--net", "user,model=e1000,packed"), 2, "--net", "packed is for model=virtio")
    for options_of in ("model=e1000,queues=1", "queues=2,model=e1000"):
        one_line(strata(*options, "--net", f"user,{options_of}"), 2, "--net", "queues= is for model=virtio")


def disks_are_opened_or_refused():
    kernel, disk = image(sectors.exits_with(3)), image(bytes(1 << 20), "disk")
    options = ["run", "--engine", "interpret", "--memory", "16M", "--kernel", kernel]
    expect(strata(*options, "--disk", f"{disk},format=raw,serial=1", "--disk", f"{image(bytes(512), 'other')},readonly").returncode, 7)
    one_line(strata(*options, "--disk", "/nowhere/at/all"), 1, "disk 0", "/nowhere/at/all", "No such file")
    one_line(strata(*options, "--disk", f"{disk},seriell=1"), 2, "--disk", "did you mean serial")
    one_line(strata(*options, "--disk", f"{disk},format=raw", "--disk", f"{disk},format=raw"), 1, "disk 1", disk)
    expect(strata(*options, "--disk", f"{disk},format=raw,bus=nvme,queues=2,serial=1").returncode, 7)
    one_line(strata(*options, "--disk", f"{disk},bus=floppy"), 2, "--disk", "bus=floppy", "virtio", "nvme")
    one_line(strata(*options, "--disk", f"{disk},bus=nvme,packed"), 2, "--disk", "packed is for bus=virtio")
    expect(strata(*options, "--disk", f"{disk},format=raw,bus=ahci,serial=1").returncode, 7)
    one_line(strata(*options, "--disk", f"{disk},bus=ahci,queues=2"), 2, "--disk", "queues= is for bus=virtio and nvme")
    one_line(strata(*options, *7 * ["--disk", f"{disk},bus=ahci"]), 2, "more than 6 disks with bus=ahci")


def exit_code_is_odd():
    for value in (0, 1, 5, 16, 127):
        expect(run(sectors.exits_with(value)).returncode, value << 1 | 1)


def power_off_is_success():
    done = run(sectors.sector(sectors.say(b"bye\r\n") + sectors.power_off() + sectors.HALT))
    expect((done.returncode, done.stdout, done.stderr), (0, b"bye\r\n", b""))


def reset_ends_with_no_reboot():
    expect(run(sectors.sector(sectors.reset() + sectors.HALT), "--no-reboot").returncode, 0)


def reset_starts_again():
    expect(run(sectors.resets_once()).returncode, 5 << 1 | 1)


def triple_fault_names_place_and_exception():
    done = run(sectors.triple_fault())
    one_line(done, 1, "triple fault", "rip 0x7c06", "exception")


def nowhere_ends_or_runs_on_but_never_crashes():
    assert run(sectors.jumps_nowhere(), "--timeout", "1").returncode in (1, 124)


def timeout_is_124():
    for kernel in (sectors.sector(sectors.SPIN), sectors.sector(sectors.HALT), sectors.flood()):
        start = time.monotonic()
        expect(run(kernel, "--timeout", "0.3").returncode, 124)
        took = time.monotonic() - start
        assert 0.3 <= took < 2, f"{took:.2f} s"


def sigterm_ends_any_guest_within_a_second():
    for kernel in (sectors.sector(sectors.SPIN), sectors.sector(sectors.HALT), sectors.flood(), sectors.echo()):
        # Nobody reads: the flood fills the pipe.
        with subprocess.Popen(command(kernel), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
            time.sleep(0.4)
            process.terminate()
            ends_within(process, 1, 128 + signal.SIGTERM)


def sighup_and_sigint_end_too():
    for number in (signal.SIGHUP, signal.SIGINT):
        with subprocess.Popen(command(sectors.sector(sectors.SPIN)), stdin=subprocess.DEVNULL) as process:
            time.sleep(0.3)
            process.send_signal(number)
            ends_within(process, 1, 128 + number)


# Standard input and output


def input_from_a_pipe_reaches_the_guest():
    done = run(sectors.echo(), stdin=None, input=b"HAL" + b"q")
    expect((done.returncode, done.stdout), (7, b"IBM"))


def input_longer_than_any_buffer_arrives_whole():
    text = b"abc" * 50000
    done = run(sectors.echo(), stdin=None, input=text + b"q")
    expect((done.returncode, done.stdout), (7, text.translate(bytes.maketrans(b"abc", b"bcd"))))


def input_may_be_closed_or_a_file():
    kernel = sectors.exits_with(2)
    expect(run(kernel, stdin=None, preexec_fn=lambda: os.close(0)).returncode, 5)
    expect(run(kernel, stdin=None, preexec_fn=lambda: (os.close(0), os.close(1))).returncode, 5)
    with open(image(b"xyzq", "typed"), "rb") as typed:
        expect(run(sectors.echo(), stdin=typed).stdout, b"yz{")


def output_to_a_slow_reader_is_complete():
    count = 300000
    with subprocess.Popen(command(sectors.numbers(count)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        time.sleep(0.5)  # long enough to fill every buffer
        out = process.stdout.read()
        expect(process.wait(timeout=10), 0)
    expect(len(out), count)
    assert out == (bytes(range(251)) * (count // 251 + 1))[:count]


def output_to_nobody_does_not_matter():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command(sectors.numbers(200000)), stdin=subprocess.DEVNULL, stdout=writer,
                          stderr=subprocess.PIPE, timeout=20)
    os.close(writer)
    expect((done.returncode, done.stderr), (0, b""))


def output_to_a_nonblocking_pipe_is_complete():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    got = []
    with subprocess.Popen(command(sectors.numbers(200000)), stdin=subprocess.DEVNULL, stdout=writer) as process:
        os.close(writer)
        time.sleep(0.3)
        while chunk := os.read(reader, 65536):
            got.append(chunk)
        expect(process.wait(timeout=10), 0)
    os.close(reader)
    expect(len(b"".join(got)), 200000)


# The terminal


class Terminal:
    """strata on a pseudo-terminal."""

    def __init__(self, *args):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(args, stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                        start_new_session=True, preexec_fn=self.take_terminal)

    @staticmethod
    def take_terminal():
        import fcntl
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def wait_raw(self):
        limit = time.monotonic() + 5
        while not self.is_raw():
            assert time.monotonic() < limit, "the terminal is not in raw mode"
            time.sleep(0.01)

    def type(self, data):
        os.write(self.master, data)

    def read(self, length):
        data = b""
        while len(data) < length and select.select([self.master], [], [], 5)[0]:
            data += os.read(self.master, length - len(data))
        return data

    def drain(self):
        def loop():
            try:
                while os.read(self.master, 65536):
                    pass
            except OSError:
                pass
        threading.Thread(target=loop, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.slave)
        os.close(self.master)

    def check_restored(self):
        expect(termios.tcgetattr(self.slave), self.before)


def terminal_is_raw_and_escape_leaves():
    with Terminal(*command(sectors.echo())) as t:
        t.wait_raw()
        t.type(b"A\x03")  # Ctrl-C is the guest's
        expect(t.read(2), b"B\x04")
        t.type(ESCAPE)
        ends_within(t.process, 1, 0)
        t.check_restored()


def terminal_is_restored_after_each_end():
    for kernel, after, status in [
        (sectors.echo(), lambda t: t.type(b"q"), 7),
        (sectors.echo(), lambda t: t.process.terminate(), 143),
        (sectors.sector(sectors.SPIN), lambda t: t.process.send_signal(signal.SIGHUP), 129),
        (sectors.sector(sectors.SPIN), lambda t: t.process.send_signal(signal.SIGSEGV), -signal.SIGSEGV),
        (sectors.sector(sectors.HALT), lambda t: t.process.send_signal(signal.SIGABRT), -signal.SIGABRT),
        (sectors.sector(sectors.HALT), lambda t: t.process.send_signal(signal.SIGBUS), -signal.SIGBUS),
    ]:
        if status < 0 and TSAN:  # it has its own idea of signals that crash
            continue
        with Terminal(*command(kernel)) as t:
            t.wait_raw()
            after(t)
            ends_within(t.process, 1.5, status)
            t.check_restored()


def terminal_that_floods_can_be_left():
    with Terminal(*command(sectors.flood())) as t:
        t.wait_raw()
        time.sleep(0.3)
        t.type(ESCAPE)  # nobody has read the terminal until now
        t.drain()
        ends_within(t.process, 1.5, 0)
        t.check_restored()


# Options that report


def trace_is_written():
    path = os.path.join(WORK.name, "trace")
    expect(run(sectors.exits_with(3), "--trace", f"exits,instructions={path}").returncode, 7)
    with open(path, encoding="utf-8") as f:
        text = f.read()
    assert "out 0xf4" in text, text
    one_line(run(sectors.exits_with(3), "--trace", "exits=/nonexistent/x"), 1, "/nonexistent/x")


def trace_to_a_full_disk_fails():
    done = run(sectors.exits_with(3), "--trace", "instructions=/dev/full")
    one_line(done, 7, "trace")


def stats_count_instructions():
    done = run(sectors.exits_with(3), "--stats")
    assert re.search(rb"[1-9]\d* instructions", done.stderr), done.stderr


def stats_count_sensitive_instructions_by_class():
    done = run(sectors.sensitive(), "--stats")
    counts = re.search(rb"in software: (\d+) privileged, (\d+) control-sensitive, (\d+) behaviour-sensitive", done.stderr)
    assert counts, done.stderr
    expect([int(n) for n in counts.groups()], [4, 3, 2])


def isa_audit_lists_violators():
    rows = {i["name"]: i for i in json.loads(strata("isa-audit", "--json").stdout)["instructions"]}
    assert rows["POPF"]["violates"] and rows["POPF"]["classic"] and rows["POPF"]["fault_at_cpl3"] == "none"
    assert rows["SGDT"]["umip"] and not rows["POPF"]["umip"]
    assert rows["HLT"]["class"] == "privileged" and not rows["HLT"]["violates"]
    for name, row in rows.items():
        expect((name, row["violates"]), (name, row["fault_at_cpl3"] == "none"))
        assert os.path.exists(os.path.join(os.path.dirname(__file__), "../../src", row["interpret"])), row
    text = strata("isa-audit").stdout.decode()
    for name in rows:
        assert f"  {name} " in text, name


CASES = [
    usage_without_verb_is_refused,
    usage_errors_name_the_culprit,
    firmware_and_kernel_exclude_each_other,
    firmware_variables_are_for_firmware_that_has_some,
    firmware_that_is_none_is_refused,
    displays_are_checked,
    shared_folders_are_checked,
    disks_without_pci_are_checked,
    ports_are_checked,
    pins_must_be_the_hosts,
    help_is_printed_on_request,
    version_is_a_number,
    host_names_every_engine,
    image_missing_is_one_line,
    image_that_is_none_is_refused,
    initrd_larger_than_memory_is_refused,
    disks_are_opened_or_refused,
    networks_are_made_or_refused,
    exit_code_is_odd,
    power_off_is_success,
    reset_ends_with_no_reboot,
    reset_starts_again,
    triple_fault_names_place_and_exception,
    nowhere_ends_or_runs_on_but_never_crashes,
    timeout_is_124,
    sigterm_ends_any_guest_within_a_second,
    sighup_and_sigint_end_too,
    input_from_a_pipe_reaches_the_guest,
    input_longer_than_any_buffer_arrives_whole,
    input_may_be_closed_or_a_file,
    output_to_a_slow_reader_is_complete,
    output_to_nobody_does_not_matter,
    output_to_a_nonblocking_pipe_is_complete,
    terminal_is_raw_and_escape_leaves,
    terminal_is_restored_after_each_end,
    terminal_that_floods_can_be_left,
    trace_is_written,
    trace_to_a_full_disk_fails,
    stats_count_instructions,
    stats_count_sensitive_instructions_by_class,
    isa_audit_lists_violators,
]


if __name__ == "__main__":
    sys.exit(cases.main(CASES))
