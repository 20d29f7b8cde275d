#!/usr/bin/env python3
"""strata image: its verbs, beside qemu-img where that is installed.

    image.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)
"""
import json
import os
import pty
import random
import shutil
import subprocess
import sys
import tempfile

import cases

STRATA = os.path.abspath(sys.argv[1])
WORK = tempfile.TemporaryDirectory()
QEMU = shutil.which("qemu-img")


def path(name):
    return os.path.join(WORK.name, name)


def run(*args):
    return subprocess.run([STRATA, "image", *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100)


def well(*args):
    done = run(*args)
    assert done.returncode == 0 and not done.stderr, f"{args}: {done.returncode} {done.stderr!r}"
    return done.stdout


def refused(status, words, *args):
    done = run(*args)
    assert done.returncode == status, f"{args}: status {done.returncode}, want {status}: {done.stderr!r}"
    assert done.stderr.startswith("strata: image") and done.stderr.count("\n") == 1, done.stderr
    for word in words:
        assert word in done.stderr, f"{word!r} is not in {done.stderr!r}"


def qemu(*args):
    if QEMU:
        done = subprocess.run([QEMU, *args], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, f"qemu-img {args}: {done.stdout}{done.stderr}"


def contents(name, size=3 << 20):
    """A file with data, zeroes and holes."""
    chance = random.Random(name)
    with open(path(name), "wb") as f:
        for at in range(0, size, 64 << 10):
            f.seek(at)
            f.write([chance.randbytes(64 << 10), bytes(64 << 10), b"x" * 1000][chance.randrange(3)])
        f.truncate(size)
    return path(name)


def facts(name):
    return json.loads(well("info", "--json", name))


def create_makes_what_it_says():
    for number, options in enumerate([[], ["--old"], ["--cluster", "4K"], ["--lazy-refcounts"], ["--format", "raw"]]):
        name = path(f"create-{number}")
        well("create", name, "--size", "100M", *options)
        found = facts(name)
        assert found["size"] == 100 << 20, found
        assert found["format"] == ("raw" if "raw" in options else "qcow2"), found
        assert found.get("version", 3) == (2 if "--old" in options else 3), found
        if "raw" not in options:
            assert found["cluster-size"] == (4096 if "4K" in options else 65536), found
            qemu("check", "-q", name)


def create_refuses_what_cannot_be():
    name = path("refuse")
    refused(2, ["--size"], "create", name)
    refused(2, ["FILE"], "create", "--size", "1M")
    refused(2, ["qcow3"], "create", name, "--size", "1M", "--format", "qcow3")
    refused(1, ["power of two"], "create", name, "--size", "1M", "--cluster", "3000")
    assert not os.path.exists(name)
    refused(1, ["nowhere"], "create", name, "--backing", "nowhere")
    well("create", name, "--size", "1M")
    refused(1, ["exists", "--force"], "create", name, "--size", "2M")
    well("create", name, "--size", "2M", "--force")
    assert facts(name)["size"] == 2 << 20
    refused(1, ["No such file"], "create", "/nowhere/x", "--size", "1M")


def backing_is_named_and_its_size_taken():
    contents("base.raw")
    name = path("overlay.qcow2")
    well("create", name, "--backing", "base.raw", "--backing-format", "raw")
    found = facts(name)
    assert (found["backing"], found["backing-format"], found["size"]) == ("base.raw", "raw", 3 << 20), found
    qemu("compare", "-q", name, path("base.raw"))


def convert_keeps_the_contents():
    raw = contents("contents.raw")
    there, back = path("there.qcow2"), path("back.raw")
    for options in [[], ["--old"], ["--cluster", "512"], ["--cluster", "2M"]]:
        well("convert", raw, there, "--force", *options)
        qemu("check", "-q", there)
        qemu("compare", "-q", raw, there)
        well("convert", there, back, "--format", "raw", "--force")
        with open(raw, "rb") as a, open(back, "rb") as b:
            assert a.read() == b.read()
    assert os.stat(back).st_blocks * 512 < os.stat(back).st_size  # zeroes are holes
    refused(1, ["exists"], "convert", raw, there)
    refused(1, ["in use"], "convert", raw, raw, "--force")
    assert os.path.getsize(raw) == 3 << 20
    refused(2, ["NEW"], "convert", raw)
    refused(1, ["No such file"], "convert", path("none"), path("other"))


def convert_skips_holes():
    raw, there = path("sparse.raw"), path("sparse.qcow2")
    with open(raw, "wb") as f:
        f.truncate(1 << 40)
        f.seek((1 << 39) + 12345)
        f.write(b"in the middle of it")
    well("convert", raw, there, "--force")
    assert os.stat(there).st_blocks * 512 < 8 << 20
    well("convert", there, path("sparse.back"), "--format", "raw", "--force")
    with open(path("sparse.back"), "rb") as f:
        f.seek((1 << 39) + 12345)
        assert f.read(19) == b"in the middle of it"
    qemu("check", "-q", there)


def resize_grows_and_shrinks_when_told():
    for kind in ("qcow2", "raw"):
        name = path(f"resize.{kind}")
        well("convert", contents("resize"), name, "--format", kind)
        well("resize", name, "--size", "5G")
        assert facts(name)["size"] == 5 << 30
        refused(1, ["--shrink"], "resize", name, "--size", "1M")
        well("resize", name, "--size", "1M", "--shrink")
        assert facts(name)["size"] == 1 << 20
        if kind == "qcow2":
            qemu("check", "-q", name)


def check_finds_and_repairs():
    name = path("check.qcow2")
    well("convert", contents("check"), name)
    assert well("check", name) == "no errors\n"
    assert json.loads(well("check", "--json", name))["errors"] == 0
    with open(name, "r+b") as f:  # the refcounts of clusters 3 and 6: the block of refcounts is cluster 2
        f.seek(2 * 65536 + 6)
        f.write(b"\0\x05")
        f.seek(2 * 65536 + 12)
        f.write(b"\0\0")
    done = run("check", name)
    assert done.returncode == 1 and "1 errors" in done.stdout and "1 clusters" in done.stdout, done
    assert json.loads(run("check", "--json", name).stdout)["leaks"] == 1
    assert "2 entries" in well("check", "--repair", name)
    assert well("check", name) == "no errors\n"
    qemu("check", "-q", name)
    refused(1, ["nothing to check"], "check", contents("plain"))


def bitmaps_are_left_alone():
    if not QEMU:
        return
    name = path("bitmap.qcow2")
    well("create", name, "--size", "10M")
    qemu("bitmap", "--add", name, "b")
    refused(1, ["bitmaps"], "check", "--repair", name)
    refused(1, ["bitmaps"], "resize", name, "--size", "20M")
    assert facts(name)["size"] == 10 << 20
    qemu("check", "-q", name)


def what_is_no_image_is_one_line():
    bad = path("bad.qcow2")
    with open(bad, "wb") as f:
        f.write(b"QFI\xfb\0\0\0\x03" + b"\xff" * 100)
    for verb in ("info", "check"):
        refused(1, [bad], verb, bad)
    refused(1, ["neither a file"], "info", WORK.name)
    refused(1, ["floppy"], "info", "--format", "floppy", bad)
    refused(2, ["a verb is missing"])
    refused(2, ["unknown verb shrink"], "shrink")
    assert "--size SIZE" in run("create", "--help").stdout
    assert "convert" in run("--help").stdout


def bars_are_for_terminals():
    raw = path("large.raw")
    with open(raw, "wb") as f:
        for _ in range(96):
            f.write(os.urandom(1 << 20) * 2)
    done = run("convert", raw, path("large.qcow2"), "--cluster", "512", "--force")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    master, slave = pty.openpty()
    with subprocess.Popen([STRATA, "image", "convert", raw, path("large.qcow2"), "--cluster", "512", "--force"],
                          stdin=subprocess.DEVNULL, stdout=slave, stderr=slave) as process:
        os.close(slave)
        text = b""
        while True:
            try:
                got = os.read(master, 4096)
            except OSError:
                break
            if not got:
                break
            text += got
        assert process.wait(timeout=60) == 0, text
    os.close(master)
    assert b"converting [" in text and b"%" in text or process.returncode == 0 and not text, text


CASES = [value for name, value in list(globals().items())
         if callable(value) and getattr(value, "__module__", "") == "__main__"
         and name not in ("path", "run", "well", "refused", "qemu", "contents", "facts")]


if __name__ == "__main__":
    sys.exit(cases.main(CASES))
