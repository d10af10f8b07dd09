/* How the monitor becomes a process of its own: what it is told, and what it leaves behind. */
#ifndef PYRUN_STARTUP_H
#define PYRUN_STARTUP_H

/* The arguments, KEY=VALUE each; README.md explains them. Numbers that are absent are 0: no descriptor. */
struct options {
	long pid, out, err, tty, in, control, logdir, maxsize, files, exitdir, kill, events, ready;
	const char *log, *exit;
};

/* Blocks all signals, reads the arguments, leaves the caller's session, directory, stdio and descriptors.
 * Returns a signalfd of SIGCHLD and SIGALRM; does not return on failure. */
int start(int argc, char **argv, struct options *options);

/* Sends a record with this error and stage to the ready descriptor, if there is one, and exits with 3. */
_Noreturn void fail_start(const struct options *options, int error, const char *stage);

/* Sends the record "ready", and closes the ready descriptor. */
void report_ready(const struct options *options);

#endif
