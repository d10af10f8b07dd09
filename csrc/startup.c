/* The monitor's start; startup.h says what it promises. */
#define _GNU_SOURCE
#include "startup.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"
#include "protocol.h"

enum { EXIT_USAGE = 2, EXIT_STARTUP = 3, FIRST_FD = 3, FILES_MAX = 1000 };

static const struct key {
	const char *name;
	size_t offset;
	bool descriptor;
} keys[] = {
	{ "pid", offsetof(struct options, pid), false },
	{ "stdout", offsetof(struct options, out), true },
	{ "stderr", offsetof(struct options, err), true },
	{ "tty", offsetof(struct options, tty), true },
	{ "stdin", offsetof(struct options, in), true },
	{ "control", offsetof(struct options, control), true },
	{ "log-dir", offsetof(struct options, logdir), true },
	{ "log-max-size", offsetof(struct options, maxsize), false },
	{ "log-max-files", offsetof(struct options, files), false },
	{ "exit-dir", offsetof(struct options, exitdir), true },
	{ "kill", offsetof(struct options, kill), true },
	{ "events", offsetof(struct options, events), true },
	{ "ready", offsetof(struct options, ready), true },
};
enum { KEYS = sizeof(keys) / sizeof(*keys) };

static long *value_of(struct options *options, const struct key *key)
{
	return (long *)((char *)options + key->offset);
}

void fail_start(const struct options *options, int error, const char *stage)
{
	struct record record = make_record(error, stage);

	if (options->ready && write(options->ready, &record, sizeof(record)) < 0)
		_exit(EXIT_STARTUP);
	_exit(EXIT_STARTUP);
}

void report_ready(const struct options *options)
{
	struct record record = make_record(0, "ready");

	if (options->ready && write(options->ready, &record, sizeof(record)) < 0)
		return; /* whoever waited has gone; the container has not */
	if (options->ready)
		close(options->ready);
}

/* Decimal digits only; strtol would bring half of stdio into the program. */
static bool parse_number(const char *text, long minimum, long *value)
{
	*value = 0;
	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || *value > (LONG_MAX - 9) / 10)
			return false;
		*value = *value * 10 + *text - '0';
	}
	return *value >= minimum;
}

static bool is_key(const char *argument, const char *key)
{
	size_t length = strlen(key);

	return strncmp(argument, key, length) == 0 && argument[length] == '=';
}

static bool parse_one(const char *argument, struct options *options)
{
	if (is_key(argument, "log-name"))
		options->log = argument + strlen("log-name=");
	else if (is_key(argument, "exit-name"))
		options->exit = argument + strlen("exit-name=");
	else {
		for (int i = 0; i < KEYS; i++)
			if (is_key(argument, keys[i].name))
				return parse_number(argument + strlen(keys[i].name) + 1,
						    keys[i].descriptor ? FIRST_FD : 0,
						    value_of(options, &keys[i]));
		return false;
	}
	return true;
}

static bool usable_name(const char *name)
{
	return name && *name && strlen(name) <= NAME_SIZE && !strchr(name, '/');
}

static bool parse(int argc, char **argv, struct options *options)
{
	*options = (struct options){ .maxsize = 10 << 20, .files = 5 };
	for (int i = 1; i < argc; i++)
		if (!parse_one(argv[i], options))
			return false;
	if (options->tty && (options->out || options->err || options->in))
		return false;
	return options->pid > 0 && options->files <= FILES_MAX && options->control && options->logdir &&
	       options->exitdir && usable_name(options->log) && usable_name(options->exit);
}

static bool is_mine(struct options *options, int fd)
{
	for (int i = 0; i < KEYS; i++)
		if (keys[i].descriptor && *value_of(options, &keys[i]) == fd)
			return true;
	return false;
}

static bool close_all_others(struct options *options)
{
	int last = FIRST_FD - 1;

	for (int i = 0; i < KEYS; i++)
		if (keys[i].descriptor && *value_of(options, &keys[i]) > last)
			last = *value_of(options, &keys[i]);
	for (int fd = FIRST_FD; fd < last; fd++)
		if (!is_mine(options, fd))
			close(fd);
	return syscall(SYS_close_range, last + 1U, ~0U, 0U) == 0;
}

static bool replace_stdio(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return false;
	for (int fd = 0; fd < FIRST_FD; fd++)
		if (dup2(null, fd) < 0)
			return false;
	return null < FIRST_FD || close(null) == 0;
}

/* The flag is of the open file, not of the number: nobody else may count on these being blocking. */
static bool set_nonblocking(const struct options *options)
{
	const long fds[] = { options->out, options->err, options->tty, options->in, options->control };

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] && fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) | O_NONBLOCK) < 0)
			return false;
	return true;
}

int start(int argc, char **argv, struct options *options)
{
	sigset_t all, awaited;
	int signals;

	memset(&all, 0xff, sizeof(all));
	/* Directly: the C library leaves out the signals that it keeps for itself. */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8);
	if (!parse(argc, argv, options))
		_exit(EXIT_USAGE);
	signal(SIGCHLD, SIG_DFL); /* ignored, it would take the exit status away */
	if (chdir("/") < 0)
		fail_start(options, errno, "chdir");
	if (setsid() < 0 && getsid(0) != getpid())
		fail_start(options, errno, "setsid");
	if (!replace_stdio())
		fail_start(options, errno, "/dev/null");
	if (!close_all_others(options))
		fail_start(options, errno, "close_range");
	if (!set_nonblocking(options))
		fail_start(options, errno, "descriptors");
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		fail_start(options, errno, "subreaper");
	prctl(PR_SET_NAME, "pyrun-monitor", 0, 0, 0);
	sigemptyset(&awaited);
	sigaddset(&awaited, SIGCHLD);
	sigaddset(&awaited, SIGALRM);
	signals = signalfd(-1, &awaited, SFD_NONBLOCK | SFD_CLOEXEC);
	if (signals < 0)
		fail_start(options, errno, "signalfd");
	return signals;
}
