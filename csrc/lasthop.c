/*
 * lasthop GATE_FD FLAGS PATH ARG0 [ARG...]: the last program before the container's own.
 *
 * The container's first process has joined its namespaces, built its root and dropped its rights; it
 * executes this from a sealed memfd, so that what waits for `start` costs kilobytes and nothing of pyrun
 * can be reached through /proc/PID/exe. GATE_FD is a listening SOCK_SEQPACKET socket, bound where only the
 * host sees it. The starter connects and reads: end of file means that the program runs, a struct record
 * that it could not be executed; "connection refused" means that it was started before. Once the connection
 * is accepted the program starts, even if the starter dies.
 *
 * FLAGS is a sum of: 1, die (SIGKILL) with the parent; 2, no gate: GATE_FD is the connection already.
 * With flag 1 a parent that died before prctl goes unnoticed if it lived in another PID namespace: there
 * getppid() is 0 before and after. The runtime sees it before it starts anything, and kills by cgroup.
 *
 * The arguments and the environment are passed on untouched. All signals are expected to be blocked.
 *
 * Exit codes: 127 PATH (or its interpreter) does not exist; 126 it cannot be executed; 125 anything else.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "protocol.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

enum { EXIT_FAILED = 125, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };
enum { DIE_WITH_PARENT = 1, NO_GATE = 2 };

extern char **environ;

static void close_all_on_exec(void)
{
	long limit = sysconf(_SC_OPEN_MAX);

	if (syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
		return;
	for (int fd = 3; fd < (limit > 65536 ? limit : 65536); fd++) /* before Linux 5.11 */
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* Returns the one connection, or -1; a second starter is refused. */
static int pass_gate(int gate)
{
	int connection;

	do
		connection = accept4(gate, NULL, NULL, SOCK_CLOEXEC);
	while (connection < 0 && errno == EINTR);
	shutdown(gate, SHUT_RDWR); /* someone may hold a duplicate */
	close(gate);
	return connection;
}

/* Directly, because the C library refuses the signals that it keeps for itself. */
static void reset_signals(void)
{
	const unsigned long default_action[4] = { 0 };
	const uint64_t none = 0;

	for (int number = 1; number <= 64; number++)
		syscall(SYS_rt_sigaction, number, default_action, NULL, 8); /* fails for SIGKILL, SIGSTOP */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
}

/* Tells the starter why; a starter that has died is no reason to fail. */
static int report_failure(int connection, int error, const char *path)
{
	const char *stage = "exec";
	struct record record;

	if (error == ENOENT && access(path, F_OK) == 0)
		stage = "interpreter";
	record = make_record(error, stage);
	send(connection, &record, sizeof(record), MSG_NOSIGNAL);
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

int main(int argc, char **argv)
{
	int connection, flags;

	if (argc < 5)
		return EXIT_FAILED;
	connection = atoi(argv[1]);
	flags = atoi(argv[2]);
	close_all_on_exec();
	prctl(PR_SET_NAME, "lasthop", 0, 0, 0); /* after exec from a memfd the name is a number */
	if ((flags & DIE_WITH_PARENT) && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0)
		return EXIT_FAILED;
	if (!(flags & NO_GATE))
		connection = pass_gate(connection);
	if (connection < 0)
		return EXIT_FAILED;
	reset_signals();
	execve(argv[3], argv + 4, environ);
	return report_failure(connection, errno, argv[3]);
}
