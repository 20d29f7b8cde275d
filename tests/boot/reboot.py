#!/usr/bin/env python3
"""A guest whose processors are all busy reboots, again and again; then the monitor is asked to end.

    reboot.py STRATA FLAVOUR ENGINE CPUS SECONDS

Skips (77) where the kernel cannot be had or the host cannot run the engine.
"""
import signal
import sys
import time

import guest

TIMES = 50 if guest.LONG else 4
SCRIPT = b"""for cpu in $(seq $(nproc)); do
	while :; do :; done &
done
echo up with $(nproc)
usleep 50000
reboot -f
"""


def main():
    strata, flavour, engine, cpus, seconds = sys.argv[1:6]
    kernel = guest.kernel(flavour)
    initrd = guest.initramfs(f"reboot-{flavour}-{engine}-{cpus}", {"reboot.sh": SCRIPT})
    command = [strata, "run", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "256M", "--cpus", cpus,
               "--append", "console=ttyS0 quiet panic=-1 strata.run=sh%20/reboot.sh"]
    problems = []
    with guest.Guest(command, float(seconds) * TIMES) as machine:
        try:
            for _ in range(TIMES):
                machine.wait_for(rf"^up with {cpus}$")
            machine.machine.send_signal(signal.SIGTERM)
            asked = time.monotonic()
            status = machine.end()
            if status != 128 + signal.SIGTERM or time.monotonic() - asked > 2:
                problems.append(f"exit status {status}, {time.monotonic() - asked:.1f} s after SIGTERM")
        except guest.Failed as e:
            if machine.cannot():
                guest.skip(machine.text.strip())
            problems.append(str(e))
        machine.report(problems, f"{TIMES} boots of {flavour} under {engine}, {cpus} cpus")
    sys.exit(1 if problems else 0)


main()
