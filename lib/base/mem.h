/* mem.h - allocation with checked sizes, and a byte buffer that grows. */
#ifndef TC_BASE_MEM_H
#define TC_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TC_ALIGN 64 /* cache line and the widest vector */

/* *r = a op b; true when it does not fit (as the compiler's builtins). */
static inline bool tc_mul_over(size_t a, size_t b, size_t *r) { return __builtin_mul_overflow(a, b, r); }
static inline bool tc_add_over(size_t a, size_t b, size_t *r) { return __builtin_add_overflow(a, b, r); }

static inline size_t tc_round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
static inline size_t tc_min(size_t a, size_t b) { return a < b ? a : b; }
static inline size_t tc_max(size_t a, size_t b) { return a > b ? a : b; }

/* count x size_bytes bytes aligned to TC_ALIGN, not cleared (tc_zalloc:
 * cleared).  NULL and *err on overflow or lack of memory.  Zero bytes give a
 * valid pointer.  Release with free(3). */
void *tc_alloc(size_t count, size_t size_bytes, struct tc_err *err) TC_MUST_CHECK;
void *tc_zalloc(size_t count, size_t size_bytes, struct tc_err *err) TC_MUST_CHECK;

/* Room for size_bytes at *p, of which there was *had: what is there is kept
 * when it suffices, else freed and replaced, contents and all. */
int tc_room(void **p, size_t *had, size_t size_bytes, struct tc_err *err) TC_MUST_CHECK;

/* strndup(3) with an error. */
char *tc_strndup(const char *s, size_t n, struct tc_err *err) TC_MUST_CHECK;

/* A growing run of bytes.  {0} is empty and valid. */
struct tc_buf {
	unsigned char *p;
	size_t n, cap;
};

/* Room for extra_bytes more after b->n.  Contents are kept; p may move. */
int tc_buf_reserve(struct tc_buf *b, size_t extra_bytes, struct tc_err *err) TC_MUST_CHECK;
int tc_buf_append(struct tc_buf *b, const void *p, size_t n, struct tc_err *err) TC_MUST_CHECK;
void tc_buf_free(struct tc_buf *b);

/* A whole regular file or pipe into b, at most max_bytes (else TC_DATA). */
int tc_read_file(const char *path, struct tc_buf *b, size_t max_bytes, struct tc_err *err) TC_MUST_CHECK;
int tc_read_fd(int fd, const char *name, struct tc_buf *b, size_t max_bytes, struct tc_err *err) TC_MUST_CHECK;

/* Bytes of this process's memory that are resident now; 0: not known. */
uint64_t tc_rss_bytes(void);

/* Pages of a read-only file mapping of map_bytes at map that hold
 * from[0..n) leave the process: its memory does not grow with the file it
 * reads through.  The data stay valid; the page cache still has them. */
void tc_drop_pages(const void *map, size_t map_bytes, const void *from, size_t n);

#endif
