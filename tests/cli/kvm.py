#!/usr/bin/env python3
"""The KVM engine's user interface: --kvm, what `strata host` says, and that every guest ends.

    kvm.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)

Cases that need KVM pass over it where /dev/kvm cannot be opened; what it can do beyond that does not matter.
"""
import functools
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

import cases
import sectors

STRATA = os.path.abspath(sys.argv[1])
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WORK = tempfile.TemporaryDirectory()
PLACES = ([], ["--kvm", "user-irqchip"])  # of the local APICs


def strata(*args, timeout=60):
    return subprocess.run([STRATA, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)


def run(content, *options, timeout=60):
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise cases.Skipped("/dev/kvm cannot be opened")
    kernel = os.path.join(WORK.name, "kernel")
    with open(kernel, "wb") as f:
        f.write(content)
    done = strata("run", "--engine", "kvm", "--kernel", kernel, "--memory", "16M", *options, timeout=timeout)
    if done.returncode == 3:
        raise cases.Skipped(done.stderr.strip())
    return done


def usage_errors_name_the_switch():
    for args, words in [
        (["user-irqhcip"], ["user-irqhcip", "did you mean user-irqchip"]),
        ([""], ["missing"]),
        (["user-irqchip", "--engine", "interpret"], ["--kvm", "interpret"]),
        (["user-irqchip", "--translate", "stats"], ["--kvm", "--translate"]),
    ]:
        done = strata("run", "--kernel", "x", "--kvm", *args)
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done
        for word in words:
            assert word in done.stderr, (word, done.stderr)


def help_lists_the_switches():
    assert re.search(r"^ +user-irqchip ", strata("help", "run").stdout, re.M)


def host_says_where_local_apics_are():
    about = {e["name"]: e for e in json.loads(strata("host", "--json").stdout)["engines"]}["kvm"]["about"]
    assert re.fullmatch(r"local APICs in (KVM|user space: .+)", about), about
    assert about in strata("host").stdout


def each_place_of_the_apics_runs_a_guest():
    for place in PLACES:
        done = run(sectors.exits_with(3), *place)
        assert done.returncode == 7, (place, done)


def reset_starts_again():
    for place in PLACES:
        done = run(sectors.resets_once(), *place)
        assert done.returncode == 5 << 1 | 1, (place, done)


def usable():
    return {e["name"]: e for e in json.loads(strata("host", "--json").stdout)["engines"]}["kvm"]["usable"]


def triple_fault_ends_or_the_host_is_refused():
    for place in PLACES:
        done = run(sectors.triple_fault(), "--timeout", "1", *place)
        if done.returncode == 124:  # KVM's emulator goes on where a processor would not
            assert not usable(), place
        else:
            assert done.returncode == 1 and "triple fault" in done.stderr, (place, done)


def every_guest_ends_in_time():
    guests = (sectors.triple_fault(), sectors.jumps_nowhere(), sectors.sector(sectors.HALT), sectors.sector(sectors.SPIN))
    for guest in guests:
        for place in PLACES:
            start = time.monotonic()
            assert run(guest, "--timeout", "0.3", *place).returncode in (1, 124), place
            assert time.monotonic() - start < 2, (place, time.monotonic() - start)


def sigterm_ends_within_a_second():
    for guest in (sectors.triple_fault(), sectors.sector(sectors.HALT), sectors.sector(sectors.SPIN)):
        for place in PLACES:
            run(sectors.exits_with(3), *place)  # skips where KVM does not open
            kernel = os.path.join(WORK.name, "kernel")
            with open(kernel, "wb") as f:
                f.write(guest)
            command = [STRATA, "run", "--engine", "kvm", "--kernel", kernel, "--memory", "16M", *place]
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                time.sleep(0.4)
                process.terminate()
                assert process.wait(1.5) in (1, 128 + signal.SIGTERM), place


@functools.cache
def requests_program():
    folder = os.path.join(WORK.name, "programs")
    program = os.path.join(folder, "long-requests")
    subprocess.run(["make", "-s", "-C", os.path.join(ROOT, "tests/guest"), f"O={folder}", f"MORE={ROOT}/bench/machine", program], check=True, timeout=60)
    return program


def requests(device, count, *options):
    """The command of a guest that makes so many requests to a device of bench/exits."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise cases.Skipped("/dev/kvm cannot be opened")
    order, disk = os.path.join(WORK.name, "order.raw"), os.path.join(WORK.name, "disk.raw")
    for path, head in ((order, struct.pack("<III", device, count, 100)), (disk, b"")):
        with open(path, "wb") as f:
            f.write(head.ljust(1 << 20, b"\0"))
    return [STRATA, "run", "--engine", "kvm", *options, "--kernel", requests_program(), "--memory", "64M", "--no-reboot",
            "--disk", f"{order},format=raw", "--disk", f"{disk},format=raw,bus=nvme", "--net", f"user,model={'e1000' if device == 3 else 'virtio'}"]


def requests_are_answered_with_doorbells_and_without():
    for device in range(4):
        for options in (*PLACES, ["--kvm", "no-doorbells"], ["--trace", "exits=" + os.path.join(WORK.name, "exits")]):
            done = subprocess.run(requests(device, 50, *options), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            assert "DONE 0x32 " in done.stdout, (device, options, done)


def no_request_is_lost_in_a_pause():
    with tempfile.TemporaryDirectory() as home:
        env = dict(os.environ, XDG_STATE_HOME=home)
        command = requests(0, 1500, "--name", "pauses")
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
            paused = 0
            while process.poll() is None:
                for what in ("pause", "resume"):
                    done = subprocess.run([STRATA, what, "pauses"], capture_output=True, text=True, timeout=60, env=env)
                    paused += what == "pause" and not done.returncode
            text = process.stdout.read()
        assert "DONE 0x5dc " in text, text
        assert paused, text


CASES = [
    usage_errors_name_the_switch,
    help_lists_the_switches,
    host_says_where_local_apics_are,
    each_place_of_the_apics_runs_a_guest,
    reset_starts_again,
    triple_fault_ends_or_the_host_is_refused,
    every_guest_ends_in_time,
    sigterm_ends_within_a_second,
    requests_are_answered_with_doorbells_and_without,
    no_request_is_lost_in_a_pause,
]


if __name__ == "__main__":
    sys.exit(cases.main(CASES))
