#include "stream/area.h"

#include <stdint.h>
#include <sys/mman.h>

#include "base/mem.h"

#define AREA_SLACK 8 /* an area this many times too large is given back */

int
tc_area_room(struct tc_area *a, size_t extra_bytes, struct tc_err *err)
{
	size_t cap;
	void *p;

	if (tc_add_over(a->n, extra_bytes, &cap) || cap > SIZE_MAX - TC_AREA_STEP_BYTES)
		return tc_fail_nomem(err, SIZE_MAX);
	if (cap <= a->cap)
		return 0;
	cap = tc_round_up(cap, TC_AREA_STEP_BYTES);
	if (a->p)
		p = mremap(a->p, a->cap, cap, MREMAP_MAYMOVE);
	else
		p = mmap(NULL, cap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return tc_fail_nomem(err, cap);
	a->p = p;
	a->cap = cap;
	return 0;
}

void
tc_area_free(struct tc_area *a)
{
	if (a->p)
		munmap(a->p, a->cap);
	*a = (struct tc_area){0};
}

/* What an embedding needed is given back when the blocks' matrices come; the
 * small vectors between them change nothing. */
void
tc_area_reset(struct tc_area *a, size_t size_bytes)
{
	if (size_bytes > TC_AREA_STEP_BYTES && a->cap / AREA_SLACK > size_bytes)
		tc_area_free(a);
	a->n = 0;
}
