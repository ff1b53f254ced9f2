#include "metric/grade.h"

#include <stdlib.h>
#include <string.h>

/* The items of the task, and a number of each. */
struct sheet {
	const struct tc_items *items;
	const struct tc_likelihood *l;
	size_t n, nclusters;
	size_t *item, *cluster;       /* [n] */
	double *right, *base_right, *margin, *base_margin, *difference;
};

static int
sheet_open(struct sheet *s, const char *task, struct tc_err *err)
{
	size_t most = tc_items_of_task(s->items, task);
	const char **group = tc_alloc(most, sizeof(*group), err);
	int r = -1;

	s->item = tc_alloc(most, sizeof(*s->item), err);
	s->cluster = tc_alloc(most, sizeof(*s->cluster), err);
	s->right = tc_alloc(5 * most, sizeof(*s->right), err);
	if (!group || !s->item || !s->cluster || !s->right)
		goto out;
	s->base_right = s->right + most;
	s->margin = s->base_right + most;
	s->base_margin = s->margin + most;
	s->difference = s->base_margin + most;
	for (size_t i = 0; i < s->items->n; i++)
		if (strcmp(s->items->item[i].task, task) == 0) {
			group[s->n] = s->items->item[i].group;
			s->item[s->n++] = i;
		}
	r = tc_clusters_of(s->n, group, s->cluster, &s->nclusters, err);
out:
	free(group);
	return r;
}

static void
sheet_close(struct sheet *s)
{
	free(s->item);
	free(s->cluster);
	free(s->right);
}

/* Returns the share that is right. */
static double
mark(const struct sheet *s, const struct tc_likely *y, enum tc_choice_norm norm, double *right, double *margin)
{
	double sum = 0;

	for (size_t k = 0; k < s->n; k++) {
		size_t answer = s->items->item[s->item[k]].answer;
		struct tc_verdict v = tc_likely_verdict(y, s->l, s->item[k], answer, norm);

		right[k] = v.chosen == answer;
		margin[k] = v.margin;
		sum += right[k];
	}
	return sum / (double)s->n;
}

static double
greedy_share(const struct sheet *s, const struct tc_likely *y)
{
	double sum = 0;

	for (size_t k = 0; k < s->n; k++)
		sum += y->greedy[s->l->first[s->item[k]] + s->items->item[s->item[k]].answer];
	return sum / (double)s->n;
}

static double
chance_of(const struct sheet *s)
{
	double sum = 0;

	for (size_t k = 0; k < s->n; k++)
		sum += 1 / (double)s->items->item[s->item[k]].nchoices;
	return sum / (double)s->n;
}

static int
mean(const struct sheet *s, const double *x, struct tc_clustered *m, struct tc_err *err)
{
	return tc_clustered_mean(m, s->n, x, s->cluster, s->nclusters, err);
}

static int
mean_difference(struct sheet *s, const double *x, const double *y, struct tc_clustered *m, struct tc_err *err)
{
	for (size_t k = 0; k < s->n; k++)
		s->difference[k] = x[k] - y[k];
	return mean(s, s->difference, m, err);
}

static int
compare(struct tc_grade *g, struct sheet *s, const struct tc_likely *base, enum tc_choice_norm norm, struct tc_err *err)
{
	double sum = 0;

	g->base_accuracy = mark(s, base, norm, s->base_right, s->base_margin);
	g->base_greedy = greedy_share(s, base);
	for (size_t k = 0; k < s->n; k++) {
		sum += s->base_margin[k];
		g->lost += s->base_right[k] > s->right[k];
		g->won += s->base_right[k] < s->right[k];
	}
	g->base_margin = sum / (double)s->n;
	if (mean_difference(s, s->margin, s->base_margin, &g->margin_delta, err) < 0 ||
	    mean_difference(s, s->right, s->base_right, &g->delta, err) < 0)
		return -1;
	g->delta_low = g->delta.mean - TC_Z95 * g->delta.clustered;
	g->delta_high = g->delta.mean + TC_Z95 * g->delta.clustered;
	g->sign_p = tc_sign_test(g->lost, g->won);
	return 0;
}

int
tc_grade_task(struct tc_grade *g, const char *task, const struct tc_items *items, const struct tc_likelihood *l,
    const struct tc_likely *model, const struct tc_likely *base, enum tc_choice_norm norm, struct tc_err *err)
{
	struct sheet s = { .items = items, .l = l };
	int r = -1;

	*g = (struct tc_grade){ .task = task };
	if (sheet_open(&s, task, err) < 0)
		goto out;
	for (int k = 0; k < TC_NORMS; k++)
		g->accuracy[k] = mark(&s, model, (enum tc_choice_norm)k, s.right, s.margin);
	mark(&s, model, norm, s.right, s.margin);
	g->n = s.n;
	g->clusters = s.nclusters;
	g->chance = chance_of(&s);
	g->greedy = greedy_share(&s, model);
	if (mean(&s, s.right, &g->right, err) < 0 || mean(&s, s.margin, &g->margin, err) < 0)
		goto out;
	tc_wilson(g->right.mean, tc_clustered_items(&g->right, s.n, s.nclusters), &g->low, &g->high);
	g->above_chance = g->low > g->chance;
	r = base ? compare(g, &s, base, norm, err) : 0;
out:
	sheet_close(&s);
	return r;
}
