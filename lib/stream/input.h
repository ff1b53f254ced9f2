/* input.h - the bytes of a stream: a descriptor read ahead a little, or a
 * mapped file.  Internal to lib/stream. */
#ifndef TC_STREAM_INPUT_H
#define TC_STREAM_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct tc_input {
	const unsigned char *p;  /* p[at..n) are the bytes on hand */
	size_t at, n;
	uint64_t base;           /* offset of p[0] in the stream */
	int fd;                  /* -1: mapped, all bytes are on hand */
	bool owns_fd;
	unsigned char *ahead;    /* what p points to, of a descriptor */
	size_t cap;
};

int tc_input_open_fd(struct tc_input *in, int fd, struct tc_err *err) TC_MUST_CHECK;
/* A regular file, all of it, wherever its offset is; the descriptor is needed
 * no longer then. */
int tc_input_map_fd(struct tc_input *in, int fd, struct tc_err *err) TC_MUST_CHECK;
/* A regular file is mapped; anything else (a FIFO) is read. */
int tc_input_open_file(struct tc_input *in, const char *path, struct tc_err *err) TC_MUST_CHECK;
void tc_input_close(struct tc_input *in);

static inline uint64_t
tc_input_tell(const struct tc_input *in)
{
	return in->base + in->at;
}

/* Gets more bytes on hand, keeping those that are: 1, 0 at the end, -1. */
int tc_input_more(struct tc_input *in, struct tc_err *err) TC_MUST_CHECK;

/* Up to n > 0 bytes into dst, straight from the descriptor when none are on
 * hand and n is large.  0 at the end, -1 on error. */
ptrdiff_t tc_input_read(struct tc_input *in, void *dst, size_t n, struct tc_err *err) TC_MUST_CHECK;

/* 1 MiB in place of the usual 64 KiB, if fd is a pipe and the system lets
 * us: fewer switches between the stages. */
void tc_pipe_widen(int fd);

#endif
