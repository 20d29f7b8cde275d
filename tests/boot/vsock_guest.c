/*
 * Virtio sockets from the guest's side, a static program for an initramfs that has nothing to speak
 * them with.
 *
 *   vsock-guest echo PORT     takes one connection, reads to its end, sends all of it back
 *   vsock-guest send PORT     connects to the host, sends its input, prints what comes back
 *   vsock-guest refused PORT  0 if the host does not take the connection
 */
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX (8u << 20)

static char data[MAX];

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static size_t read_all(int fd)
{
	size_t len = 0;
	ssize_t n;

	while (len < MAX && (n = read(fd, data + len, MAX - len)) > 0)
		len += (size_t)n;
	return len;
}

static void write_all(int fd, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(fd, data + done, len - done);

		if (n <= 0)
			die("write");
		done += (size_t)n;
	}
}

static int echo(int s, struct sockaddr_vm *at)
{
	at->svm_cid = VMADDR_CID_ANY;
	if (bind(s, (struct sockaddr *)at, sizeof(*at)) || listen(s, 1))
		die("listen");
	puts("the guest listens");
	fflush(stdout);
	int peer = accept(s, NULL, NULL);

	if (peer < 0)
		die("accept");
	write_all(peer, read_all(peer));
	close(peer);
	return 0;
}

static int send_input(int s, struct sockaddr_vm *at)
{
	if (connect(s, (struct sockaddr *)at, sizeof(*at)))
		die("connect");
	write_all(s, read_all(STDIN_FILENO));
	shutdown(s, SHUT_WR);
	write_all(STDOUT_FILENO, read_all(s));
	return 0;
}

int main(int argc, char **argv)
{
	struct sockaddr_vm at = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST };
	int s = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (argc != 3 || s < 0)
		die("vsock-guest");
	at.svm_port = (unsigned)atoi(argv[2]);
	if (!strcmp(argv[1], "echo"))
		return echo(s, &at);
	if (!strcmp(argv[1], "send"))
		return send_input(s, &at);
	return connect(s, (struct sockaddr *)&at, sizeof(at)) == 0;
}
