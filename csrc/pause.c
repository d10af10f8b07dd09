/*
 * pause: the infrastructure process of a Pod. It keeps the Pod's namespaces alive; as PID 1 of a shared
 * PID namespace it also reaps what is orphaned there. SIGINT and SIGTERM end it with 0.
 *
 * It is executed with every signal blocked already, perhaps from a memfd, in an empty read-only root
 * without /proc. It opens, allocates and prints nothing; once it waits, nothing but a signal ends it.
 *
 * Signals are set up by the kernel's own calls: the C library leaves out those that it keeps for itself, and
 * would make this program a page larger.
 *
 * Exit codes: 0 ended by SIGINT or SIGTERM, or --version; 2 wrong arguments; 3 signals cannot be blocked;
 * 4 no root to change to; 5 inherited descriptors cannot be closed (close_range: Linux 5.9).
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef VERSION
#error "VERSION is given by the build"
#endif

enum { EXIT_ENDED = 0, EXIT_USAGE = 2, EXIT_SIGNALS = 3, EXIT_ROOT = 4, EXIT_DESCRIPTORS = 5 };

/* Signals of one kind that arrive together are merged into one: each may stand for many dead children. */
static void reap_until_empty(void)
{
	while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
		;
}

static int print_version(void)
{
	static const char text[] = "pause " VERSION "\n";

	return write(STDOUT_FILENO, text, sizeof(text) - 1) == sizeof(text) - 1 ? EXIT_ENDED : EXIT_USAGE;
}

int main(int argc, char **argv)
{
	static const unsigned long default_action[4];
	sigset_t all;

	/* First of all: PID 1 is not killed by a signal it neither blocks nor handles, it loses it. */
	memset(&all, 0xff, sizeof(all));
	if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8) < 0)
		return EXIT_SIGNALS;
	if (argc == 2 && strcmp(argv[1], "--version") == 0)
		return print_version();
	if (argc > 1)
		return EXIT_USAGE;

	/* An ignored SIGCHLD, inherited through exec, would never be delivered. */
	if (syscall(SYS_rt_sigaction, SIGCHLD, default_action, NULL, 8) < 0)
		return EXIT_SIGNALS;
	if (chdir("/") < 0)
		return EXIT_ROOT;
	if (syscall(SYS_close_range, 0U, ~0U, 0U) < 0)
		return EXIT_DESCRIPTORS;
	prctl(PR_SET_NAME, "pause", 0, 0, 0); /* after exec from a memfd the name is a number */

	for (;;) {
		reap_until_empty();
		switch (sigwaitinfo(&all, NULL)) {
		case SIGINT:
		case SIGTERM:
			return EXIT_ENDED;
		default: /* SIGCHLD, EINTR (stopped and continued), and all that is ignored */
			break;
		}
	}
}
