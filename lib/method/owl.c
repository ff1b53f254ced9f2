#include "method/owl.h"

#include <stdlib.h>

#include "base/mem.h"

int
tc_owl_open(struct tc_owl *o, size_t blocks, double times, struct tc_err *err)
{
	*o = (struct tc_owl){ .blocks = blocks, .times = times };
	o->block = tc_zalloc(blocks, sizeof(*o->block), err);
	return o->block ? 0 : -1;
}

void
tc_owl_close(struct tc_owl *o)
{
	free(o->block);
	*o = (struct tc_owl){0};
}

struct look {
	const struct tc_scores *s;
	double bound;          /* of outliers, in the second turn; before NAN is none */
	bool counts;
	float *score;          /* [threads][cols] */
	double *row;           /* [rows] sum, or outliers */
};

static void
look_at_row(void *ctx, size_t r, int worker)
{
	struct look *k = ctx;
	float *score = k->score + (size_t)worker * k->s->cols;
	double sum = 0;

	k->s->row(k->s->ctx, r, worker, score);
	for (size_t c = 0; c < k->s->cols; c++)
		sum += k->counts ? (double)score[c] > k->bound : (double)score[c];
	k->row[r] = sum;
}

int
tc_owl_add(struct tc_owl *o, int turn, size_t block, const struct tc_scores *s, struct tc_pool *pool, struct tc_err *err)
{
	struct tc_owl_block *b = &o->block[block];
	struct look k = { .s = s, .counts = turn > 0, .bound = o->times * b->sum / b->weights };
	int r = -1;

	k.score = tc_alloc((size_t)tc_pool_threads(pool), s->cols * sizeof(*k.score), err);
	k.row = tc_alloc(s->rows, sizeof(*k.row), err);
	if (k.score && k.row) {
		tc_pool_run(pool, s->rows, look_at_row, &k);
		for (size_t i = 0; i < s->rows; i++)
			*(k.counts ? &b->above : &b->sum) += k.row[i];
		if (!k.counts)
			b->weights += (double)s->rows * (double)s->cols;
		r = 0;
	}
	free(k.score);
	free(k.row);
	return r;
}

void
tc_owl_sparsities(const struct tc_owl *o, double sparsity, double lambda, double *out)
{
	double least = 1, most = 0, mean = 0, weights = 0, scale;

	for (size_t i = 0; i < o->blocks; i++) {
		const struct tc_owl_block *b = &o->block[i];
		double share = b->weights > 0 ? b->above / b->weights : 0;

		if (b->weights == 0)
			continue;
		least = share < least ? share : least;
		most = share > most ? share : most;
		mean += share * b->weights;
		weights += b->weights;
	}
	scale = most > least ? 2 * lambda / (most - least) : 0;
	for (size_t i = 0; i < o->blocks; i++) {
		const struct tc_owl_block *b = &o->block[i];

		out[i] = sparsity;
		if (b->weights > 0)
			out[i] -= scale * (b->above / b->weights - mean / weights);
	}
}
