#include "method/sensitivity.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "stats/tree.h"

void
tc_sensitivity_begin(struct tc_sensitivity *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		s[i] = (struct tc_sensitivity){ NAN, NAN, NAN };
}

static bool
reads(const struct tc_config *c, const struct tc_tensor *t, const struct tc_stat *s)
{
	if (t->bias || t->ndim != 2)
		return false;
	if (s->site == TC_SITE_HEAD_IN && c->tied)
		return t->role == TC_ROLE_EMBED;
	return tc_role_site(t->role) == (int)s->site && t->block == s->block;
}

/* Of a Hessian the squares are its diagonal. */
static void
take_site(struct tc_sensitivity *of, const struct tc_config *c, const struct tc_stat *s, const double *total)
{
	struct tc_tensor t;
	double sum = 0;

	for (size_t i = 0; i < s->dim; i++)
		sum += sqrt(fmax(0, total[s->kind == TC_STAT_HESSIAN ? i * (i + 1) / 2 + i : i]));
	for (size_t i = 0; tc_config_tensor(c, i, &t); i++)
		if (reads(c, &t, s))
			of[i].act = sum / (double)s->dim;
}

static void
take_tensor(struct tc_sensitivity *of, const struct tc_config *c, const struct tc_stat *s, const double *total, size_t n,
    uint64_t tokens)
{
	const struct tc_tensor like = { .role = s->role, .bias = s->bias, .block = s->block };
	size_t place = tc_config_place(c, &like);
	double sum = 0, sequences = 0;
	struct tc_tensor t;

	if (!tc_config_tensor(c, place, &t))
		return;
	for (size_t i = 0; i < s->nnodes; i++)
		sequences += (double)tc_node_sequences(&s->node[i]);
	/* Its second number is another sum. */
	for (size_t i = 0; i < (s->kind == TC_STAT_FISHER ? 1 : n); i++)
		sum += total[i];
	of[place].fisher = sum / sequences / (double)tc_tensor_elements(&t);
	of[place].length = (double)tokens / sequences;
}

int
tc_sensitivity_take(struct tc_sensitivity *of, const struct tc_config *c, const struct tc_record *stat, struct tc_err *err)
{
	const struct tc_stat *s = &stat->u.stat;
	size_t n = tc_stat_values(s->kind, s->dim);
	uint64_t tokens;
	double *total;

	if (s->kind == TC_STAT_ABS || s->kind == TC_STAT_MAX || s->nnodes == 0 || s->dim == 0)
		return 0;
	total = tc_alloc(n, sizeof(*total), err);
	if (!total)
		return -1;
	tc_stat_total(s, stat->part[0].data, total, &tokens);
	if (tc_stat_is_of_tensor(s->kind))
		take_tensor(of, c, s, total, n, tokens);
	else
		take_site(of, c, s, total);
	free(total);
	return 0;
}

double
tc_sensitivity_loss(const struct tc_sensitivity *s, double error2)
{
	return 0.5 * s->fisher * s->length * error2;
}
