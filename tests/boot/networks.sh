#!/bin/sh
# What the guests of networks.py run.
# networks.sh talk ADDRESS PEER PORT SUM: fetches what the peer serves, and sends it back
# networks.sh serve ADDRESS: serves /content, to one machine after the other
# networks.sh fetch ADDRESS PEER SUM: pings the peer, fetches
# networks.sh stay ADDRESS PEER: pings until somebody ends it
what=$1
address=$2
peer=$3

fail() {
	echo "WRONG: $*"
	ip address
	ip route
	exit 2
}

for module in /modules/*.ko; do
	insmod "$module" || fail "cannot load $module"
done
ip link set lo up
ip link set eth0 up
case $address in
*:*) ip -6 address add "$address" dev eth0 ;;
*) ip address add "$address" dev eth0 ;;
esac

# The other machine may not be there yet.
until_pings() {
	tries=0
	until ping -c 1 -W 1 "$peer" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ $tries -lt 60 ] || fail "no answer from $peer"
	done
}

fetched() {
	nc "$peer" "$1" </dev/null | md5sum | cut -d ' ' -f 1
}

case $what in
talk)
	until_pings
	[ "$(fetched "$4")" = "$5" ] || fail "data from $peer"
	# Not by nc itself, which writes a KiB at a time: whether two of them share a frame is a matter of time.
	nc "$peer" "$4" -e cat /content || fail "cannot send to $peer"
	;;
serve)
	echo "the guest serves"
	while :; do
		nc -l -p 7000 -e cat /content 2>/dev/null || usleep 100000
	done
	;;
fetch)
	until_pings
	echo "the peer answers"
	# Between two connections nobody listens.
	tries=0
	until [ "$(fetched 7000 2>/dev/null)" = "$4" ]; do
		tries=$((tries + 1))
		[ $tries -lt 10 ] || fail "data from $peer"
		usleep 200000
	done
	;;
stay)
	until_pings
	echo "the guest stays"
	ping "$peer" >/dev/null
	;;
esac
echo "all is well"
