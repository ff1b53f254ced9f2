#include "tensor/kept.h"

#include <stdlib.h>
#include <string.h>

int
tc_parts_copy(struct tc_part *part, int n, void **owned, struct tc_err *err)
{
	size_t total = 0;
	char *p;

	for (int i = 0; i < n; i++)
		total += tc_round_up(part[i].size_bytes, TC_ALIGN);
	*owned = p = tc_alloc(total, 1, err);
	if (!p)
		return -1;
	for (int i = 0; i < n; i++) {
		if (part[i].size_bytes)
			memcpy(p, part[i].data, part[i].size_bytes);
		part[i].data = p;
		p += tc_round_up(part[i].size_bytes, TC_ALIGN);
	}
	return 0;
}

int
tc_kept_set(struct tc_kept *k, const struct tc_tensor *from, bool mapped, struct tc_err *err)
{
	tc_kept_free(k);
	k->t = *from;
	k->there = true;
	return mapped ? 0 : tc_parts_copy(k->t.part, k->t.nparts, &k->owned, err);
}

void
tc_kept_free(struct tc_kept *k)
{
	free(k->owned);
	*k = (struct tc_kept){0};
}
