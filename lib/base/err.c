#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A message is one line, whatever names from outside were put into it. */
static void
one_line(char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f)
			*s = '?';
}

static void
set(struct tc_err *err, int code, const char *fmt, va_list ap)
{
	err->code = code;
	err->told = false;
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	one_line(err->msg);
}

int
tc_fail(struct tc_err *err, int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set(err, code, fmt, ap);
	va_end(ap);
	return -1;
}

int
tc_fail_errno(struct tc_err *err, const char *fmt, ...)
{
	int e = errno;
	int code = e == ENOENT || e == ENOTDIR || e == EACCES || e == EISDIR ? TC_NOINPUT :
	    e == ENOMEM ? TC_NOMEM : TC_IO;
	va_list ap;
	size_t n;

	va_start(ap, fmt);
	set(err, code, fmt, ap);
	va_end(ap);
	n = strlen(err->msg);
	snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerror(e));
	return -1;
}

int
tc_fail_nomem(struct tc_err *err, size_t size_bytes)
{
	return tc_fail(err, TC_NOMEM, "out of memory (%zu bytes wanted)", size_bytes);
}

int
tc_err_at(struct tc_err *err, const char *fmt, ...)
{
	char old[sizeof(err->msg)];
	va_list ap;
	size_t n;

	memcpy(old, err->msg, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	one_line(err->msg);
	n = strlen(err->msg);
	snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", old);
	return -1;
}
