/*
 * The container's log in the CRI format, one line for a line: 2026-11-23T10:51:11.123456789Z stdout F text
 * (tag P: the line goes on in the next). Whatever happens to the file, no function here fails or waits: what
 * cannot be written is lost, counted, and told in a line once writing works again.
 */
#ifndef PYRUN_LOG_H
#define PYRUN_LOG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { STAMP_SIZE = 30, NAME_SIZE = NAME_MAX - 8, LINE_MAX_BYTES = 16384 };

/* What a stream has given and the log has not got yet: data[start..end), less than a line after log_lines. */
struct lines {
	const char *stream; /* "stdout" or "stderr" */
	size_t start, end;
	char data[LINE_MAX_BYTES];
};

/* Opens `name` in `directory`; of `files` files of at most `max_size` bytes (0: no limit) the eldest goes.
 * Returns 0 or errno. `name` is kept. */
int log_open(int directory, const char *name, uint64_t max_size, unsigned files);

/* Opens the file anew, somebody has renamed it. Returns 0 or errno, and then goes on with the old one. */
int log_reopen(void);

/* Writes whole lines, and what fills the buffer as a part; with `last` also what has no newline. */
void log_lines(struct lines *lines, bool last);

/* Makes room at the end of the buffer; there is at least one byte after log_lines. */
void lines_make_room(struct lines *lines);

/* How many bytes of the container's output the log has lost. */
uint64_t log_lost_bytes(void);

/* The time now, RFC 3339 in UTC with nanoseconds: STAMP_SIZE characters, and a NUL. */
void stamp(char *text);

/* The time now on CLOCK_MONOTONIC, in nanoseconds. */
uint64_t monotonic_ns(void);

/* Append to a text, with a NUL; return its new end. The number has at least `width` digits. */
char *put_text(char *at, const char *text);
char *put_number(char *at, uint64_t number, int width);

#endif
