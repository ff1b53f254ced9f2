#include "tensor/kept.h"

#include <stdlib.h>
#include <string.h>

int
tc_kept_set(struct tc_kept *k, const struct tc_tensor *from, bool mapped, struct tc_err *err)
{
	size_t at = 0;
	char *p;

	tc_kept_free(k);
	k->t = *from;
	k->there = true;
	if (mapped)
		return 0;
	for (int i = 0; i < from->nparts; i++)
		at += tc_round_up(from->part[i].size_bytes, TC_ALIGN);
	k->owned = p = tc_alloc(at, 1, err);
	if (!p)
		return -1;
	for (int i = 0; i < from->nparts; i++) {
		if (from->part[i].size_bytes)
			memcpy(p, from->part[i].data, from->part[i].size_bytes);
		k->t.part[i].data = p;
		p += tc_round_up(from->part[i].size_bytes, TC_ALIGN);
	}
	return 0;
}

void
tc_kept_free(struct tc_kept *k)
{
	free(k->owned);
	*k = (struct tc_kept){0};
}
