#!/usr/bin/env python3
"""The translator's user interface: --translate and strata explain.

    translate.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)

Cases that need one of Debian's kernels say so and pass over it where it cannot be had.
"""
import json
import os
import re
import subprocess
import sys
import tempfile

import cases
import sectors

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))
STRATA = os.path.abspath(sys.argv[1])
WORK = tempfile.TemporaryDirectory()
SWITCHES = ["stats", "no-chain", "no-lookup", "no-fast-tlb", "no-vector", "single", "small-cache"]


def strata(*args):
    return subprocess.run([STRATA, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def one_line(done, status, *words):
    assert done.returncode == status, f"status {done.returncode}: {done.stderr!r}"
    assert done.stderr.count("\n") == 1, f"not one line: {done.stderr!r}"
    for word in words:
        assert word in done.stderr, f"{word!r} is not in {done.stderr!r}"


def cloud_kernel():
    done = subprocess.run([f"{ROOT}/tools/fetch-kernel", "cloud", f"{ROOT}/build/guest"], capture_output=True, text=True)
    if done.returncode:
        raise cases.Skipped(done.stderr.strip())
    return done.stdout.strip()


def sector():
    path = os.path.join(WORK.name, "sector")
    with open(path, "wb") as f:
        f.write(sectors.exits_with(3))
    return path


def usable():
    engines = {e["name"]: e for e in json.loads(strata("host", "--json").stdout)["engines"]}
    if not engines["translate"]["usable"]:
        raise cases.Skipped(engines["translate"]["reason"])


def explained(*args):
    usable()
    done = strata("explain", "--kernel", cloud_kernel(), "--json", *args)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --translate


def usage_errors_name_the_switch():
    for args, words in [
        (["stast"], ["stast", "did you mean stats"]),
        (["stats,no-chian"], ["no-chian", "did you mean no-chain"]),
        (["wibble"], ["wibble", "--help"]),
        (["stats,"], ["missing"]),
        ([""], ["missing"]),
        (["stats", "--engine", "interpret"], ["--translate", "interpret"]),
    ]:
        one_line(strata("run", "--kernel", "x", "--translate", *args), 2, *words)


def help_lists_the_switches():
    text = strata("help", "run").stdout
    for name in SWITCHES:
        assert re.search(rf"^ +{name} ", text, re.M), name


def each_switch_runs_a_guest():
    usable()
    for name in [*SWITCHES, ",".join(SWITCHES)]:
        done = strata("run", "--kernel", sector(), "--memory", "16M", "--translate", name)
        assert done.returncode == 7, (name, done.stderr)


def stats_are_printed_when_asked_for():
    usable()
    done = strata("run", "--kernel", sector(), "--memory", "16M", "--cpus", "2", "--translate", "stats")
    for words in ("translator of cpu0", "translator of cpu1", "blocks", "links made", "fast TLB fills", "handed over"):
        assert words in done.stderr, (words, done.stderr)
    assert strata("run", "--kernel", sector(), "--memory", "16M", "--translate", "no-chain").stderr == ""


# explain


def explain_help_has_examples():
    assert "native_write_cr3" in strata("help", "explain").stdout


def explain_refuses_what_is_no_kernel():
    usable()
    one_line(strata("explain", "--kernel", "/nonexistent/kernel", "--at", "main"), 1, "/nonexistent/kernel")
    assert strata("explain", "--kernel", sector(), "--at", "0x7c00").returncode == 1


def explain_knows_symbols_offsets_and_addresses():
    by_name = explained("--at", "native_write_cr3", "--count", "2")
    at = int(by_name[0]["guest"]["at"], 16)
    assert by_name[0]["symbol"] == "native_write_cr3" and by_name[0]["offset"] == 0
    assert explained("--at", hex(at), "--count", "2") == by_name
    second = explained("--at", "native_write_cr3+0x3", "--count", "1")
    assert second[0]["guest"] == by_name[1]["guest"]


def explain_names_symbols_like_an_unknown_one():
    usable()
    kernel = cloud_kernel()
    one_line(strata("explain", "--kernel", kernel, "--at", "native_write"), 2, "native_write_cr3")
    one_line(strata("explain", "--kernel", kernel, "--at", "no_such_thing_"), 2, "no_such_thing_")
    one_line(strata("explain", "--kernel", kernel, "--at", "native_write_cr3+x"), 2, "offset")
    one_line(strata("explain", "--kernel", kernel, "--at", "0xffffffffff000000"), 1, "no code")


def explain_shows_what_becomes_of_sensitive_instructions():
    for symbol, text, became in [
        ("pv_native_irq_disable", r"cli", ("handed to the interpreter", "emulated inline")),
        ("native_write_cr3", r"mov cr3, .*", ("handed to the interpreter",)),
        ("native_save_fl", r"pushfq?", ("handed to the interpreter", "emulated inline")),
        ("secondary_startup_64", r"popfq?", ("handed to the interpreter", "emulated inline")),
        ("__x86_return_thunk", r"ret", ("lookup",)),
    ]:
        # the whole start-up code, which is several symbols
        more = ["--count", "120"] if symbol == "secondary_startup_64" else []
        found = [i for i in explained("--at", symbol, *more) if re.fullmatch(text, i["guest"]["text"])]
        assert found, (symbol, text)
        assert found[0]["became"] in became, found[0]
        assert found[0]["why"] and found[0]["host"], found[0]


def explain_copies_are_copies():
    kinds = set()
    for insn in explained("--at", "native_flush_tlb_global"):
        kinds.add(insn["became"])
        if insn["became"] == "copied":
            assert "".join(line["bytes"] for line in insn["host"]) == insn["guest"]["bytes"], insn
        if insn["became"] == "memory check":
            assert any("pext" in line["text"] for line in insn["host"]), insn
    assert {"copied", "memory check", "chained jump"} <= kinds, kinds


def explain_is_aligned_text():
    usable()
    lines = strata("explain", "--kernel", cloud_kernel(), "--at", "native_save_fl").stdout.splitlines()
    assert lines[0] == "native_save_fl:"
    fates = {line.index("; ") for line in lines if re.match(r"[0-9a-f]{16} ", line)}
    assert len(fates) == 1, fates


# mem translate


def placed(*args):
    usable()
    done = strata("mem", "translate", "--kernel", cloud_kernel(), "--json", "--at", *args)
    assert done.stderr == "", done.stderr
    return done.returncode, json.loads(done.stdout)


def mem_translate_follows_the_tables():
    """Each entry is where the one before says, and the last one with the address's low bits is the physical address."""
    for name in ("native_write_cr3", "entry_SYSCALL_64+0x5", "startup_64"):
        status, a = placed(name)
        assert status == 0 and a["symbol"] == name.split("+")[0], a
        linear, table = int(a["linear"], 16), int(a["cr3"], 16) & ~0xfff
        shifts = {"PML4": 39, "PDPT": 30, "PD": 21, "PT": 12}
        for level in a["levels"]:
            shift = shifts[level["table"]]
            assert level["index"] == linear >> shift & 511, a
            assert int(level["at"], 16) == table + 8 * level["index"], a
            assert "P" in level["flags"], a
            table = int(level["entry"], 16) & 0xffffffffff000
        offset = linear & ((1 << shift) - 1)
        assert a["end"] == "page" and a["page_size"] == 1 << shift and "PS" in level["flags"], a
        assert int(a["physical"], 16) == (table & ~((1 << shift) - 1)) | offset, a
        # Below 3 GiB, guest memory begins where its file does.
        assert a["region"] == "ram" and a["in_region"] == a["physical"], a
        assert int(a["host"], 16) & 0xfff == linear & 0xfff, a


def mem_translate_says_what_is_not_mapped():
    status, a = placed("0xffffc90000000000")
    assert status == 1 and a["end"] == "not present" and "physical" not in a, a
    done = strata("mem", "translate", "--kernel", cloud_kernel(), "--at", "0xffffc90000000000")
    assert done.returncode == 1 and "page fault" in done.stdout, done.stdout
    one_line(strata("mem", "translate", "--kernel", cloud_kernel(), "--at", "no_such_thing_"), 2, "no_such_thing_")
    one_line(strata("mem"), 2, "verb is missing")
    one_line(strata("mem", "translate", "--at", "0"), 2, "--kernel")


def mem_translate_is_text():
    usable()
    text = strata("mem", "translate", "--kernel", cloud_kernel(), "--at", "native_write_cr3").stdout
    for pattern in (r"^linear +ffffffff8\w+  native_write_cr3$", r"^CR3 ", r"^  PML4 \[511\]  at \w+: \w+  P R/W", r"maps 2 MiB$",
                    r"^physical +\w+  supervisor, writable, executable$", r'^host +\w+  byte 0x\w+ of "ram"$'):
        assert re.search(pattern, text, re.M), (pattern, text)


CASES = [
    usage_errors_name_the_switch,
    help_lists_the_switches,
    each_switch_runs_a_guest,
    stats_are_printed_when_asked_for,
    explain_help_has_examples,
    explain_refuses_what_is_no_kernel,
    explain_knows_symbols_offsets_and_addresses,
    explain_names_symbols_like_an_unknown_one,
    explain_shows_what_becomes_of_sensitive_instructions,
    explain_copies_are_copies,
    explain_is_aligned_text,
    mem_translate_follows_the_tables,
    mem_translate_says_what_is_not_mapped,
    mem_translate_is_text,
]


if __name__ == "__main__":
    sys.exit(cases.main(CASES))
