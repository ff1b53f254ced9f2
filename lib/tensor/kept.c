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

static int
unpacked(struct tc_kept *k, const struct tc_tensor *from, struct tc_err *err)
{
	tc_kept_free(k);
	k->t = *from;
	if (tc_tensor_make_dense(&k->t, TC_F32, err) < 0)
		return -1;
	k->owned = tc_alloc(tc_tensor_bytes(&k->t), 1, err);
	if (!k->owned)
		return -1;
	tc_tensor_read_rows(from, 0, tc_tensor_rows(from), k->owned);
	k->t.part[0].data = k->owned;
	k->there = true;
	return 0;
}

int
tc_kept_zeroed(struct tc_kept *k, const struct tc_tensor *from, size_t n, const size_t *at, struct tc_err *err)
{
	size_t size_bytes;

	if ((tc_tensor_is_dense(from) ? tc_kept_set(k, from, false, err) : unpacked(k, from, err)) < 0)
		return -1;
	size_bytes = tc_dtypes[k->t.format.dtype].size_bytes;
	for (size_t i = 0; i < n; i++)
		memset((char *)k->owned + at[i] * size_bytes, 0, size_bytes);
	return 0;
}

void
tc_kept_free(struct tc_kept *k)
{
	free(k->owned);
	*k = (struct tc_kept){0};
}
