#!/usr/bin/env python3
"""A new user's first minutes: strata run debian:12, in a home of its own; ssh and exec into it, packages' sources, power off, again.

    image.py STRATA ENGINE SECONDS

A long test: it builds the image from Debian's packages. Skips (77) where it cannot.
"""
import os
import socket
import subprocess
import sys
import tempfile
import time

import guest
from home import Home, build

IDENTITY = ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub", "/etc/hostname")


def check(what, got, wanted):
    return [] if got == wanted else [f"{what}: {got!r}, not {wanted!r}"]


def resolves(name):
    """Whether the host can."""
    try:
        return bool(socket.getaddrinfo(name, 80))
    except OSError:
        return False


# Strata in the guest, with this host's files: systemd makes its control group, and removes it.
LIMITS = """
mkdir /host /dev/shm/own && modprobe virtiofs && mount -t virtiofs host /host || exit 3
cp $(chroot /host ldd STRATA | sed -n 's,.* => \\(/[^ ]*\\).*,/host\\1,p') /dev/shm/own || exit 4
printf '\\353\\376' >/dev/shm/spin && truncate -s 510 /dev/shm/spin && printf '\\125\\252' >>/dev/shm/spin
strata() { LD_LIBRARY_PATH=/dev/shm/own XDG_STATE_HOME=/dev/shm/state /hostSTRATA "$@"; }
at() { echo /sys/fs/cgroup/system.slice/strata-inner-*.scope; }
strata run --name inner --detach --engine interpret --memory 16M --kernel /dev/shm/spin --limits memory=128M,cpu=0.5,weight=50,pids=64 || exit 5
cd $(at) && cat memory.max cpu.max cpu.weight pids.max
strata set inner limits cpu=2 && cat memory.max cpu.max cpu.weight pids.max
cd / && strata kill inner
while [ -e "$(at)" ]; do sleep 0.1; done
"""
LIMITED = f"inner\n{128 << 20}\n50000 100000\n50\n64\nmax\n200000 100000\n100\nmax\n"


def use(home, engine, seconds):
    """What is wrong with the machine, from its making to its second end."""
    started = time.monotonic()
    home("run", "debian:12", "--name", "web", "--detach", "--user", "ada", "--engine", engine, "--share", "/:host,readonly")
    at = ["exec", "web", "--user", "root", "--timeout", seconds, "--"]
    problems = check("host name", home(*at, "hostname"), "web\n")
    print(f"ssh answers after {time.monotonic() - started:.1f} s")
    # Streams, words and status as they are.
    data = os.urandom(300000)
    done = subprocess.run([home.strata, *at, "cat"], env=home.env, input=data, capture_output=True)
    problems += check("300000 bytes there and back", (done.returncode, done.stdout == data, done.stderr), (0, True, b""))
    done = subprocess.run([home.strata, *at, "sh", "-c", 'printf "%s|" "$@"; echo no >&2; exit 42', "sh", "a  b", "'", "$HOME", ""],
                          env=home.env, stdin=subprocess.DEVNULL, capture_output=True)
    problems += check("words and status", (done.returncode, done.stdout, done.stderr), (42, b"a  b|'|$HOME||", b"no\n"))
    # Root's programs are no sessions; a user's are.
    problems += check("root's sessions", home(*at, "loginctl", "--no-legend", "list-sessions"), "")
    problems += check("a user's session", home("ssh", "web", "--", "test -n \"$XDG_SESSION_ID\" && systemctl --user is-active default.target"), "active\n")
    problems += check("a shell's words", home("ssh", "web", "--", "echo", "$USER;", "sudo", "whoami"), "ada\nroot\n")
    problems += check("the system's state", home(*at, "systemctl", "is-system-running", "--wait", status=0).strip(), "running")
    problems += check("errors", home(*at, "journalctl", "-b", "-p", "3", "-o", "cat", "--no-pager", "-t", "systemd", "-t", "sshd"), "")
    if resolves("deb.debian.org"):
        problems += check("a name", home(*at, "sh", "-c", "resolvectl query --legend=no deb.debian.org >/dev/null && echo found"), "found\n")
    problems += check("limits", home(*at, "sh", "-c", LIMITS.replace("STRATA", os.path.realpath(home.strata))), LIMITED)
    home(*at, "sh", "-c", "echo kept >~/kept; sync")
    before = home(*at, "cat", *IDENTITY)
    home("stop", "web")
    problems += check("the first end", [home.state("web")[key] for key in ("state", "exit_status")], ["stopped", 0])
    problems += guest.forbidden(home("logs", "web"))
    home("start", "web")
    problems += check("the second time", home(*at, "sh", "-c", f"cat ~/kept {' '.join(IDENTITY)}"), "kept\n" + before)
    # Another machine is another one.
    home("run", "debian:12", "--name", "mail", "--detach", "--engine", engine)
    other = home("exec", "mail", "--timeout", seconds, "--", "cat", *IDENTITY)
    problems += check("two machines", bool(set(before.split()) & set(other.split()) - {"ssh-ed25519"}), False)
    problems += check("their images", home("exec", "mail", "--", "sh", "-c", "ls ~"), "")
    return problems


def main():
    strata, engine, seconds = sys.argv[1:4]
    if not guest.LONG:
        guest.skip("a long test: STRATA_TEST_LONG=1 runs it")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        home = Home(strata, folder)
        problems = ["it did not come to its end"]
        try:
            build(home)
            problems = use(home, engine, seconds)
        except guest.Failed as e:
            problems = [str(e)]
        finally:
            for name in ("web", "mail"):
                if problems:
                    print(subprocess.run([strata, "logs", name], env=home.env, capture_output=True, text=True).stdout[-3000:])
                subprocess.run([strata, "rm", "--force", name], env=home.env, capture_output=True)
    print(*problems, sep="\n")
    sys.exit(1 if problems else 0)


main()
