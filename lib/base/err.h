/* err.h - how a library function says what went wrong.
 *
 * A function that can fail returns 0 or -1 (an iterator: 1 item, 0 end, -1
 * error) and fills the struct tc_err that its caller passed.  The library
 * never prints and never exits; lib/cli turns an error into one line on
 * stderr and the exit code. */
#ifndef TC_BASE_ERR_H
#define TC_BASE_ERR_H

#include <stdbool.h>
#include <stddef.h>

/* Exit codes: sysexits(3) where it has one; see tc(7). */
enum tc_code {
	TC_OK = 0,
	TC_CHECK = 1,     /* a check failed */
	TC_USAGE = 2,     /* bad options */
	TC_DATA = 65,     /* input that is not what it should be */
	TC_NOINPUT = 66,  /* input that is not there */
	TC_INTERNAL = 70, /* a bug */
	TC_NOMEM = 71,
	TC_IO = 74
};

struct tc_err {
	int code;          /* an enum tc_code; 0 while nothing failed */
	bool told;         /* the error came down the pipe: upstream has printed it */
	char msg[512];     /* one line, no trailing newline, no stage name */
};

#define TC_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define TC_MUST_CHECK __attribute__((warn_unused_result))

/* Fills *err and returns -1, so that "return tc_fail(err, ...)" reads well. */
int tc_fail(struct tc_err *err, int code, const char *fmt, ...) TC_PRINTF(3, 4);

/* The same with ": strerror(errno)" appended.  ENOENT, ENOTDIR and EACCES on
 * opening become TC_NOINPUT, ENOMEM becomes TC_NOMEM, the rest TC_IO. */
int tc_fail_errno(struct tc_err *err, const char *fmt, ...) TC_PRINTF(2, 3);

/* Out of memory while allocating size_bytes. */
int tc_fail_nomem(struct tc_err *err, size_t size_bytes);

/* Puts "where: " in front of the message; returns -1. */
int tc_err_at(struct tc_err *err, const char *fmt, ...) TC_PRINTF(2, 3);

#endif
