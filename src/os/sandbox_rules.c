/*
 * The system calls of a running monitor, each with its reason. Whatever has no row ends the process
 * by SIGSYS with a message that names the call.
 *
 * A row is for what runs after sandbox_enter(): in a guest's life, at its reset, and on the way
 * out. What only happens before (opening, mapping code, starting threads, KVM's set-up) has none.
 */
#include "base/bits.h"
#include "os/sandbox.h"
#include "os/sandbox_priv.h"
#include <asm/prctl.h>
#include <asm/termbits.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#define ALLOW		    SANDBOX_ALLOW
#define ALLOW_IF	    SANDBOX_ALLOW_IF
#define IOCTL(request, why) ALLOW_IF(ioctl, MATCH_EQUAL, 1, (u32)(request), why)
#define NEEDED(call, for_, why)                                \
	{                                                      \
		.nr = SYS_##call, .needs = for_, .reason = why \
	}
#define NEEDED_IF(call, how, n, v, for_, why)                                                      \
	{                                                                                          \
		.nr = SYS_##call, .match = how, .arg = n, .value = v, .reason = why, .needs = for_ \
	}
#define INTERNET SANDBOX_INTERNET
#define DISPLAY	 SANDBOX_DISPLAY
#define SOCKETS	 (SANDBOX_INTERNET | SANDBOX_SOCKETS | SANDBOX_DISPLAY)
#define CONTROL	 SANDBOX_CONTROL
#define STREAMS	 (SOCKETS | CONTROL)
#define REFUSE(call, why)                                       \
	{                                                       \
		.nr = SYS_##call, .refuse = true, .reason = why \
	}

const struct sandbox_rule sandbox_rules[] = {
	/* descriptors: those that are open, and no others */
	ALLOW(read, "console input; events and timers that are descriptors"),
	ALLOW(write, "console output, messages, traces; setting events"),
	ALLOW(readv, "the same, as some C libraries do it"),
	ALLOW(writev, "the same, as some C libraries do it; the C library's last words"),
	ALLOW(preadv, "disk images; kernels, at a reset"),
	ALLOW(pwritev, "disk images; a saved state"),
	ALLOW(fdatasync, "a guest flushes its disk; a saved state is whole"),
	ALLOW(fallocate, "holes in disk images"),
	ALLOW(io_uring_enter, "disk images: a ring that does these four only"),
	ALLOW(close, "taking a machine apart"),
	ALLOW(lseek, "stdio, closing a trace; which of the guest's memory there is, to save it"),
	ALLOW(fstat, "stdio, the first write to a trace; how much memory the guest has; what a "
		     "disk looks "
		     "like when it is saved"),
	ALLOW(fstatfs, "a disk image that is attached: is it in memory?"),
	ALLOW(poll, "the sentinel; a console descriptor that does not block"),
	ALLOW(epoll_wait, "the event loop"),
	ALLOW(epoll_pwait, "the event loop, as some C libraries do it"),
	ALLOW(epoll_ctl, "the event loop's sources leave it"),
	ALLOW(timerfd_settime, "guest timers"),
	IOCTL(TCGETS, "stdio asks whether a stream is a terminal"),
	IOCTL(TCGETS2, "the same, by newer C libraries"),
	IOCTL(TCSETS, "the terminal back to what it was, also in a crash; raw again after a stop"),
	IOCTL(TCSETS2, "the same, by newer C libraries"),

	/* memory: never executable */
	ALLOW_IF(mmap, MATCH_CLEAR, 2, PROT_EXEC, "malloc"),
	ALLOW_IF(mprotect, MATCH_CLEAR, 2, PROT_EXEC, "malloc; the interpreter's guard pages"),
	ALLOW(munmap, "malloc; taking a machine apart"),
	ALLOW(mremap, "realloc: moves memory with the rights it has"),
	ALLOW(brk, "malloc"),
	ALLOW(madvise, "a reset or a balloon gives guest memory back; stacks of threads that end"),

	/* sockets of the Internet's kinds, by libslirp */
	NEEDED_IF(socket, MATCH_EQUAL, 0, AF_INET, INTERNET, "what the guest connects to"),
	NEEDED_IF(socket, MATCH_EQUAL, 0, AF_INET6, INTERNET, "what the guest connects to"),
	NEEDED(connect, INTERNET, "what the guest connects to"),
	NEEDED(bind, INTERNET, "datagrams that are answered to a port of their own"),
	NEEDED(accept, INTERNET, "a forward's connection"),
	NEEDED(getsockname, INTERNET, "the port that the kernel has given"),
	NEEDED(getpeername, INTERNET | DISPLAY, "whether a connection is there"),
	NEEDED(fcntl, INTERNET | DISPLAY, "sockets that do not block"),
	NEEDED(getsockopt, INTERNET | DISPLAY | CONTROL,
		"why a connection is not there; who is at its other end"),
	NEEDED_IF(ioctl, MATCH_EQUAL, 1, FIONREAD, INTERNET, "how long a datagram is"),
	NEEDED_IF(ioctl, MATCH_EQUAL, 1, FIONBIO, INTERNET, "sockets that do not block"),

	NEEDED(select, DISPLAY, "viewers that are read from, or slow"),
	NEEDED(pselect6, DISPLAY, "the same, as some C libraries do it"),

	/* sockets that are there: a segment's, a vsock's; a tap */
	NEEDED(accept4, STREAMS,
		"another machine joins the segment; a vsock's connection; the owner's"),
	NEEDED(setsockopt, STREAMS, "no delay; how much another machine may be behind"),
	NEEDED(sendto, STREAMS, "data"),
	NEEDED(recvfrom, STREAMS, "data"),
	NEEDED(recvmsg, STREAMS,
		"data, and errors about it; a descriptor of the connector's, or the owner's"),
	NEEDED(shutdown, SOCKETS, "the guest has nothing more to say"),
	NEEDED_IF(ioctl, MATCH_EQUAL, 1, (u32)TUNSETOFFLOAD, STREAMS,
		"what a tap may leave to the guest"),

	NEEDED_IF(ioctl, MATCH_EQUAL, 1, (u32)BLKGETSIZE64, CONTROL,
		"how large a disk is that the owner attaches"),
	NEEDED(ftruncate, CONTROL, "the console's log begins again; how the machine ended"),

	/* randomness */
	ALLOW(getrandom, "the guest's entropy device; a hash seed of malloc's"),

	/* threads: those that exist */
	ALLOW(futex, "locks, conditions, vcpus that sleep"),
	ALLOW(sched_yield, "short waits for another thread"),
	ALLOW(membarrier, "code that another thread may be running is unlinked"),
	ALLOW_IF(arch_prctl, MATCH_EQUAL, 0, ARCH_SET_GS,
		"the translator's GS, host CPUs without WRGSBASE"),
	ALLOW(set_robust_list, "a thread that was started just now has not got further yet"),
	ALLOW(rseq, "the same"),
	ALLOW(gettid, "raise"),
	ALLOW(getpid, "raise, abort"),
	ALLOW_IF(tgkill, MATCH_SELF, 0, 0, "kicks of vcpus, threads interrupted at the end, raise"),
	ALLOW(exit, "a thread ends"),
	ALLOW(exit_group, "the process ends"),

	/* signals */
	ALLOW(rt_sigaction, "crash handlers pass a signal on; interrupting threads at the end"),
	ALLOW(rt_sigprocmask, "the terminal's restoration; raise, abort"),
	ALLOW(rt_sigtimedwait, "the sentinel, which waits for those that ask the process to end"),
	ALLOW(rt_sigreturn, "every handler's end"),
	ALLOW(sigaltstack, "handlers of a thread whose stack pointer is the guest's"),
	ALLOW(restart_syscall, "the kernel's: a sleep goes on after the process was stopped"),

	/* time: mostly answered without the kernel, not on every host */
	ALLOW(clock_gettime, "clocks"),
	ALLOW(gettimeofday, "clocks, as some C libraries do it"),
	ALLOW(time, "clocks, as some C libraries do it"),
	ALLOW(nanosleep, "the sentinel's grace, as some C libraries do it"),
	ALLOW(clock_nanosleep, "the sentinel's grace"),

	/* KVM: running a vcpu that exists, moving its state, interrupts */
	IOCTL(KVM_RUN, "guest code"),
	IOCTL(KVM_INTERRUPT, "an external interrupt"),
	IOCTL(KVM_NMI, "an NMI"),
	IOCTL(KVM_GET_REGS, "state"),
	IOCTL(KVM_SET_REGS, "state"),
	IOCTL(KVM_GET_SREGS, "state"),
	IOCTL(KVM_SET_SREGS, "state"),
	IOCTL(KVM_GET_MSRS, "state"),
	IOCTL(KVM_SET_MSRS, "state"),
	IOCTL(KVM_GET_XSAVE, "state"),
	IOCTL(KVM_SET_XSAVE, "state"),
	IOCTL(KVM_GET_XCRS, "state"),
	IOCTL(KVM_SET_XCRS, "state"),
	IOCTL(KVM_GET_DEBUGREGS, "state"),
	IOCTL(KVM_SET_DEBUGREGS, "state"),
	IOCTL(KVM_GET_VCPU_EVENTS, "state"),
	IOCTL(KVM_SET_VCPU_EVENTS, "state"),
	IOCTL(KVM_GET_LAPIC, "state, where local APICs are KVM's"),
	IOCTL(KVM_SET_LAPIC, "state: a reset"),
	IOCTL(KVM_GET_MP_STATE, "state: what a processor waits for"),
	IOCTL(KVM_SET_MP_STATE, "state: a reset"),
	IOCTL(KVM_IOEVENTFD, "the guest gives a device with doorbells another place"),
	IOCTL(KVM_SIGNAL_MSI, "an interrupt message, where local APICs are KVM's"),
	IOCTL(KVM_SET_GSI_ROUTING, "the guest makes an I/O APIC's pin level-triggered"),
	IOCTL(KVM_GET_DEVICE_ATTR, "state: the TSC's offset"),
	IOCTL(KVM_SET_DEVICE_ATTR, "state: the TSC's offset"),

	/* asked by libraries that go on without an answer */
	REFUSE(openat, "the number of processors, for malloc's arenas; message catalogues"),
	REFUSE(newfstatat, "stdio's buffer size: it has a default"),
	REFUSE(sysinfo, "the size of memory, asked by sorting and compression"),
	REFUSE(sched_getaffinity, "the number of processors, for malloc's arenas"),
	REFUSE(prctl, "names of memory and threads"),
};
const unsigned sandbox_rule_count = ARRAY_LEN(sandbox_rules);
