# Run in the guest by patch.py: the kernel patches its own code while the other processors work.
#   patch.sh SECONDS
# ftrace on and off, static keys flipped, kprobes set and removed, modules loaded and unloaded; the work checks itself.

seconds=$1
trace=/sys/kernel/tracing
mount -t tracefs tracefs $trace || exit 2
head -c 200000 /dev/urandom >/tmp/data
want=$(sha256sum </tmp/data)

sum() {
	i=0 sum=0
	while [ $i -lt 2000 ]; do
		i=$((i + 1))
		sum=$((sum + i))
	done
	[ $sum = 2001000 ]
}

# Pipes, system calls, forks and plain computing.
work() {
	rounds=0
	while [ ! -e /tmp/stop ]; do
		[ "$(cat /tmp/data | gzip -1 | gunzip | sha256sum)" = "$want" ] || echo "WRONG: digest of worker $1"
		sum || echo "WRONG: sum of worker $1"
		rounds=$((rounds + 1))
	done
	echo "worker $1: $rounds rounds"
}

put() { # VALUE FILE: a file that this kernel has must take the value
	[ -e "$2" ] || return 0
	echo "$1" >"$2" || echo "WRONG: $2 does not take $1"
}

tracer() { # NAME FUNCTIONS
	put "$2" $trace/set_ftrace_filter
	put "$1" $trace/current_tracer
	usleep 20000
	put nop $trace/current_tracer
	put "" $trace/set_ftrace_filter
	count=$((count + 2))
}

# A static key is behind each of these; those that are on by default are turned off and on.
keys() {
	for key in kernel/sched_schedstats kernel/task_delayacct kernel/bpf_stats_enabled; do
		put 1 /proc/sys/$key
		put 0 /proc/sys/$key
	done
	put 0 /proc/sys/vm/numa_stat
	put 1 /proc/sys/vm/numa_stat
	put 4096 /proc/sys/net/core/rps_sock_flow_entries
	put 0 /proc/sys/net/core/rps_sock_flow_entries
	count=$((count + 10))
}

events() { # each a static key and calls that are patched
	for group in sched syscalls irq timer kmem; do
		put 1 $trace/events/$group/enable
	done
	usleep 10000
	for group in sched syscalls irq timer kmem; do
		put 0 $trace/events/$group/enable
	done
	count=$((count + 10))
	entries=$(cat $trace/per_cpu/cpu*/stats | awk '/^entries/ { sum += $2 } END { print sum }')
	[ "$entries" -lt 50 ] || traced=$((traced + 1))
	echo >$trace/trace
}

all_events() {
	put 1 $trace/events/enable
	usleep 10000
	put 0 $trace/events/enable
	count=$((count + 2))
}

probes() {
	put "p:strata/in vfs_read" $trace/kprobe_events
	echo "r:strata/out vfs_write \$retval" >>$trace/kprobe_events
	echo "p:strata/offset do_sys_openat2+4" >>$trace/kprobe_events 2>/dev/null # not where an instruction begins: refused
	put 1 $trace/events/strata/enable
	usleep 20000
	put 0 $trace/events/strata/enable
	put "" $trace/kprobe_events
	count=$((count + 6))
}

modules() {
	for module in /modules/*.ko; do
		insmod "$module" || echo "WRONG: cannot load $module"
	done
	for module in /modules/*.ko; do
		name=${module##*/}
		rmmod "${name%.ko}" || echo "WRONG: cannot unload $module"
		loaded=$((loaded + 1))
	done
}

worker=1
while [ $worker -lt "$(nproc)" ]; do
	work $worker &
	worker=$((worker + 1))
done

count=0 loaded=0 turns=0 traced=0
end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt $end ]; do
	echo "turn $turns after $(($(date +%s) - end + seconds)) s"
	put 1 $trace/tracing_on
	tracer function 'vfs_*'
	tracer function_graph '*lock*'
	keys
	events
	probes
	modules
	if [ $((turns % 4)) -eq 0 ]; then # tens of thousands of places, in seconds
		tracer function ''
		tracer function_graph ''
		# Thousands of keys one by one, and each waits until every processor has answered three times: where the
		# host has fewer than the guest, that lasts.
		[ "$(nproc)" -gt 2 ] || all_events
	fi
	turns=$((turns + 1))
done
: >/tmp/stop
wait
dmesg | grep -E 'BUG|Oops|WARNING|soft lockup|hard LOCKUP|Call Trace|detected stall|general protection|invalid opcode' | sed 's/^/WRONG: /'
echo "turns $turns, patched $count times, modules $loaded, seen in the trace $traced"
