#include "stream/input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "base/mem.h"

#define AHEAD_BYTES ((size_t)64 << 10)
#define PIPE_BYTES (1 << 20)

void
tc_pipe_widen(int fd)
{
	int e = errno;

	/* Refused for what is no pipe and beyond the user's limit: no harm. */
	(void)fcntl(fd, F_SETPIPE_SZ, PIPE_BYTES);
	errno = e;
}

int
tc_input_open_fd(struct tc_input *in, int fd, struct tc_err *err)
{
	*in = (struct tc_input){ .fd = fd, .cap = AHEAD_BYTES };
	in->p = in->ahead = malloc(in->cap);
	if (!in->ahead)
		return tc_fail_nomem(err, in->cap);
	tc_pipe_widen(fd);
	return 0;
}

int
tc_input_map_fd(struct tc_input *in, int fd, struct tc_err *err)
{
	struct stat st;
	void *p;

	*in = (struct tc_input){ .fd = -1 };
	if (fstat(fd, &st) < 0)
		return tc_fail_errno(err, "stat");
	if (st.st_size == 0)
		return 0; /* mmap refuses it; the reader says what is wrong */
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return tc_fail_errno(err, "mmap");
	in->p = p;
	in->n = (size_t)st.st_size;
	return 0;
}

int
tc_input_open_file(struct tc_input *in, const char *path, struct tc_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r;

	*in = (struct tc_input){ .fd = -1 };
	if (fd < 0)
		return tc_fail_errno(err, "open");
	if (fstat(fd, &st) < 0) {
		r = tc_fail_errno(err, "stat");
	} else if (S_ISREG(st.st_mode)) {
		r = tc_input_map_fd(in, fd, err);
	} else {
		r = tc_input_open_fd(in, fd, err);
		in->owns_fd = r == 0;
	}
	if (!in->owns_fd)
		close(fd);
	return r;
}

void
tc_input_close(struct tc_input *in)
{
	if (in->fd < 0 && in->n > 0)
		munmap((void *)in->p, in->n);
	free(in->ahead);
	if (in->owns_fd)
		close(in->fd);
	*in = (struct tc_input){ .fd = -1 };
}

/* Moves the bytes on hand to the front; doubles a buffer that they fill. */
static int
make_room(struct tc_input *in, struct tc_err *err)
{
	unsigned char *p;

	if (in->at > 0) {
		memmove(in->ahead, in->ahead + in->at, in->n - in->at);
		in->base += in->at;
		in->n -= in->at;
		in->at = 0;
	}
	if (in->n < in->cap)
		return 0;
	p = realloc(in->ahead, 2 * in->cap);
	if (!p)
		return tc_fail_nomem(err, 2 * in->cap);
	in->p = in->ahead = p;
	in->cap *= 2;
	return 0;
}

int
tc_input_more(struct tc_input *in, struct tc_err *err)
{
	ptrdiff_t got;

	if (in->fd < 0)
		return 0;
	if ((in->at == in->n || in->n == in->cap) && make_room(in, err) < 0)
		return -1;
	got = tc_read_some(in->fd, in->ahead + in->n, in->cap - in->n, err);
	if (got <= 0)
		return (int)got;
	in->n += (size_t)got;
	return 1;
}

ptrdiff_t
tc_input_read(struct tc_input *in, void *dst, size_t n, struct tc_err *err)
{
	ptrdiff_t got;

	if (in->at == in->n && in->fd >= 0 && n >= AHEAD_BYTES) {
		got = tc_read_some(in->fd, dst, n, err);
		if (got > 0)
			in->base += (uint64_t)got;
		return got;
	}
	if (in->at == in->n && (got = tc_input_more(in, err)) <= 0)
		return got;
	n = tc_min(n, in->n - in->at);
	memcpy(dst, in->p + in->at, n);
	in->at += n;
	return (ptrdiff_t)n;
}
