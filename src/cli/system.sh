# Makes the files of a system, and a file system that holds them. Part of strata (src/cli/system.h), which runs it with sh -c:
#
#   WORK BYTES debian SUITE MIRROR PACKAGES    install Debian's packages; MIRROR may be empty, and PACKAGES, commas between them
#   WORK BYTES tar FILE                        unpack an archive
#   WORK BYTES directory FOLDER                take the files as they are
#   WORK BYTES oci LAYOUT TAG                  unpack an OCI image; WORK/.oci-run is what it runs, WORK/.oci-init the first process
#
# It leaves WORK/disk.raw, a disk whose first partition is to be the file system, and WORK/kernel, WORK/initrd and WORK/modules (an
# archive of /lib/modules/VERSION) if the system has a kernel. If WORK/modules is there already, the system is to boot by another one's
# kernel, and gets these. It is root, if only in a user name space, and has a PID and a mount name space of its own where those may be had: so
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

# The newest kernel, the initramfs that was made for it, and its modules. No link is followed, but that of lib to usr/lib.
take_kernel() {
	kernel=$(find "$1" -maxdepth 2 -path "$1/boot/vmlinuz-*" -type f | sort -V | tail -n 1)
	[ -n "$kernel" ] || return 0
	version=${kernel##*/vmlinuz-}
	cat "$kernel" >"$work/kernel"
	initrd=$(find "$1" -maxdepth 2 -path "$1/boot/initrd.img-$version" -type f)
	[ -z "$initrd" ] || cat "$initrd" >"$work/initrd"
	for lib in lib usr/lib; do
		[ -d "$1/$lib/modules/$version" ] && [ ! -L "$1/$lib" ] && [ ! -L "$1/usr" ] || continue
		[ ! -L "$1/$lib/modules" ] && [ ! -L "$1/$lib/modules/$version" ] || continue
		tar -czf "$work/modules" -C "$1/$lib/modules" "$version"
		break
	done
}

make_disk() {
	echo "@ making the file system"
	[ -e "$work/modules" ] || take_kernel "$1"
	truncate -s "$bytes" "$work/disk.raw"
	# Tables are zero in a file that is new; nothing is left for the guest to do in the background.
	mke2fs -q -F -t ext4 -b 4096 -L root -d "$1" -E "offset=$start,lazy_itable_init=0,lazy_journal_init=1,root_owner=0:0" \
		"$work/disk.raw" "$(((bytes - start) / 1024))k" 2>&1
}

# Into the file system, since a folder's files are somebody's own, and links of a tree may lead anywhere: here they lead to the new
# system's. debugfs follows those that something comes behind, if only a dot. It goes on after what fails: a folder may be there.
add_modules() {
	echo "@ adding the kernel's modules"
	modules=/lib/./modules
	mkdir "$work/tmp"
	tar -xzf "$work/modules" -C "$work/tmp" --no-same-owner 2>&1
	cd "$work/tmp"
	# No module is called what debugfs could take for something else.
	{
		printf 'mkdir /lib\nmkdir %s\n' "$modules"
		find . -mindepth 1 -type d ! -path '*[!A-Za-z0-9._+/-]*' -printf "mkdir $modules/%P\n" | sort
		find . -mindepth 2 -type f ! -path '*[!A-Za-z0-9._+/-]*' -printf "cd $modules/%h\nwrite %p %f\n"
	} >"$work/.commands"
	debugfs -w -f "$work/.commands" "$work/disk.raw?offset=$start" >"$work/.said" 2>&1
	if grep -qi 'could not allocate' "$work/.said"; then
		echo "the kernel's modules do not fit on the disk: a larger --size has room for them"
		exit 1
	fi
	case $(debugfs -R "stat $modules" "$work/disk.raw?offset=$start" 2>/dev/null) in
	*"Type: directory"*) ;;
	*)
		echo "the system's /lib is no folder that the kernel's modules could be in"
		exit 1
		;;
	esac
	cd /
	rm -rf "$work/tmp" "$work/.commands" "$work/.said"
}

# The first process of what was made for a container: src/guest/start.c. An image without an init of its own runs what it says.
add_init() {
	rm -rf "$tree/.strata"
	mkdir "$tree/.strata"
	cp "$work/.oci-init" "$tree/.strata/init"
	chmod 755 "$tree/.strata/init"
	[ ! -e "$tree/sbin/init" ] && [ ! -L "$tree/sbin/init" ] || return 0
	# Whatever is there, it is no link that leads elsewhere.
	[ -e "$tree/bin/sh" ] || [ -L "$tree/bin/sh" ] || {
		echo "the image has neither /sbin/init nor /bin/sh, which starts what it runs"
		exit 1
	}
	cp "$work/.oci-run" "$tree/.strata/run"
	chmod 755 "$tree/.strata/run"
	: >"$work/.oci-runs"
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

borrowed=
[ ! -e "$work/modules" ] || borrowed=1
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
	add_init
	make_disk "$tree"
	forget_id
	;;
esac
[ -z "$borrowed" ] || add_modules
rm -rf "$tree" "$work/tmp" "$work/bundle" "$work/.oci-layout" "$work/.oci-run" "$work/.oci-init"
