#include "base/io.h"

#include <errno.h>
#include <unistd.h>

ptrdiff_t
tc_read_some(int fd, void *p, size_t n, struct tc_err *err)
{
	ssize_t got;

	do
		got = read(fd, p, n);
	while (got < 0 && errno == EINTR);
	return got < 0 ? tc_fail_errno(err, "read") : got;
}

ptrdiff_t
tc_read_full(int fd, void *p, size_t n, struct tc_err *err)
{
	size_t at = 0;

	while (at < n) {
		ptrdiff_t got = tc_read_some(fd, (char *)p + at, n - at, err);

		if (got < 0)
			return -1;
		if (got == 0)
			break;
		at += (size_t)got;
	}
	return (ptrdiff_t)at;
}

int
tc_write_all(int fd, const void *p, size_t n, struct tc_err *err)
{
	const char *at = p;

	while (n > 0) {
		ssize_t put = write(fd, at, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return tc_fail_errno(err, "write");
		at += put;
		n -= (size_t)put;
	}
	return 0;
}
