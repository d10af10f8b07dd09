/* The log of one container; log.h says what it promises. */
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { PREFIX_SIZE = STAMP_SIZE + 10, BATCH = 64 };

static struct {
	int directory, fd; /* fd 0: not open */
	const char *name;
	uint64_t size, max_size, untold, lost;
	unsigned files;
} log_file;

/* Lines that go to the file by one system call. */
struct batch {
	struct iovec parts[2 * BATCH];
	int count;
	size_t bytes, payload;
};

char *put_text(char *at, const char *text)
{
	return stpcpy(at, text);
}

char *put_number(char *at, uint64_t number, int width)
{
	char digits[20];
	int count = 0;

	do
		digits[count++] = '0' + number % 10;
	while ((number /= 10) || count < width);
	while (count)
		*at++ = digits[--count];
	*at = '\0';
	return at;
}

/* Days since 1970-01-01 to a civil date; gmtime would bring the time zones' machinery, and malloc. */
static char *put_date(char *at, uint64_t days)
{
	uint64_t from_0000_03_01 = days + 719468, era = from_0000_03_01 / 146097;
	unsigned day = from_0000_03_01 % 146097;
	unsigned year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
	unsigned month;

	day -= 365 * year + year / 4 - year / 100;
	month = (5 * day + 2) / 153;
	day -= (153 * month + 2) / 5;
	at = put_number(at, year + era * 400 + (month >= 10), 4);
	at = put_text(at, "-");
	at = put_number(at, month < 10 ? month + 3 : month - 9, 2);
	at = put_text(at, "-");
	return put_number(at, day + 1, 2);
}

void stamp(char *text)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	text = put_date(text, now.tv_sec / 86400);
	text = put_text(text, "T");
	text = put_number(text, now.tv_sec / 3600 % 24, 2);
	text = put_text(text, ":");
	text = put_number(text, now.tv_sec / 60 % 60, 2);
	text = put_text(text, ":");
	text = put_number(text, now.tv_sec % 60, 2);
	text = put_text(text, ".");
	text = put_number(text, now.tv_nsec, 9);
	put_text(text, "Z");
}

uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * UINT64_C(1000000000) + now.tv_nsec;
}

static int open_file(void)
{
	int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW;
	int fd = openat(log_file.directory, log_file.name, flags, 0640);
	struct stat status;

	if (fd < 0)
		return errno;
	log_file.fd = fd;
	log_file.size = fstat(fd, &status) == 0 ? status.st_size : 0;
	return 0;
}

int log_open(int directory, const char *name, uint64_t max_size, unsigned files)
{
	log_file.directory = directory;
	log_file.name = name;
	log_file.max_size = max_size;
	log_file.files = files ? files : 1;
	return open_file();
}

int log_reopen(void)
{
	int old = log_file.fd, error = open_file();

	if (!error && old)
		close(old);
	return error;
}

uint64_t log_lost_bytes(void)
{
	return log_file.lost;
}

static const char *numbered_name(char *text, unsigned number)
{
	char *at = put_text(text, log_file.name);

	if (number)
		put_number(put_text(at, "."), number, 1);
	return text;
}

/* NAME.3 becomes NAME.4, ... NAME becomes NAME.1; the last is overwritten. */
static void rotate(void)
{
	char from[NAME_MAX + 8], to[NAME_MAX + 8];
	bool moved = false;

	for (unsigned i = log_file.files - 1; i > 0; i--)
		moved = renameat(log_file.directory, numbered_name(from, i - 1), log_file.directory,
				 numbered_name(to, i)) == 0;
	if (log_file.files == 1)
		moved = unlinkat(log_file.directory, log_file.name, 0) == 0;
	if (log_file.fd)
		close(log_file.fd);
	log_file.fd = 0;
	open_file();
	if (!moved)
		log_file.size = 0; /* go on in the same file; try again max_size later */
}

/* All or nothing: the file never keeps half a line. */
static bool append(const struct iovec *parts, int count, size_t bytes)
{
	ssize_t n;

	if (!log_file.fd && open_file() != 0)
		return false;
	n = writev(log_file.fd, parts, count);
	if (n == (ssize_t)bytes) {
		log_file.size += bytes;
		return true;
	}
	if (n > 0 && ftruncate(log_file.fd, lseek(log_file.fd, 0, SEEK_END) - n) < 0)
		log_file.size += n;
	return false;
}

static void tell_loss(void)
{
	char text[PREFIX_SIZE + 96], *at;
	struct iovec part = { text, 0 };

	stamp(text);
	at = put_text(text + STAMP_SIZE, " stderr F pyrun: ");
	at = put_number(at, log_file.untold, 1);
	at = put_text(at, " bytes of output lost, the log could not be written\n");
	part.iov_len = at - text;
	if (append(&part, 1, part.iov_len))
		log_file.untold = 0;
}

static void flush(struct batch *batch)
{
	if (log_file.untold)
		tell_loss();
	if (batch->count && !append(batch->parts, batch->count, batch->bytes)) {
		log_file.untold += batch->payload;
		log_file.lost += batch->payload;
	}
	batch->count = 0;
	batch->bytes = batch->payload = 0;
}

/* Puts one line, or a part without newline, into the batch; rotates before a line that would not fit. */
static void add(struct batch *batch, const char *prefix, const char *data, size_t length)
{
	bool part = data[length - 1] != '\n';
	size_t bytes = PREFIX_SIZE + length + part;
	uint64_t size = log_file.size + batch->bytes;

	if (log_file.max_size && size && size + bytes > log_file.max_size) {
		flush(batch);
		rotate();
	}
	if (batch->count + 3 > (int)(sizeof(batch->parts) / sizeof(*batch->parts)))
		flush(batch);
	batch->parts[batch->count++] = (struct iovec){ (char *)prefix, PREFIX_SIZE };
	batch->parts[batch->count++] = (struct iovec){ (char *)data, length };
	if (part)
		batch->parts[batch->count++] = (struct iovec){ "\n", 1 };
	batch->bytes += bytes;
	batch->payload += length;
}

static void make_prefix(char *prefix, const char *stream, const char *tag)
{
	put_text(put_text(put_text(prefix + STAMP_SIZE, " "), stream), tag);
}

void log_lines(struct lines *lines, bool last)
{
	char whole[PREFIX_SIZE + 1], part[PREFIX_SIZE + 1];
	struct batch batch;

	batch.count = 0;
	batch.bytes = batch.payload = 0;
	stamp(whole);
	memcpy(part, whole, STAMP_SIZE);
	make_prefix(whole, lines->stream, " F ");
	make_prefix(part, lines->stream, " P ");
	while (lines->start < lines->end) {
		const char *data = lines->data + lines->start;
		size_t length = lines->end - lines->start;
		const char *newline = memchr(data, '\n', length);

		if (newline) {
			length = newline - data + 1;
			add(&batch, whole, data, length);
		} else if (last || length == sizeof(lines->data)) {
			add(&batch, part, data, length);
		} else {
			break;
		}
		lines->start += length;
	}
	flush(&batch);
}

void lines_make_room(struct lines *lines)
{
	if (!lines->start)
		return;
	lines->end -= lines->start;
	memmove(lines->data, lines->data + lines->start, lines->end);
	lines->start = 0;
}
