#!/usr/bin/env python3
"""The shell completion and the manual page that are made from the option tables.

    generate.py STRATA [NAME...]     runs the cases (or those whose name contains NAME)
"""
import os
import re
import shutil
import subprocess
import sys

import cases
import cli
from cli import expect, one_line, strata

VERBS = re.findall(r"^  ([a-z-]+) ", strata("help").stdout.decode(), re.M)
COMPLETE = """. /dev/stdin
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _strata; printf '%s\\n' "${COMPREPLY[@]}"
"""


def generated(kind):
    done = strata("generate", "--for", kind)
    expect((done.returncode, done.stderr), (0, b""))
    return done.stdout.decode()


def complete(*words):
    """What the shell would offer for the last word."""
    done = subprocess.run(["bash", "-c", COMPLETE, "bash", cli.STRATA, *words], input=generated("bash"), capture_output=True, text=True,
                          timeout=cli.LIMIT, check=True)
    expect(done.stderr, "")
    return done.stdout.split()


def options(*verb):
    return {word for line in strata("help", *verb).stdout.decode().splitlines() for word in re.findall(r"^  (?:-\w \S+, )?(--[a-z-]+)", line)}


def the_shell_completes_verbs_and_options():
    expect(set(complete("")), set(VERBS))
    expect(complete("image", "cr"), ["create"])
    for verb in (["run"], ["ls"], ["image", "create"], ["stop"]):
        expect(set(complete(*verb, "--")), options(*verb) | {"--help"})
    expect(complete("run", "--log", "in"), ["info"])
    expect(complete("run", "--kernel", ""), [])  # a file: the shell's own
    expect(complete("run", "--detach", "--na"), ["--name"])
    expect(complete("help", "st"), ["start", "stop"])


def the_shell_completes_names_of_machines():
    os.environ["XDG_STATE_HOME"] = cli.WORK.name
    expect(complete("start", ""), [])
    for name in ("web", "mail"):
        expect(strata("create", "--name", name, "--kernel", "x").returncode, 0)
    expect(complete("start", ""), ["mail", "web"])
    expect(complete("rm", "w"), ["web"])


def the_manual_page_has_everything():
    page = generated("man").replace("\\-", "-")
    for verb in VERBS:
        if verb not in ("help", "image", "mem"):
            assert re.search(rf'^\.SS "strata {verb}\b', page, re.M), verb
    for verb in (["run"], ["image", "convert"], ["stop"]):
        for option in options(*verb):
            assert f"\n.BR {option}" in page, option
    if shutil.which("groff"):
        done = subprocess.run(["groff", "-man", "-ww", "-z"], input=generated("man").encode(), capture_output=True, timeout=60)
        expect((done.returncode, done.stderr), (0, b""))


def other_kinds_are_refused():
    one_line(strata("generate", "--for", "csh"), 2, "csh", "bash", "man")


CASES = [the_shell_completes_verbs_and_options, the_shell_completes_names_of_machines, the_manual_page_has_everything, other_kinds_are_refused]

if __name__ == "__main__":
    sys.exit(cases.main(CASES))
