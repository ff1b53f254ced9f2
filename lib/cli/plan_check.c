#include "cli/plan_check.h"

#include <stdlib.h>

#include "cli/group.h"
#include "tensor/mask.h"

static int
count_kept(const struct tc_tensor *t, uint64_t *kept, struct tc_err *err)
{
	size_t n = tc_tensor_rows(t) * tc_mask_words(tc_tensor_cols(t));
	uint64_t *bits = tc_alloc(n, sizeof(*bits), err);
	int r = bits ? tc_mask_of(t, bits, err) : -1;

	*kept = 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		*kept += (uint64_t)__builtin_popcountll(bits[i]);
	free(bits);
	return r;
}

static bool
same_group(const struct tc_choice *c, const struct tc_tensor *t)
{
	size_t cols = tc_tensor_cols(t);
	uint64_t planned = c->group != TC_GROUP_TENSOR && c->group >= cols ? TC_GROUP_ROW : c->group;

	return planned == t->format.group;
}

int
tc_plan_differs(const struct tc_plan *plan, const struct tc_tensor *t, char why[128], struct tc_err *err)
{
	const struct tc_plan_row *row = tc_plan_find(plan, t->name);
	struct tc_choice c = row ? row->choice : (struct tc_choice){0};
	uint64_t kept, most = tc_tensor_rows(t) * (tc_tensor_cols(t) - (uint64_t)((double)tc_tensor_cols(t) * c.sparsity));
	char group[24], planned[24];

	why[0] = '\0';
	tc_group_print(&t->format.group, group, sizeof(group));
	tc_group_print(&c.group, planned, sizeof(planned));
	if (!c.by && t->format.encoding != TC_DENSE)
		snprintf(why, 128, "has %d bits, planned are none", t->format.bits);
	else if (c.by && t->format.encoding == TC_DENSE)
		snprintf(why, 128, "is not quantized, planned are %d bits", c.bits);
	else if (c.by && t->format.bits != c.bits)
		snprintf(why, 128, "has %d bits, planned are %d", t->format.bits, c.bits);
	else if (c.by && !same_group(&c, t))
		snprintf(why, 128, "has groups of %s, planned are %s", group, planned);
	if (why[0] || !(c.sparsity > 0))
		return 0;
	if (count_kept(t, &kept, err) < 0)
		return -1;
	if (kept > most)
		snprintf(why, 128, "has %llu weights that are not 0, planned are at most %llu", (unsigned long long)kept,
		    (unsigned long long)most);
	return 0;
}
