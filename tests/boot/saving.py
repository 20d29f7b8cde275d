#!/usr/bin/env python3
"""A real Debian becomes a file and goes on from it, again and again, while it works.

    saving.py STRATA ROUNDS SECONDS

In the guest two things go on all the time: files are summed up (sha256sum) and compared with what they were, and a TCP connection
within the guest carries numbers that must come in order. Each round saves and restores; every fifth time the reference engine takes
over and is saved, too. Afterwards both must have gone on without a fault, and the guest's time of day must be
as far from the host's as at first, to 50 ms: a PC's clock is read to the second when a system begins. An
ssh session is new each time: what goes through the user network ends in libslirp, with the process that was saved.

A long test: it builds the image from Debian's packages. STRATA_TEST_HOME names a home that has one. Skips (77) where it cannot.
"""
import os
import select
import statistics
import subprocess
import sys
import tempfile
import time

import guest
from home import Home, build

DRIFT = 0.05  # seconds
SUMS = r"""
head -c 60000000 /dev/urandom >/dev/shm/data
cat /usr/bin/perl /dev/shm/data >/var/tmp/data
want=$(sha256sum </dev/shm/data) disk=$(sha256sum </var/tmp/data) n=0
while :; do
	[ "$(sha256sum </dev/shm/data)" = "$want" ] || echo memory >>/run/faults
	[ "$(sha256sum </var/tmp/data)" = "$disk" ] || echo disk >>/run/faults
	echo $((n += 1)) >/run/sums
done
"""
# Numbers go to the other end and come back, over a connection that is never opened again.
TALK = r"""
use Socket;
socket(L, PF_INET, SOCK_STREAM, 0); bind(L, sockaddr_in(7777, INADDR_LOOPBACK)) or die; listen(L, 1);
if (!fork) { accept(C, L); $| = 1; while (sysread(C, $_, 8)) { syswrite(C, $_) } exit }
socket(S, PF_INET, SOCK_STREAM, 0); connect(S, sockaddr_in(7777, INADDR_LOOPBACK)) or die;
for ($n = 1;; $n++) {
	syswrite(S, pack("Q", $n)); $got = sysread(S, $_, 8);
	if ($got != 8 || unpack("Q", $_) != $n) { open(F, ">>/run/faults"); print F "connection at $n\n"; exit }
	if ($n % 100 == 0) { open(F, ">/run/talk"); print F "$n\n"; close F }
	select(undef, undef, undef, 0.005);
}
"""


def begin(home, seconds):
    home("run", "debian:12", "--name", "web", "--detach", "--engine", "translate")
    at = ("exec", "web", "--timeout", seconds, "--")
    for name, text in (("sums.sh", SUMS), ("talk.pl", TALK)):
        subprocess.run([home.strata, *at, "sh", "-c", f"cat >/run/{name}"], env=home.env, input=text, text=True, check=True)
    home(*at, "sh", "-c", "for job in 'sh /run/sums.sh' 'perl /run/talk.pl'; do setsid nohup $job >/dev/null 2>&1 </dev/null & done")
    deadline = time.monotonic() + float(seconds)
    while home(*at, "sh", "-c", "cat /run/sums /run/talk 2>/dev/null | wc -l").strip() != "2":
        if time.monotonic() > deadline:
            raise guest.Failed("the load does not begin")


def counts(home):
    """How far both have come."""
    text = home("exec", "web", "--", "sh", "-c", "cat /run/sums /run/talk; cat /run/faults 2>/dev/null || true").split()
    if len(text) != 2:
        raise guest.Failed(f"in the guest: {text[2:]}")
    return [int(n) for n in text]


def offset(home):
    """How far the guest's time of day is from ours, and how sure that is: by the quickest of some answers of one session."""
    command = [home.strata, "exec", "web", "--", "bash", "-c", "while read; do echo $EPOCHREALTIME; done"]
    best = (0, float("inf"))
    with subprocess.Popen(command, env=home.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        for _ in range(20):
            before = time.time()
            p.stdin.write(b"\n")
            p.stdin.flush()
            if not select.select([p.stdout], [], [], 30)[0]:
                raise guest.Failed("no answer")
            said = float(p.stdout.readline())
            after = time.time()
            if after - before < best[1] * 2:
                best = (said - (before + after) / 2, (after - before) / 2)
        p.stdin.close()
    return best


def use(home, folder, rounds, seconds):
    problems, saves, restores, offsets = [], [], [], []
    begin(home, seconds)
    first = offset(home)
    offsets.append(first)
    before = counts(home)
    file = f"{folder}/web.state"
    for n in range(rounds):
        for engine in ("interpret", "translate") if n % 5 == 4 else ("translate",):
            began = time.monotonic()
            home("save", "web", file, "--force")
            saved = time.monotonic()
            home("restore", file, "--engine", engine)
            saves.append(saved - began)
            restores.append(time.monotonic() - saved)
        now = counts(home)
        if not all(a > b for a, b in zip(now, before)):
            problems.append(f"round {n}: {before} and then {now}: nothing goes on")
        before = now
        offsets.append(offset(home))
        away, unsure = offsets[-1]
        if abs(away - first[0]) - unsure - first[1] > DRIFT:
            problems.append(f"round {n}: the guest's clock is {away * 1000:.1f} ms off, and was {first[0] * 1000:.1f} ms, "
                            f"give or take {(unsure + first[1]) * 1000:.1f} ms")
        if problems:
            break
    said = home("exec", "web", "--", "journalctl", "-k", "-q", "-p", "3", "-o", "cat")
    problems += guest.forbidden(said + home("logs", "web"))
    problems += [f"state: {home('exec', 'web', '--', 'systemctl', 'is-system-running')}"] if \
        home("exec", "web", "--", "sh", "-c", "systemctl is-system-running || true").strip() != "running" else []
    print(f"{len(saves)} times: save {statistics.median(saves):.2f} s (at most {max(saves):.2f}), "
          f"restore {statistics.median(restores):.2f} s (at most {max(restores):.2f}); sums {before[0]}, numbers {before[1]}; "
          f"clock at first {first[0] * 1000:+.1f} ms, at last {offsets[-1][0] * 1000:+.1f} ms (give or take {offsets[-1][1] * 1000:.1f})")
    return problems


def main():
    strata, rounds, seconds = sys.argv[1:4]
    if not guest.LONG:
        guest.skip("a long test: STRATA_TEST_LONG=1 runs it")
    problems = ["it did not come to its end"]
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        home = Home(strata, os.environ.get("STRATA_TEST_HOME", folder))
        try:
            if "STRATA_TEST_HOME" not in os.environ:
                build(home)
            problems = use(home, folder, int(rounds), seconds)
        except guest.Failed as e:
            problems = [str(e)]
        finally:
            if problems:
                print(subprocess.run([strata, "logs", "web"], env=home.env, capture_output=True, text=True).stdout[-3000:])
            subprocess.run([strata, "rm", "--force", "web"], env=home.env, capture_output=True)
    print(*problems, sep="\n")
    sys.exit(1 if problems else 0)


main()
