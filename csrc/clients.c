/* The monitor's clients; protocol.h says what they ask and are told. */
#define _GNU_SOURCE
#include <sys/ioctl.h>
#include <unistd.h>

#include "monitor.h"

/* Sends one message; false when the client has no room for it now. One that has left takes all. */
static bool give(struct client *c, struct header header, const char *data, size_t length)
{
	struct iovec iov[2] = { { &header, sizeof(header) }, { (char *)data, length } };
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = data ? 2 : 1 };

	if (!c->deaf && sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EAGAIN || errno == ENOBUFS || errno == EINTR)
			return false;
		c->deaf = true;
		c->streams = 0;
	}
	if (m.expired)
		alarm(CLIENT_SECONDS);
	return true;
}

static void give_answer(struct client *c)
{
	if (c->answer.type && give(c, c->answer, NULL, 0))
		c->answer.type = 0;
}

static void answer(struct client *c, uint32_t request, int error)
{
	c->answer = (struct header){ error ? ERROR : DONE, error, request };
	give_answer(c);
}

void give_stream(struct stream *s)
{
	struct header header = { STREAM, s->bit, 0 };

	for (int i = 0; i < CLIENTS; i++) {
		struct client *c = &m.clients[i];

		if ((s->waiting & 1U << i) && !c->answer.type &&
		    give(c, header, s->lines.data + s->fresh, s->lines.end - s->fresh))
			s->waiting &= ~(1U << i);
	}
}

/* What a client had sent and nobody read would make its last messages from here an ECONNRESET. */
static void hang_up(int fd)
{
	char rest[sizeof(struct header)];

	shutdown(fd, SHUT_RD);
	while (recv(fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
		;
	close(fd);
}

void drop(struct client *c)
{
	hang_up(c->fd);
	c->fd = 0;
	for (int i = 0; i < 2; i++)
		m.streams[i].waiting &= ~(1U << (c - m.clients));
}

static void close_stdin(void)
{
	if (m.in && m.in != m.tty)
		close(m.in);
	m.in = 0;
}

/* Writes what the client sent; what the container has no room for is kept, and the client waits. */
static void write_stdin(struct client *c)
{
	ssize_t n = 0;

	while (m.in && c->written < c->length) {
		n = write(m.in, c->message.data + c->written, c->length - c->written);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n < 0)
			close_stdin();
		else
			c->written += n;
	}
	if (c->written < c->length && !c->told_stdin) {
		c->told_stdin = true;
		answer(c, STDIN, EPIPE);
	}
	c->written = c->length = 0;
}

static int resize(uint32_t rows, uint32_t columns)
{
	struct winsize size = { .ws_row = rows, .ws_col = columns };

	if (!m.tty)
		return ENOTTY;
	return ioctl(m.tty, TIOCSWINSZ, &size) < 0 ? errno : 0;
}

static void obey(struct client *c, size_t size)
{
	const struct header *request = &c->message.header;

	if (size < sizeof(*request) || size > sizeof(c->message)) {
		answer(c, size < sizeof(*request) ? 0 : request->type, EMSGSIZE);
		return;
	}
	switch (request->type) {
	case ATTACH:
		c->streams = request->a & (STDOUT | STDERR);
		answer(c, ATTACH, 0);
		break;
	case RESIZE:
		answer(c, RESIZE, resize(request->a, request->b));
		break;
	case STDIN:
		c->length = size - sizeof(*request);
		write_stdin(c);
		break;
	case CLOSE_STDIN:
		if (!m.tty)
			close_stdin();
		answer(c, CLOSE_STDIN, m.tty ? ENOTTY : 0);
		break;
	case REOPEN_LOG:
		answer(c, REOPEN_LOG, log_reopen());
		break;
	default:
		answer(c, request->type, EINVAL);
	}
}

bool listens_to(const struct client *c)
{
	return c->fd && !c->answer.type && c->written == c->length;
}

static void receive(struct client *c)
{
	ssize_t n = recv(c->fd, &c->message, sizeof(c->message), MSG_DONTWAIT | MSG_TRUNC);

	if (n > 0)
		obey(c, n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		drop(c);
}

/*
 * A client that attaches and then starts the container must see its first byte: requests are read as soon
 * as it is accepted, before any stream.
 */
void accept_clients(void)
{
	int fd, i;

	while ((fd = accept4(m.o.control, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct header refusal = { ERROR, EUSERS, ATTACH };

		for (i = 0; i < CLIENTS && m.clients[i].fd; i++)
			;
		if (i == CLIENTS) {
			send(fd, &refusal, sizeof(refusal), MSG_NOSIGNAL);
			hang_up(fd);
			continue;
		}
		memset(&m.clients[i], 0, offsetof(struct client, message));
		m.clients[i].fd = fd;
		receive(&m.clients[i]);
	}
}

void serve(struct client *c)
{
	give_answer(c);
	if (c->written < c->length)
		write_stdin(c);
	if (listens_to(c))
		receive(c);
}

bool tell_exit(struct client *c)
{
	if (!c->fd || c->deaf)
		return true;
	if (!c->answer.type && !c->told_exit) {
		c->told_exit = true;
		c->answer = (struct header){ EXITED, m.code, m.signal };
		give_answer(c);
	}
	return c->told_exit && !c->answer.type;
}
