#!/usr/bin/env python3
"""Boots one of Debian's stock kernels, unmodified, to a shell command and a clean power-off.

    boot.py STRATA cloud|generic ENGINE SECONDS

Skips (77) where the kernel cannot be had (no network, not Debian) or the host cannot run the engine.
"""
import os
import signal
import subprocess
import sys
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
SKIP = 77
NOT_POSSIBLE_HERE = 3  # strata's exit status

# What the guest runs, and what of its output must be there: its /init decodes %20.
COMMAND = "uname%20-rm;%20head%20-c%20100000%20/dev/urandom%20|%20md5sum%20|%20wc%20-c;%20echo%20sum%20$((6*7))"
EXPECTED = ["x86_64", "\n36", "sum 42", "exit status 0"]
FORBIDDEN = ["Kernel panic", "BUG:", "Oops", "Call Trace", "unchecked MSR access"]


def skip(why):
    print("skipped:", why)
    sys.exit(SKIP)


def fetch(flavour, folder):
    done = subprocess.run([f"{ROOT}/tools/fetch-kernel", flavour, folder], capture_output=True, text=True)
    if done.returncode:
        skip(done.stderr.strip())
    return done.stdout.strip()


def boot(command, seconds):
    """(exit status or None on timeout, output, seconds taken)"""
    started = time.monotonic()
    machine = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = machine.communicate(timeout=seconds)
        status = machine.returncode
    except subprocess.TimeoutExpired:
        os.killpg(machine.pid, signal.SIGKILL)
        output, _ = machine.communicate()
        status = None
    return status, output.decode(errors="replace").replace("\r\n", "\n"), time.monotonic() - started


def main():
    strata, flavour, engine, seconds = sys.argv[1:5]
    folder = f"{ROOT}/build/guest"
    kernel = fetch(flavour, folder)
    # Each test its own: two run side by side.
    initrd = f"{folder}/boot-{flavour}-{engine}.cpio"
    subprocess.run([f"{ROOT}/tools/make-initramfs", initrd], check=True)
    status, output, took = boot(
        [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "512M", "--no-reboot",
         "--append", f"console=ttyS0 panic=-1 strata.run={COMMAND}"], float(seconds))
    if status == NOT_POSSIBLE_HERE:
        skip(output.strip())
    problems = [f"missing in the output: {text!r}" for text in EXPECTED if text not in output]
    problems += [f"in the output: {text!r}" for text in FORBIDDEN if text in output]
    if status != 0:
        problems.append(f"did not power off within {seconds} s" if status is None else f"exit status {status}, not 0")
    if problems:
        print(output)
    print(*problems, f"{flavour} under {engine}: {took:.1f} s", sep="\n")
    sys.exit(1 if problems else 0)


main()
