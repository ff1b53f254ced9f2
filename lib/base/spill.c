#include "base/spill.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/mem.h"

int
tc_spill_open(struct tc_spill *s, size_t size_bytes, const struct tc_spill_options *o, struct tc_err *err)
{
	*s = (struct tc_spill){ .size_bytes = size_bytes };
	if (o->fd < 0 || size_bytes <= o->above_bytes) {
		s->p = tc_alloc(size_bytes, 1, err);
		return s->p ? 0 : -1;
	}
	errno = posix_fallocate(o->fd, 0, (off_t)size_bytes);
	if (errno)
		return tc_fail_errno(err, "a temporary file of %zu bytes", size_bytes);
	s->p = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, o->fd, 0);
	if (s->p == MAP_FAILED) {
		s->p = NULL;
		return tc_fail_errno(err, "mapping a temporary file");
	}
	s->mapped = true;
	return 0;
}

void
tc_spill_close(struct tc_spill *s)
{
	if (s->mapped)
		munmap(s->p, s->size_bytes);
	else
		free(s->p);
	*s = (struct tc_spill){0};
}
