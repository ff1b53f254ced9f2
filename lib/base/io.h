/* io.h - read(2) and write(2) that a signal does not cut short. */
#ifndef TC_BASE_IO_H
#define TC_BASE_IO_H

#include <stddef.h>

#include "base/err.h"

/* What there is, up to n > 0 bytes; 0 at the end, -1 with "read: ...". */
ptrdiff_t tc_read_some(int fd, void *p, size_t n, struct tc_err *err) TC_MUST_CHECK;

/* n bytes, or fewer where the input ends; -1 with "read: ...". */
ptrdiff_t tc_read_full(int fd, void *p, size_t n, struct tc_err *err) TC_MUST_CHECK;

/* All n bytes, or -1 with "write: ...". */
int tc_write_all(int fd, const void *p, size_t n, struct tc_err *err) TC_MUST_CHECK;

#endif
