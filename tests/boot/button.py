#!/usr/bin/env python3
"""The owner of a machine presses its power button, and Debian's stock kernel hears of it, also after a pause.

    button.py STRATA ENGINE SECONDS

The driver of ACPI's fixed button binds; what has been pressed is counted by the kernel (ff_pwr_btn). Skips (77) where the
kernel cannot be had or the host cannot run the engine.
"""
import os
import subprocess
import sys
import tempfile

import guest

SCRIPT = b"""
for module in /modules/*.ko; do
	insmod "$module" || exit 2
done
count=/sys/firmware/acpi/interrupts/ff_pwr_btn
echo "the guest waits: $(cat $count)"
until [ "$(awk '{ print $1 }' $count)" -ge 1 ]; do
	sleep 0.1
done
echo "the button was pressed"
"""


def main():
    strata, engine, seconds = sys.argv[1:4]
    kernel = guest.kernel("cloud")
    initrd = guest.initramfs("button", {"button.sh": SCRIPT} | guest.modules(kernel, ["button"]))
    problems = []
    with tempfile.TemporaryDirectory() as state:
        env = os.environ | {"XDG_STATE_HOME": state}
        command = [strata, "run", "--name", "guest", "--engine", engine, "--kernel", kernel, "--initrd", initrd, "--memory", "256M",
                   "--no-reboot", "--append", "console=ttyS0 panic=-1 strata.run=sh%20/button.sh"]
        with guest.Guest(command, float(seconds), env) as machine:
            try:
                if " EN" not in machine.wait_for("^the guest waits: (.*)\n")[1]:
                    problems.append("no driver has enabled the button")
                for verb in ("pause", "resume", "stop"):
                    subprocess.run([strata, verb, "guest"], check=True, env=env, timeout=float(seconds))
                machine.wait_for("^the button was pressed")
                problems += machine.end_well()
            except guest.Failed as e:
                problems.append(str(e))
            machine.report(problems, f"cloud under {engine}")
    sys.exit(1 if problems else 0)


main()
