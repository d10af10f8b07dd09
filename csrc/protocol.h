/*
 * What the static programs and Python say to each other. Mirrored in pyrun/process/control.py.
 *
 * Every message is one datagram of a SOCK_SEQPACKET socket; integers are native, both ends run on one
 * machine from one build.
 *
 * Control socket of the monitor: a header, followed by data in STDIN and STREAM only. Every request but
 * STDIN is answered, in order, by one DONE or ERROR that names it in `b`; STDIN only by an ERROR, once,
 * when the container's standard input is gone. A client that has not attached is told EXITED too.
 *
 *     client -> monitor                             monitor -> client
 *     ATTACH        a = streams (bit mask)          STREAM  a = stream, then 1 to STREAM_MAX bytes
 *     RESIZE        a = rows, b = columns           DONE    b = the request
 *     STDIN         then 1 to STDIN_MAX bytes       ERROR   a = errno, b = the request
 *     CLOSE_STDIN                                   EXITED  a = exit code (128+n: signal), b = signal or 0;
 *     REOPEN_LOG                                            the last message, the record is written
 *
 * No attached client loses data: what is read is kept until each has taken it or left, and until then the
 * monitor reads no more of that stream, so that a client that stops stops the container, as in Docker.
 */
#ifndef PYRUN_PROTOCOL_H
#define PYRUN_PROTOCOL_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

enum request { ATTACH = 1, RESIZE = 2, STDIN = 3, CLOSE_STDIN = 4, REOPEN_LOG = 5 };
enum notice { STREAM = 16, DONE = 17, ERROR = 18, EXITED = 19 };
enum stream_bit { STDOUT = 1, STDERR = 2 };
enum { STDIN_MAX = 4096, STREAM_MAX = 16384 };

struct header {
	uint32_t type;
	uint32_t a;
	uint32_t b;
};

/* One record tells how far a program came: what failed and why, or a stage with error 0. */
struct record {
	int32_t error;
	char stage[12]; /* padded with NUL, at most 11 characters */
};

static inline struct record make_record(int error, const char *stage)
{
	struct record record = { .error = error };

	strncpy(record.stage, stage, sizeof(record.stage) - 1);
	return record;
}

#endif
