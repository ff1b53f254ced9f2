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

/* Of its codes: those of its factors where it has nothing else. */
static const struct tc_format *
codes_of(const struct tc_tensor *t)
{
	return t->format.encoding == TC_NONE ? &t->factor : &t->format;
}

static bool
same_group(const struct tc_choice *c, const struct tc_tensor *t)
{
	size_t cols = tc_tensor_cols(t);
	uint64_t planned = c->group != TC_GROUP_TENSOR && c->group >= cols ? TC_GROUP_ROW : c->group;

	return planned == codes_of(t)->group;
}

/* What the method makes; with gptq it may be of any --grid. */
static bool
same_grids(const struct tc_choice *c, const struct tc_tensor *t)
{
	const struct tc_quantizer *by = tc_choice_quantizer(c, t);
	const struct tc_format *f = codes_of(t);
	enum tc_encoding encoding = f->encoding == TC_LEVELS ? TC_CODEBOOK : f->encoding;

	if (by->needs == TC_NEEDS_HESSIAN)
		return encoding == TC_UNIFORM || encoding == TC_CODEBOOK;
	return encoding == tc_choice_encoding(by) && (encoding != TC_UNIFORM || by->zeros >> f->zero & 1);
}

static void
compare_codes(const struct tc_choice *c, const struct tc_tensor *t, char why[128])
{
	const struct tc_format *f = codes_of(t);
	char group[24], planned[24], zero[24] = "";

	if (f->encoding == TC_DENSE) {
		snprintf(why, 128, "is not quantized, planned are %d bits", c->bits);
	} else if (f->bits != c->bits) {
		snprintf(why, 128, "has %d bits, planned are %d", f->bits, c->bits);
	} else if (!same_grids(c, t)) {
		if (f->encoding == TC_UNIFORM)
			snprintf(zero, sizeof(zero), " (zero: %s)", tc_zero_names[f->zero]);
		snprintf(why, 128, "is %s%s, planned is %s", tc_encoding_names[f->encoding], zero, c->by->name);
	} else if (!same_group(c, t)) {
		tc_group_print(&f->group, group, sizeof(group));
		tc_group_print(&c->group, planned, sizeof(planned));
		snprintf(why, 128, "has groups of %s, planned are %s", group, planned);
	}
}

int
tc_plan_differs(const struct tc_plan *plan, const struct tc_tensor *t, char why[128], struct tc_err *err)
{
	const struct tc_plan_row *row = tc_plan_find(plan, t->name);
	struct tc_choice c = row ? row->choice : (struct tc_choice){0};
	uint64_t kept, most = tc_tensor_rows(t) * (tc_tensor_cols(t) - (uint64_t)((double)tc_tensor_cols(t) * c.sparsity));

	why[0] = '\0';
	if (c.by)
		compare_codes(&c, t, why);
	else if (codes_of(t)->encoding != TC_DENSE)
		snprintf(why, 128, "has %d bits, planned are none", codes_of(t)->bits);
	else if (t->rank > 0)
		snprintf(why, 128, "has factors of rank %llu, planned are none", (unsigned long long)t->rank);
	if (why[0] || !(c.sparsity > 0))
		return 0;
	if (count_kept(t, &kept, err) < 0)
		return -1;
	if (kept > most)
		snprintf(why, 128, "has %llu weights that are not 0, planned are at most %llu", (unsigned long long)kept,
		    (unsigned long long)most);
	return 0;
}
