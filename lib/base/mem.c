#include "base/mem.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/io.h"

void *
tc_alloc(size_t count, size_t size_bytes, struct tc_err *err)
{
	size_t n;
	void *p;

	if (tc_mul_over(count, size_bytes, &n) || n > SIZE_MAX - TC_ALIGN) {
		tc_fail(err, TC_NOMEM, "a size of %zu x %zu bytes is too large", count, size_bytes);
		return NULL;
	}
	p = aligned_alloc(TC_ALIGN, tc_round_up(n ? n : 1, TC_ALIGN));
	if (!p)
		tc_fail_nomem(err, n);
	return p;
}

void *
tc_zalloc(size_t count, size_t size_bytes, struct tc_err *err)
{
	void *p = tc_alloc(count, size_bytes, err);

	if (p)
		memset(p, 0, count * size_bytes);
	return p;
}

int
tc_room(void **p, size_t *had, size_t size_bytes, struct tc_err *err)
{
	if (*p && *had >= size_bytes)
		return 0;
	free(*p);
	*p = tc_alloc(size_bytes, 1, err);
	*had = *p ? size_bytes : 0;
	return *p ? 0 : -1;
}

char *
tc_strndup(const char *s, size_t n, struct tc_err *err)
{
	char *p = strndup(s, n);

	if (!p)
		tc_fail_nomem(err, n + 1);
	return p;
}

int
tc_buf_reserve(struct tc_buf *b, size_t extra_bytes, struct tc_err *err)
{
	size_t need, cap;
	unsigned char *p;

	if (tc_add_over(b->n, extra_bytes, &need))
		return tc_fail_nomem(err, SIZE_MAX);
	if (need <= b->cap)
		return 0;
	cap = need > SIZE_MAX / 2 ? need : tc_max(need, b->cap + b->cap / 2);
	/* realloc moves large blocks by remapping, so growing costs no copy
	 * and untouched pages cost no memory. */
	p = realloc(b->p, cap);
	if (!p)
		return tc_fail_nomem(err, cap);
	b->p = p;
	b->cap = cap;
	return 0;
}

int
tc_buf_append(struct tc_buf *b, const void *p, size_t n, struct tc_err *err)
{
	if (tc_buf_reserve(b, n, err) < 0)
		return -1;
	if (n)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	return 0;
}

void
tc_buf_free(struct tc_buf *b)
{
	free(b->p);
	*b = (struct tc_buf){0};
}

int
tc_read_fd(int fd, const char *name, struct tc_buf *b, size_t max_bytes, struct tc_err *err)
{
	enum { STEP_BYTES = 1 << 16 };

	for (;;) {
		ptrdiff_t got;

		if (tc_buf_reserve(b, tc_max(STEP_BYTES, b->n / 2), err) < 0)
			return -1;
		got = tc_read_some(fd, b->p + b->n, b->cap - b->n, err);
		if (got < 0)
			return tc_err_at(err, "%s", name);
		if (got == 0)
			return 0;
		b->n += (size_t)got;
		if (b->n > max_bytes)
			return tc_fail(err, TC_DATA, "%s: larger than %zu bytes", name, max_bytes);
	}
}

int
tc_read_file(const char *path, struct tc_buf *b, size_t max_bytes, struct tc_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return tc_fail_errno(err, "%s", path);
	r = tc_read_fd(fd, path, b, max_bytes, err);
	close(fd);
	return r;
}

/* A fault maps this much around itself. */
#define FAULT_AROUND ((uintptr_t)64 << 10)

void
tc_drop_pages(const void *map, size_t map_bytes, const void *from, size_t n)
{
	uintptr_t first = (uintptr_t)map, last = first + map_bytes;
	uintptr_t a = (uintptr_t)from / FAULT_AROUND * FAULT_AROUND;
	uintptr_t b = ((uintptr_t)from + n) / FAULT_AROUND * FAULT_AROUND + FAULT_AROUND;

	a = a < first ? first : a;
	b = b > last ? last : b;
	if (a < b)
		madvise((void *)a, b - a, MADV_DONTNEED);
}

uint64_t
tc_rss_bytes(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (f && fscanf(f, "%*u %llu", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
