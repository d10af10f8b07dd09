/*
 * monitor KEY=VALUE...: the parent of one container. It writes the log, serves attached clients, holds the
 * terminal, and leaves the exit record; it ends when its container has ended. README.md lists the arguments,
 * protocol.h the messages.
 *
 * One poll loop, static buffers, no allocation. It runs in the host's time namespace: what it reads of the
 * monotonic clock others there compare with their own; delays are alarms.
 *
 * Exit codes: 0 the container has ended and its record is written; 2 wrong arguments; 3 the start failed,
 * the ready descriptor tells why; 4 the exit record could not be written.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "monitor.h"

enum { EXIT_ENDED = 0, EXIT_RECORD = 4, STATUS_UNKNOWN = 255 };
struct monitor m;

static void close_stream(struct stream *s)
{
	log_lines(&s->lines, true);
	if (s->fd == m.tty)
		m.in = m.tty = 0;
	close(s->fd);
	s->fd = 0;
}

/* A terminal whose other side is closed by all says EIO, a pipe 0. */
static void read_stream(struct stream *s)
{
	ssize_t n;

	lines_make_room(&s->lines);
	n = read(s->fd, s->lines.data + s->lines.end, sizeof(s->lines.data) - s->lines.end);
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !m.expired)
		return;
	if (n <= 0 || s->after_expiry > DRAIN_BYTES) {
		close_stream(s);
		return;
	}
	if (m.expired)
		s->after_expiry += n;
	s->fresh = s->lines.end;
	s->lines.end += n;
	log_lines(&s->lines, false);
	for (int i = 0; i < CLIENTS; i++)
		if (m.clients[i].streams & s->bit)
			s->waiting |= 1U << i;
	give_stream(s);
}

static void container_ended(int status)
{
	m.ended = true;
	m.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	m.code = m.signal ? 128 + m.signal : WEXITSTATUS(status);
	stamp(m.finished);
	m.finished_ns = monotonic_ns();
	if (m.o.kill && write(m.o.kill, "1", 1) < 0)
		m.o.kill = 0; /* the leaf has gone already, and nothing is in it */
	alarm(DRAIN_SECONDS);
}

static void reap_until_empty(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
		if (pid == m.o.pid)
			container_ended(status);
	if (pid < 0 && errno == ECHILD && !m.ended)
		container_ended(STATUS_UNKNOWN << 8); /* reaped by an ignored SIGCHLD, before this started */
}

/* First alarm: whatever still holds the streams is not waited for. Then: nor are clients that take nothing. */
static void expire(void)
{
	if (!m.expired) {
		m.expired = true;
		alarm(CLIENT_SECONDS);
		return;
	}
	for (int i = 0; i < CLIENTS; i++)
		m.clients[i].deaf = true;
}

static void read_signals(void)
{
	struct signalfd_siginfo info;

	while (read(m.signals, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo == SIGALRM && m.ended)
			expire();
	reap_until_empty();
}

static bool write_record(void)
{
	char temporary[NAME_SIZE + 8], text[224], *at = text;
	int fd;
	bool written;

	at = put_text(at, "{\"exit_code\":");
	at = put_number(at, m.code, 1);
	at = put_text(at, ",\"signal\":");
	at = put_number(at, m.signal, 1);
	at = put_text(at, ",\"finished_at\":\"");
	at = put_text(at, m.finished);
	at = put_text(at, "\",\"finished_ns\":");
	at = put_number(at, m.finished_ns, 1);
	at = put_text(at, ",\"lost_bytes\":");
	at = put_number(at, log_lost_bytes(), 1);
	at = put_text(at, "}\n");
	put_text(put_text(temporary, m.o.exit), ".tmp");
	fd = openat(m.o.exitdir, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	written = write(fd, text, at - text) == at - text;
	close(fd);
	return written && renameat(m.o.exitdir, temporary, m.o.exitdir, m.o.exit) == 0;
}

/* Nothing is left of a leaf that has gone, or whose events were not given. */
static bool leaf_is_empty(void)
{
	static const char populated[] = "populated 1";
	char text[sizeof(populated)] = "";

	if (m.o.events && pread(m.o.events, text, sizeof(text) - 1, 0) < 0)
		return true;
	return strcmp(text, populated) != 0;
}

/* True when all is done: streams at their end, the leaf empty, record written, every client told. */
static bool finished(void)
{
	bool drained = !m.streams[0].fd && !m.streams[1].fd, all_told = true;

	if (!m.ended || !((drained && leaf_is_empty()) || m.expired))
		return false;
	if (drained && !m.expired)
		expire();
	if (!m.recorded) {
		m.recorded = true;
		m.record_lost = !write_record();
	}
	for (int i = 0; drained && i < CLIENTS; i++)
		all_told &= tell_exit(&m.clients[i]);
	return drained && all_told;
}

/* Streams stand before clients: poll looks at them in this order, so what a client sent before the container
 * wrote is seen no later than what the container wrote. */
enum { P_STREAMS, P_STDIN = 2, P_SIGNALS, P_CONTROL, P_LEAF, P_CLIENTS, P_COUNT = P_CLIENTS + CLIENTS };

static int wait_for_events(struct pollfd *fds)
{
	bool read_now = false, pending = false, leaf_waits;

	for (int i = 0; i < CLIENTS; i++) {
		const struct client *c = &m.clients[i];
		uint32_t waiting = (m.streams[0].waiting | m.streams[1].waiting) & 1U << i;
		short events = (listens_to(c) ? POLLIN : 0) | (waiting || c->answer.type ? POLLOUT : 0);

		pending = pending || c->written < c->length;
		fds[P_CLIENTS + i] = (struct pollfd){ c->fd && events ? c->fd : -1, events, 0 };
	}
	for (int i = 0; i < 2; i++) {
		const struct stream *s = &m.streams[i];
		bool wanted = s->fd && !s->waiting;

		fds[P_STREAMS + i] = (struct pollfd){ wanted ? s->fd : -1, POLLIN, 0 };
		read_now = read_now || (wanted && m.expired);
	}
	fds[P_STDIN] = (struct pollfd){ pending && m.in ? m.in : -1, POLLOUT, 0 };
	fds[P_SIGNALS] = (struct pollfd){ m.signals, POLLIN, 0 };
	fds[P_CONTROL] = (struct pollfd){ m.o.control, POLLIN, 0 };
	leaf_waits = m.ended && !m.recorded && m.o.events && !m.streams[0].fd && !m.streams[1].fd;
	fds[P_LEAF] = (struct pollfd){ leaf_waits ? m.o.events : -1, POLLPRI, 0 };
	return poll(fds, P_COUNT, read_now ? 0 : -1);
}

static void run(void)
{
	struct pollfd fds[P_COUNT];

	reap_until_empty();
	while (!finished()) {
		if (wait_for_events(fds) < 0)
			continue;
		if (fds[P_SIGNALS].revents)
			read_signals();
		if (fds[P_CONTROL].revents)
			accept_clients();
		for (int i = 0; i < CLIENTS; i++)
			if (fds[P_CLIENTS + i].revents || fds[P_STDIN].revents)
				serve(&m.clients[i]);
		for (int i = 0; i < 2; i++) {
			struct stream *s = &m.streams[i];

			if (s->waiting)
				give_stream(s);
			else if (s->fd && (fds[P_STREAMS + i].revents || m.expired))
				read_stream(s);
		}
	}
	for (int i = 0; i < CLIENTS; i++)
		if (m.clients[i].fd)
			drop(&m.clients[i]);
}

static void set_up_streams(void)
{
	const char *names[] = { "stdout", "stderr" };
	int fds[] = { m.o.tty ? m.o.tty : m.o.out, m.o.err };

	for (int i = 0; i < 2; i++) {
		m.streams[i].fd = fds[i];
		m.streams[i].bit = i == 0 ? STDOUT : STDERR;
		m.streams[i].lines.stream = names[i];
	}
	m.tty = m.o.tty;
	m.in = m.o.tty ? m.o.tty : m.o.in;
}

int main(int argc, char **argv)
{
	int error;

	m.signals = start(argc, argv, &m.o);
	error = log_open(m.o.logdir, m.o.log, m.o.maxsize, m.o.files);
	if (error)
		fail_start(&m.o, error, "log");
	set_up_streams();
	report_ready(&m.o);
	run();
	return m.record_lost ? EXIT_RECORD : EXIT_ENDED;
}
