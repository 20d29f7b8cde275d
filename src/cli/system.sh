# Makes the files of a system, and a file system that holds them. Part of strata (src/cli/system.h), which runs it with sh -c:
#
#   WORK BYTES debian SUITE MIRROR PACKAGES    install Debian's packages; MIRROR may be empty, and PACKAGES, commas between them
#   WORK BYTES tar FILE                        unpack an archive
#   WORK BYTES directory FOLDER                take the files as they are
#   WORK BYTES oci LAYOUT TAG                  unpack an OCI image; WORK/.oci-run is what it runs
#
# It leaves WORK/disk.raw, a disk whose first partition is to be the file system, and WORK/kernel and WORK/initrd if the system has
# a kernel. It is root, if only in a user name space, and has a PID and a mount name space of its own where those may be had: so
# nothing that it has begun or mounted outlives it. Lines that begin with @ say what it does.
set -eu
umask 022
export LC_ALL=C.UTF-8 PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
work=$1 bytes=$2 kind=$3
shift 3
tree=$work/tree
start=1048576 # of the partition

# What a machine has that was just made: its host name, its users' keys and its own come from a disk labelled cidata
# (NoCloud, https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html). Of user-data, the subset
# that src/cli/seed.h describes.
seed_reader() {
	mkdir -p "$tree/usr/local/lib/strata" "$tree/etc/systemd/system" "$tree/var/lib/strata/seed"
	cat >"$tree/usr/local/lib/strata/seed" <<'END'
#!/bin/sh
# Takes this machine's name, users and keys from its NoCloud seed, once for each instance-id. Programs are what takes time in a
# machine that boots: the shell does what it can itself.
set -eu
done=/var/lib/strata/instance-id
at=/var/lib/strata/seed

own_keys() {
	[ -e /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -A
}

name_host() {
	umask 022
	echo "$1" >/etc/hostname
	echo "$1" >/proc/sys/kernel/hostname
	printf '127.0.0.1\tlocalhost\n127.0.1.1\t%s\n::1\tlocalhost ip6-localhost ip6-loopback\n' "$1" >/etc/hosts
}

add_user() {
	id "$1" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash "$1"
	if [ "$1" != root ]; then
		echo "$1 ALL=(ALL) NOPASSWD:ALL" >"/etc/sudoers.d/90-$1"
		chmod 440 "/etc/sudoers.d/90-$1"
	fi
}

add_key() {
	home=/root
	[ "$1" = root ] || home=$(getent passwd "$1" | cut -d : -f 6)
	umask 077
	[ -d "$home/.ssh" ] || mkdir "$home/.ssh"
	echo "$2" >>"$home/.ssh/authorized_keys"
	[ "$1" = root ] || chown -R "$1:" "$home/.ssh"
}

take() {
	section= user= file=
	while IFS= read -r line; do
		case $line in
		"hostname: "*) name_host "${line#hostname: }" ;;
		"users:" | "ssh_keys:") section=${line%:} file= ;;
		"  - name: "*)
			user=${line#  - name: }
			[ "$section" != users ] || add_user "$user"
			;;
		"      - ssh-"*) [ "$section" != users ] || add_key "$user" "${line#      - }" ;;
		"  ed25519_private: |")
			file=/etc/ssh/ssh_host_ed25519_key
			[ ! -e "$file" ] || rm -f /etc/ssh/ssh_host_*
			umask 077
			;;
		"    "*) [ "$section" != ssh_keys ] || [ -z "$file" ] || echo "${line#    }" >>"$file" ;;
		"  ed25519_public: "*)
			umask 022
			echo "${line#  ed25519_public: }" >/etc/ssh/ssh_host_ed25519_key.pub
			;;
		[!\ ]*) section= ;;
		esac
	done
}

disk=$(blkid -L cidata || blkid -L CIDATA) || {
	own_keys
	exit 0
}
mount -o ro "$disk" "$at"
id=
while IFS= read -r line; do
	case $line in "instance-id: "*) id=${line#instance-id: } ;; esac
done <"$at/meta-data"
had=
[ ! -e "$done" ] || read -r had <"$done"
if [ "$id" != "$had" ]; then
	take <"$at/user-data"
	own_keys
	echo "$id" >"$done"
fi
umount "$at"
END
	chmod 755 "$tree/usr/local/lib/strata/seed"
	cat >"$tree/etc/systemd/system/strata-seed.service" <<'END'
[Unit]
Description=Name, users and keys from the NoCloud seed
DefaultDependencies=no
RequiresMountsFor=/var /etc
After=systemd-remount-fs.service
Wants=network-pre.target
Before=network-pre.target ssh.service getty.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/lib/strata/seed

[Install]
WantedBy=multi-user.target
END
}

# What makes packages a machine: accounts, network, console, and nothing that every machine would have in common but should not.
configure() {
	echo "@ configuring the system"
	echo debian >"$tree/etc/hostname"
	printf '127.0.0.1\tlocalhost\n127.0.1.1\tdebian\n::1\tlocalhost ip6-localhost ip6-loopback\n' >"$tree/etc/hosts"
	echo LANG=C.UTF-8 >"$tree/etc/default/locale"
	echo "PARTUUID=41525453-01 / ext4 errors=remount-ro 0 1" >"$tree/etc/fstab"
	printf '[Match]\nType=ether\n\n[Network]\nDHCP=yes\n\n[DHCPv4]\nUseHostname=no\n' >"$tree/etc/systemd/network/80-ethernet.network"
	# Who has the console has the machine. sshd lets nobody in without a key all the same.
	chroot "$tree" passwd --quiet --delete root
	seed_reader
	mkdir -p "$tree/root/.ssh"
	chmod 700 "$tree/root/.ssh"
	# A program that is run as root from outside is no log-in: a session, and a manager of root's own services for it, take longer than most programs.
	sed -i 's/^session.*pam_systemd\.so.*/session [success=1 default=ignore] pam_succeed_if.so quiet service = sshd uid = 0\n&/' "$tree/etc/pam.d/common-session"
	# Names can be looked up when the network is there; what comes before does not wait for that.
	sed 's/^Before=sysinit.target /Before=/' "$tree/lib/systemd/system/systemd-resolved.service" >"$tree/etc/systemd/system/systemd-resolved.service"
	# A getty on a screen, where there is one.
	mkdir -p "$tree/etc/systemd/system/getty@tty1.service.d"
	printf '[Unit]\nConditionPathExistsGlob=/dev/fb*\n' >"$tree/etc/systemd/system/getty@tty1.service.d/screen.conf"
	chroot "$tree" systemctl --quiet enable strata-seed.service systemd-networkd.service systemd-resolved.service ssh.service
	# Nothing waits for all links; a machine that was just made has no business of its own with the network or old snapshots.
	chroot "$tree" systemctl --quiet disable systemd-networkd-wait-online.service e2scrub_reap.service
	chroot "$tree" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer dpkg-db-backup.timer \
		systemd-random-seed.service systemd-pstore.service # a virtio device gives entropy; there is no such store
	printf 'blacklist intel_rapl_common\nblacklist intel_rapl_msr\n' >"$tree/etc/modprobe.d/no-such-sensors.conf"
	# The kernel that boots is the image's: another one's modules would not fit it.
	chroot "$tree" apt-mark -qq hold linux-image-cloud-amd64 >/dev/null
	ln -sf ../run/systemd/resolve/stub-resolv.conf "$tree/etc/resolv.conf"
	rm -f "$tree"/etc/ssh/ssh_host_* "$tree"/etc/apt/apt.conf.d/99mmdebstrap "$tree"/etc/dpkg/dpkg.cfg.d/99mmdebstrap
	rm -f "$tree"/var/cache/apt/*.bin "$tree"/var/lib/dbus/machine-id "$tree"/var/lib/systemd/random-seed
	: >"$tree/etc/machine-id"
	# Units that would bring up to date what was just installed look at these.
	touch "$tree/etc/.updated" "$tree/var/.updated"
}

debian() {
	echo "@ reading package lists"
	mkdir "$work/tmp"
	# The kernel's package would make an initramfs, which the kernel does not need to boot from the disk it is given.
	TMPDIR=$work/tmp INITRD=No mmdebstrap --verbose --mode=root --format=directory --variant=minbase --include="$3" \
		--essential-hook='mkdir -p "$1/etc/initramfs-tools" && echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"' \
		--dpkgopt=force-confold --aptopt='Acquire::Retries "2"' --aptopt='Acquire::http::Timeout "30"' \
		"$1" "$tree" ${2:+"$2"} 2>&1
	configure
}

# The newest kernel, and the initramfs that was made for it. No link is followed.
take_kernel() {
	kernel=$(find "$1" -maxdepth 2 -path "$1/boot/vmlinuz-*" -type f | sort -V | tail -n 1)
	[ -n "$kernel" ] || return 0
	cat "$kernel" >"$work/kernel"
	initrd=$(find "$1" -maxdepth 2 -path "$1/boot/initrd.img-${kernel##*/vmlinuz-}" -type f)
	[ -z "$initrd" ] || cat "$initrd" >"$work/initrd"
}

make_disk() {
	echo "@ making the file system"
	take_kernel "$1"
	truncate -s "$bytes" "$work/disk.raw"
	# Tables are zero in a file that is new; nothing is left for the guest to do in the background.
	mke2fs -q -F -t ext4 -b 4096 -L root -d "$1" -E "offset=$start,lazy_itable_init=0,lazy_journal_init=1,root_owner=0:0" \
		"$work/disk.raw" "$(((bytes - start) / 1024))k" 2>&1
}

# The first process of an image that has none: what it runs is made for a container, whose host has done all this.
add_init() {
	# Whatever is there, it is no link that leads elsewhere.
	[ -e "$tree/bin/sh" ] || [ -L "$tree/bin/sh" ] || {
		echo "the image has neither /sbin/init nor /bin/sh, of which its first process would be made"
		exit 1
	}
	rm -rf "$tree/.strata"
	mkdir "$tree/.strata"
	cp "$work/.oci-run" "$tree/.strata/run"
	cat >"$tree/.strata/init" <<'END'
#!/bin/sh
# The first process: a container's program finds what it expects, then the machine is powered off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc 2>/dev/null
mount -t sysfs sysfs /sys 2>/dev/null
[ -c /dev/console ] || mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts 2>/dev/null
mount -t tmpfs tmpfs /dev/shm 2>/dev/null
mount -t tmpfs tmpfs /run 2>/dev/null
read -r words </proc/cmdline
for word in $words; do
	case $word in strata.name=*) echo "${word#strata.name=}" >/proc/sys/kernel/hostname ;; esac
done
# User mode's network, by the programs that are there.
modprobe virtio_net 2>/dev/null
if command -v ip >/dev/null; then
	ip link set lo up
	for device in /sys/class/net/*; do
		device=${device##*/}
		[ "$device" != lo ] || continue
		ip address add 10.0.2.15/24 dev "$device" && ip link set "$device" up && ip route add default via 10.0.2.2 &&
			echo nameserver 10.0.2.3 >/etc/resolv.conf
	done
fi
/.strata/run </dev/console >/dev/console 2>&1
echo "what the image runs has ended: exit status $?" >/dev/console
sync
mount -o remount,ro / 2>/dev/null
echo 1 >/proc/sys/kernel/sysrq
echo o >/proc/sysrq-trigger
while :; do sleep 1; done
END
	chmod 755 "$tree/.strata/init" "$tree/.strata/run"
	: >"$work/.oci-init"
}

# A system that has run has an id, which each of its clones would have: an empty file has a new one made by its next boot
# (machine-id(5)). In the file system, since a folder's files are somebody's own.
forget_id() {
	at="$work/disk.raw?offset=$start"
	: >"$work/.empty"
	case $(debugfs -R "stat /etc/machine-id" "$at" 2>/dev/null) in
	*"Type: regular"*)
		printf 'rm /etc/machine-id\ncd /etc\nwrite %s machine-id\n' "$work/.empty" | debugfs -w -f - "$at" >/dev/null 2>&1
		;;
	esac
	rm "$work/.empty"
}

case $kind in
debian)
	debian "$@"
	make_disk "$tree"
	;;
tar)
	echo "@ unpacking"
	mkdir "$tree"
	owner=--same-owner
	[ -n "${STRATA_ALL_IDS-}" ] || owner=--no-same-owner
	tar -xpf "$1" -C "$tree" --numeric-owner $owner --exclude='./dev/*' --exclude='dev/*' 2>&1
	make_disk "$tree"
	forget_id
	;;
directory)
	make_disk "$1"
	forget_id
	;;
oci)
	echo "@ unpacking"
	rootless=--rootless
	[ -z "${STRATA_ALL_IDS-}" ] || rootless=
	umoci unpack $rootless --image "$1:$2" "$work/bundle" 2>&1
	tree=$work/bundle/rootfs
	[ -e "$tree/sbin/init" ] || [ -L "$tree/sbin/init" ] || add_init
	make_disk "$tree"
	forget_id
	;;
esac
rm -rf "$tree" "$work/tmp" "$work/bundle" "$work/.oci-layout" "$work/.oci-run"
