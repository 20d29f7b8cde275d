#!/usr/bin/env python3
"""Files, options, limits and guests that are wrong: one clear line and the right exit status, or the guest's own
fault; never a crash, a hang or something left behind. What a guest can do with instructions alone is tests/guest's.

    bad_input.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)
"""
import gzip
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time

import cases
import cli
import sectors
from cli import command, ends_within, expect, image, one_line, run, strata

# Some cases end the process while threads hang: what they leave behind is then the kernel's to free.
os.environ["TSAN_OPTIONS"] = os.environ.get("TSAN_OPTIONS", "") + ":report_thread_leaks=0"

ENDS = [0, 1, 124] + list(range(1, 256, 2))  # orderly ends of a guest that does anything


def start(*args, **kwargs):
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.Popen([cli.STRATA, "run", "--engine", "interpret", *args], **kwargs)


def kernel_run(content, *options, **kwargs):
    """Like run(), with enough memory for a kernel."""
    kwargs.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([*command(content), "--memory", "64M", *options], capture_output=True, timeout=20, **kwargs)


def built_with(symbol):
    with open(cli.STRATA, "rb") as f:
        return symbol in f.read()


def limited(what, value):
    return {"preexec_fn": lambda: resource.setrlimit(what, (value, value))}


# Kernels

SETUP_SECTS = 4


def bzimage(payload=None, size=1 << 20, code=b"\xeb\xfe", **fields):
    """A bzImage (boot.rst) around an ELF file of this code, which spins; fields overwrites bytes of its header."""
    if payload is None:
        elf = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, 0x1000000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
        elf += struct.pack("<IIQQQQQQ", 1, 5, 0x1000, 0x1000000, 0x1000000, len(code), size, 0x1000)
        elf = elf.ljust(0x1000, b"\0") + code
        payload = gzip.compress(elf, mtime=0) + struct.pack("<I", len(elf))
    head = bytearray((SETUP_SECTS + 1) * 512)
    protected = b"\xf4" * 0x400 + payload
    protected += b"\0" * (-len(protected) % 16)

    def put(at, form, value):
        struct.pack_into(form, head, at, value)

    head[0:2] = b"MZ"
    put(0x1f1, "<B", SETUP_SECTS)
    put(0x1f4, "<I", len(protected) // 16)
    put(0x1fe, "<H", 0xaa55)
    put(0x200, "<H", 0x62eb)
    head[0x202:0x206] = b"HdrS"
    put(0x206, "<H", 0x020f)
    put(0x211, "<B", 1)
    put(0x214, "<I", 0x100000)
    put(0x22c, "<I", 0x7fffffff)
    put(0x230, "<I", 0x200000)
    put(0x234, "<B", 1)
    put(0x235, "<B", 21)
    put(0x236, "<H", 1)
    put(0x238, "<I", 2047)
    put(0x248, "<I", 0x400)
    put(0x24c, "<I", len(payload))
    put(0x258, "<Q", 0x1000000)
    put(0x260, "<I", size)
    for at, data in fields.items():
        offset = int(at[1:], 16)
        head[offset:offset + len(data)] = data
    return bytes(head) + protected


def kernel_that_is_whole_runs():
    expect(kernel_run(bzimage(), "--timeout", "0.3").returncode, 124)


def kernel_truncated_anywhere_is_refused():
    whole = bzimage()
    # With 512 to 517 bytes the magic number is gone: a boot sector, which runs.
    for size in (1, 2, 0x1f0, 0x1ff, 0x206, 0x240, 0x268, 512 * 5, 512 * 5 + 1, 512 * 5 + 0x400, len(whole) - 16):
        done = kernel_run(whole[:size], "--timeout", "20")  # refused at once, however slow the host
        one_line(done, 1, "kernel")


def kernel_payload_damaged_is_refused():
    whole = bzimage()
    at = whole.index(b"\x1f\x8b")
    for damage in (whole[:at + 12] + bytes(64) + whole[at + 76:],
                   whole[:at + 30] + b"\xff" * 20 + whole[at + 50:],
                   bzimage(x24c=struct.pack("<I", 0x7fffffff)),
                   bzimage(x248=struct.pack("<I", 0xfffffff0)),
                   bzimage(payload=gzip.compress(b"no kernel", mtime=0) + struct.pack("<I", 9)),
                   bzimage(payload=gzip.compress(b"\x7fELF" + bytes(100), mtime=0) + struct.pack("<I", 0xfffffff0))):
        done = kernel_run(damage, "--timeout", "0.3")
        if done.returncode != 124:  # what cannot be unpacked on the host may still start by itself
            one_line(done, 1, "kernel")


def kernel_with_a_random_header_never_crashes():
    source = random.Random(1)
    whole = bzimage()
    for _ in range(25):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[source.randrange(0x1f1, 0x270)] = source.randrange(256)
        done = kernel_run(bytes(damaged), "--timeout", "0.1")
        if done.returncode not in (0, 124):
            one_line(done, 1, "")


def kernel_too_large_for_memory_names_what_it_needs():
    one_line(kernel_run(bzimage(size=256 << 20)), 1, "needs at least", "MiB", "64 MiB")


def kernel_command_line_too_long_is_refused():
    one_line(kernel_run(bzimage(), "--append", "x" * 2048), 1, "command line", "2047")


def kernel_of_no_regular_file_is_refused():
    fifo = os.path.join(cli.WORK.name, "fifo")
    os.mkfifo(fifo)
    for path, words in ((fifo, "not a regular file"), (cli.WORK.name, "directory"), ("/dev/null", "not a regular file"),
                        ("", "No such file"), ("x" * 5000, "File name too long"), ("/dev/null/x", "Not a directory")):
        done = strata("run", "--engine", "interpret", "--kernel", path)
        one_line(done, 1, "kernel", "" if len(path) > 400 else words)
        one_line(run(sectors.exits_with(1), "--initrd", path), 1, "initrd", "" if len(path) > 400 else words)
    one_line(run(sectors.exits_with(1), "--initrd", image(b"", "nothing")), 1, "initrd", "empty")


def kernel_that_may_not_be_read_is_refused():
    secret = image(sectors.exits_with(1), "secret")
    os.chmod(secret, 0)
    os.chmod(cli.WORK.name, 0o755)
    drop = {}
    if os.getuid() == 0:
        if not all(os.stat(p).st_mode & 1 for p in parents(cli.STRATA)):
            return  # nobody else can reach the executable
        drop = {"user": 65534, "group": 65534, "extra_groups": []}
    done = strata("run", "--engine", "interpret", "--kernel", secret, **drop)
    one_line(done, 1, "secret", "Permission denied")


def parents(path):
    while path != "/":
        path = os.path.dirname(path)
        yield path


def names_cannot_break_the_line():
    for args, status in ((["run", "--kernel", "a\nb\x1b[2J"], 1), (["run", "--kernel", "x", "--engine", "a\nb"], 2),
                         (["a\rb\nc"], 2), (["run", "--a\nb"], 2), (["run", "--kernel", "x", "--memory", "1\n"], 2),
                         (["run", "--kernel", "x", "--trace", "exits=/no\nwhere/x"], 1)):
        done = strata(*args)
        one_line(done, status)
        assert b"\x1b" not in done.stderr and b"\r" not in done.stderr, done.stderr


# Memory and other limits of the host


def memory_out_of_range_is_refused():
    for size in ("0", "1", "-1", "1M", "", " ", "M", "12Q", "0x", "1.5G", "2T", "99999T", "0xffffffffffffffff", "512M "):
        one_line(run(sectors.exits_with(1), "--memory", size), 2, "--memory")


def memory_smallest_and_largest_work():
    for size in ("2M", "0x4M", "4097K", "1048576M"):
        expect(run(sectors.exits_with(1), "--memory", size).returncode, 3)


def limits_of_the_host_are_one_line():
    kernel = sectors.exits_with(1)
    one_line(run(kernel, **limited(resource.RLIMIT_FSIZE, 1 << 20)), 1, "memory", "File too large")
    if built_with(b"__asan_init") or built_with(b"__tsan_init"):
        return  # their own needs come first
    one_line(run(kernel, "--memory", "4G", **limited(resource.RLIMIT_AS, 1 << 30)), 1, "memory", "--memory")
    for files in range(5, 9):
        done = run(kernel, **limited(resource.RLIMIT_NOFILE, files))
        if done.returncode != 3:
            one_line(done, 1, "Too many open files")


# 64-bit code that stores for ever to the same place, at 32 MiB.
STORES = [
    b"\xbf\x00\x00\x00\x02\xb9\x00\x00\x10\x00\xf3\xaa\xeb\xf2",  # 1: mov edi, 32M; mov ecx, 1M; rep stosb; jmp 1b
    b"\xc6\x04\x25\x00\x00\x00\x02\x01\xeb\xf6",  # 1: mov byte [32M], 1; jmp 1b
    b"\x0f\x20\xe0\x0d\x00\x06\x00\x00\x0f\x22\xe0"  # mov rax, cr4; or eax, 0x600; mov cr4, rax
    b"\x0f\x11\x04\x25\x00\x00\x00\x02\xeb\xf6",  # 1: movups [32M], xmm0; jmp 1b
]


def host_without_memory_ends_the_machine():
    if built_with(b"__asan_init") or built_with(b"__tsan_init"):
        return  # they report signals themselves
    for engine in ("interpret", "translate"):
        for code in STORES:
            kernel = image(bzimage(code=code))
            with subprocess.Popen([cli.STRATA, "run", "--engine", engine, "--no-sandbox", "--memory", "64M", "--kernel", kernel],
                                  stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
                take_memory(process.pid)
                _, said = process.communicate(timeout=10)
            one_line(subprocess.CompletedProcess([], process.returncode, b"", said), 1, "no memory left")


def take_memory(pid):
    """Pages that the host has no memory for, and pages beyond the end of a memfd, are the same to who touches them."""
    for _ in range(100):
        time.sleep(0.1)
        for path in (f"/proc/{pid}/fd/{fd}" for fd in os.listdir(f"/proc/{pid}/fd")):
            # Not before the kernel is in it.
            if os.readlink(path).startswith("/memfd:ram") and os.stat(path).st_blocks > 8:
                time.sleep(0.2)
                os.truncate(path, 24 << 20)
                return
    raise AssertionError("no guest memory")


# Guests


def guests_of_random_code_never_crash():
    source = random.Random(2)
    for _ in range(25):
        code = bytes(source.randrange(256) for _ in range(510))
        done = run(sectors.sector(code), "--timeout", "0.15")
        assert done.returncode in ENDS, (done.returncode, code.hex())
        if done.returncode == 1 and done.stderr:
            one_line(done, 1, "rip", "exception")


def every_port(low, high):
    """Writes 0 to, and reads, each port from low to high."""
    return (b"\xba" + struct.pack("<H", high + 1) +  # mov dx, high + 1
            b"\x4a\x31\xc0\xef\xec\xed"              # 1: dec dx; xor ax, ax; out dx, ax; in al, dx; in ax, dx
            b"\x81\xfa" + struct.pack("<H", low) +    # cmp dx, low
            b"\x77\xf4")                             # ja 1b


def guest_that_writes_every_port_lives():
    # All but those that are there to end the machine: debug exit and power.
    ranges = [(0x610, 0xfffd), (0x510, 0x5fe), (0xf8, 0x4fe), (0, 0xf2)]
    code = b"\xfa" + b"".join(every_port(*r) for r in ranges) + b"\xb0\x21" + sectors.EXIT + sectors.HALT
    expect(run(sectors.sector(code)).returncode, 0x21 << 1 | 1)


def guest_that_resets_for_ever_can_be_ended():
    with subprocess.Popen(command(sectors.sector(sectors.reset() + sectors.HALT)), stdin=subprocess.DEVNULL) as process:
        time.sleep(0.4)
        process.terminate()
        ends_within(process, 1, 128 + signal.SIGTERM)


# Ends


def sigterm_ends_at_any_moment():
    for step in range(20):
        with start("--kernel", image(sectors.sector(sectors.HALT))) as process:
            time.sleep(step * 0.002)
            process.terminate()
            start_of_wait = time.monotonic()
            assert process.wait(timeout=10) in (128 + signal.SIGTERM, -signal.SIGTERM)
            assert time.monotonic() - start_of_wait < 1


def sigterm_ends_loading():
    path = image(b"", "huge")
    os.truncate(path, 1 << 30)
    with start("--kernel", image(bzimage()), "--initrd", path, "--memory", "3G", stderr=subprocess.PIPE) as process:
        time.sleep(0.15)
        process.terminate()
        ends_within(process, 1, 128 + signal.SIGTERM)


def sigterm_ends_what_waits_for_a_reader():
    if built_with(b"__tsan_init"):
        return  # its _exit() waits for stderr, which waits for the reader
    # The trace fills the pipe, and the error message has no room either.
    with start("--kernel", image(sectors.sector(sectors.SPIN)), "--trace", "instructions=/dev/stderr",
               stderr=subprocess.PIPE) as process:
        time.sleep(0.5)
        process.terminate()
        ends_within(process, 1, 128 + signal.SIGTERM)


def timeout_ends_what_waits_for_a_reader():
    if built_with(b"__tsan_init"):
        return  # its _exit() waits for stderr, which waits for the reader
    with start("--kernel", image(sectors.sector(sectors.SPIN)), "--trace", "instructions=/dev/stderr",
               "--timeout", "0.3", stderr=subprocess.PIPE) as process:
        ends_within(process, 1.5, 124)


def nothing_is_left_behind():
    scratch = os.path.join(cli.WORK.name, "scratch")
    os.mkdir(scratch)
    shared = set(os.listdir("/dev/shm"))
    kernel = sectors.sector(sectors.SPIN)
    for number in (signal.SIGKILL, signal.SIGTERM):
        with subprocess.Popen(command(kernel), stdin=subprocess.DEVNULL, cwd=scratch, start_new_session=True,
                              env=os.environ | {"TMPDIR": scratch, "HOME": scratch}) as process:
            time.sleep(0.2)
            process.send_signal(number)
            process.wait(timeout=5)
        try:
            os.killpg(process.pid, 0)
            raise AssertionError("a process is left")
        except ProcessLookupError:
            pass
    expect(os.listdir(scratch), [])
    expect(set(os.listdir("/dev/shm")) - shared, set())


def standard_streams_may_all_be_closed():
    def close_all():
        for fd in range(3):
            os.close(fd)
    for kernel, status in ((sectors.exits_with(4), 9), (sectors.triple_fault(), 1), (b"no kernel", 1)):
        done = subprocess.run(command(kernel), preexec_fn=close_all, timeout=20)
        expect(done.returncode, status)


def output_on_a_full_disk_does_not_stop_the_guest():
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command(sectors.numbers(200000)), stdin=subprocess.DEVNULL, stdout=full, timeout=20)
    expect(done.returncode, 0)


CASES = [
    kernel_that_is_whole_runs,
    kernel_truncated_anywhere_is_refused,
    kernel_payload_damaged_is_refused,
    kernel_with_a_random_header_never_crashes,
    kernel_too_large_for_memory_names_what_it_needs,
    kernel_command_line_too_long_is_refused,
    kernel_of_no_regular_file_is_refused,
    kernel_that_may_not_be_read_is_refused,
    names_cannot_break_the_line,
    memory_out_of_range_is_refused,
    memory_smallest_and_largest_work,
    limits_of_the_host_are_one_line,
    host_without_memory_ends_the_machine,
    guests_of_random_code_never_crash,
    guest_that_writes_every_port_lives,
    guest_that_resets_for_ever_can_be_ended,
    sigterm_ends_at_any_moment,
    sigterm_ends_loading,
    sigterm_ends_what_waits_for_a_reader,
    timeout_ends_what_waits_for_a_reader,
    nothing_is_left_behind,
    standard_streams_may_all_be_closed,
    output_on_a_full_disk_does_not_stop_the_guest,
]

if __name__ == "__main__":
    sys.exit(cases.main(CASES))
