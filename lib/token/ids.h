/* ids.h - a growing list of token ids.  {0} is empty; p is for free(3). */
#ifndef TC_TOKEN_IDS_H
#define TC_TOKEN_IDS_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define TC_NO_ID UINT32_MAX

struct tc_ids {
	uint32_t *p;
	size_t n, cap;
};

static inline int
tc_ids_reserve(struct tc_ids *ids, size_t extra, struct tc_err *err)
{
	size_t cap = ids->cap + ids->cap / 2 + 64;
	uint32_t *p;

	if (extra <= ids->cap - ids->n)
		return 0;
	if (cap - ids->n < extra)
		cap = ids->n + extra;
	p = cap > SIZE_MAX / sizeof(*p) ? NULL : realloc(ids->p, cap * sizeof(*p));
	if (!p)
		return tc_fail_nomem(err, cap);
	ids->p = p;
	ids->cap = cap;
	return 0;
}

static inline int
tc_ids_append(struct tc_ids *ids, const uint32_t *p, size_t n, struct tc_err *err)
{
	if (tc_ids_reserve(ids, n, err) < 0)
		return -1;
	if (n)
		memcpy(ids->p + ids->n, p, n * sizeof(*p));
	ids->n += n;
	return 0;
}

#endif
