/*
 * The monitor's state, shared by its loop (monitor.c) and its clients (clients.c).
 *
 * A file descriptor of 0 means "none" (0, 1 and 2 are /dev/null): what is zero and stays unused is never
 * touched and costs no memory.
 */
#ifndef PYRUN_MONITOR_H
#define PYRUN_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"
#include "protocol.h"
#include "startup.h"

enum { CLIENTS = 8, DRAIN_SECONDS = 2, CLIENT_SECONDS = 10, DRAIN_BYTES = 1 << 20 };

struct stream {
	int fd;
	uint32_t bit;
	uint32_t waiting;     /* bit i: client i has not taken what was read last */
	size_t fresh;         /* where that begins; it ends at lines.end */
	size_t after_expiry;  /* bytes read since the time for draining was up */
	struct lines lines;
};

struct client {
	int fd;
	uint32_t streams;
	bool deaf;            /* takes nothing more, but what it had sent still counts */
	bool told_stdin, told_exit;
	struct header answer; /* not sent yet when its type is not 0; then no request is read */
	size_t written, length; /* of message.data: standard input not written yet; likewise */
	struct {
		struct header header;
		char data[STDIN_MAX];
	} message;
};

struct monitor {
	struct options o;
	int in, tty, signals;
	bool ended, expired, recorded, record_lost;
	int code, signal;
	char finished[STAMP_SIZE + 1];
	uint64_t finished_ns;
	struct stream streams[2];
	struct client clients[CLIENTS];
};

extern struct monitor m;

/* Accepts whoever waits, and reads the first request of each at once. */
void accept_clients(void);

/* Does for this client what it asked for and what it now has room for. */
void serve(struct client *c);

/* Whether the client's next request may be read: the one before is answered and carried out. */
bool listens_to(const struct client *c);

/* Gives what was read last to each client that has not taken it. */
void give_stream(struct stream *s);

/* Tells a client, once and after everything else, that the container has ended; true when it knows. */
bool tell_exit(struct client *c);

/* Closes the connection. */
void drop(struct client *c);

#endif
