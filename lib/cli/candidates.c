#include "cli/candidates.h"

#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool
is_matrix(const struct tc_tensor *t)
{
	return !t->bias && t->ndim == 2 && (tc_role_is_linear(t->role) || t->role == TC_ROLE_EMBED || t->role == TC_ROLE_HEAD);
}

static enum tc_candidate_kind
kind_of(const struct tc_tensor *t)
{
	return t->role == TC_ROLE_EMBED ? TC_CANDIDATE_EMBED : t->role == TC_ROLE_HEAD ? TC_CANDIDATE_HEAD : TC_CANDIDATE_LINEAR;
}

int
tc_candidates_make(struct tc_candidates *all, const struct tc_config *c, enum tc_dtype dtype, struct tc_err *err)
{
	struct tc_tensor t;

	*all = (struct tc_candidates){ .at = tc_zalloc(tc_config_tensors(c), sizeof(*all->at), err) };
	if (!all->at)
		return -1;
	for (size_t i = 0; tc_config_tensor(c, i, &t); i++) {
		if (tc_tensor_make_dense(&t, dtype, err) < 0)
			return -1;
		if (is_matrix(&t))
			all->at[all->n++] = (struct tc_candidate){ .t = t, .place = i, .kind = kind_of(&t), .counts = true };
		else
			all->fixed += tc_tensor_bytes(&t);
	}
	return 0;
}

void
tc_candidates_free(struct tc_candidates *all)
{
	free(all->at);
	*all = (struct tc_candidates){0};
}

struct tc_candidate *
tc_candidates_find(const struct tc_candidates *all, const struct tc_tensor *t)
{
	for (size_t i = 0; i < all->n; i++)
		if (all->at[i].t.role == t->role && all->at[i].t.block == t->block && !t->bias)
			return &all->at[i];
	return NULL;
}

/* ---- rules ---- */

enum { WHERE_CHARS = 256 };

struct rule {
	char where[WHERE_CHARS];
	int role;             /* or -1 */
	long first, end;      /* blocks; or 0, -1 */
	struct tc_choice choice;
};

/* "first:N", "last:N", "block:I": 1 when it is one. */
static int
parse_blocks(struct rule *r, long layers, struct tc_err *err)
{
	static const char *const word[] = { "first:", "last:", "block:" };

	for (int i = 0; i < 3; i++) {
		const char *digits = r->where + strlen(word[i]);
		char *end;
		long n;

		if (strncmp(r->where, word[i], strlen(word[i])) != 0)
			continue;
		n = strtol(digits, &end, 10);
		if (*digits < '0' || *digits > '9' || *end || n > TC_LAYERS_MAX || (i < 2 && n == 0))
			return tc_fail(err, TC_USAGE, "%s: must have a number of blocks", r->where);
		r->first = i == 0 ? 0 : i == 1 ? layers - n : n;
		r->end = i == 0 ? n : i == 1 ? layers : n + 1;
		return 1;
	}
	return 0;
}

static int
parse_rule(const char *text, long layers, struct rule *r, struct tc_err *err)
{
	const char *equals = strrchr(text, '=');
	size_t n = equals ? (size_t)(equals - text) : 0;

	*r = (struct rule){ .role = -1, .end = -1 };
	if (n == 0 || n >= sizeof(r->where))
		return tc_fail(err, TC_USAGE, "rule: %s: must be WHERE=CHOICE", text);
	memcpy(r->where, text, n);
	r->role = tc_role_find(r->where, n);
	if (tc_choice_parse(equals + 1, strlen(equals + 1), &r->choice, err) < 0 || parse_blocks(r, layers, err) < 0)
		return tc_err_at(err, "rule");
	return 0;
}

static bool
matches(const struct rule *r, const struct tc_tensor *t)
{
	if (r->role >= 0)
		return (int)t->role == r->role;
	if (r->end >= 0)
		return t->block >= 0 && t->block >= r->first && t->block < r->end;
	return fnmatch(r->where, t->name, 0) == 0;
}

int
tc_candidates_rule(struct tc_candidates *all, const struct tc_config *c, const struct tc_list *rules, struct tc_err *err)
{
	for (int i = 0; i < rules->n; i++) {
		struct rule r;
		bool hit = false;

		if (parse_rule(rules->item[i], (long)c->layers, &r, err) < 0)
			return -1;
		for (size_t k = 0; k < all->n; k++) {
			struct tc_candidate *a = &all->at[k];

			if (!matches(&r, &a->t))
				continue;
			hit = true;
			a->choices = (struct tc_choices){ .at = { r.choice }, .n = 1 };
		}
		if (!hit)
			return tc_fail(err, TC_USAGE, "rule: '%s' matches no tensor that can be quantized", r.where);
	}
	return 0;
}

int
tc_candidates_check_rules(const struct tc_list *rules, enum tc_dtype scale, struct tc_err *err)
{
	struct rule r;

	for (int i = 0; i < rules->n; i++) {
		if (parse_rule(rules->item[i], TC_LAYERS_MAX, &r, err) < 0)
			return -1;
		if (tc_choice_check_scale(r.choice.by, scale, err) < 0)
			return tc_err_at(err, "rule");
	}
	return 0;
}

/* ---- bytes ---- */

int
tc_candidates_cost(struct tc_candidates *all, const struct tc_quant_options *common, struct tc_err *err)
{
	for (size_t i = 0; i < all->n; i++) {
		struct tc_candidate *a = &all->at[i];

		for (size_t k = 0; k < a->choices.n; k++) {
			const struct tc_choice *c = &a->choices.at[k];
			struct tc_tensor t = a->t;

			if (!tc_choice_is_skip(c) && tc_choice_layout(c, common, &t, err) < 0)
				return tc_err_at(err, "%s", t.name);
			a->bytes[k] = tc_tensor_bytes(&t);
			a->cost[k] = (struct tc_alloc_choice){ a->counts ? a->bytes[k] : 0, tc_choice_is_skip(c) ? 0 : NAN };
		}
	}
	return 0;
}
