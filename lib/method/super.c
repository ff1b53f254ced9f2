#include "method/super.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int
tc_super_open(struct tc_super *s, struct tc_rerun *model, const struct tc_super_rule *rule, size_t tokens,
    struct tc_err *err)
{
	*s = (struct tc_super){ .model = model, .rule = *rule, .layers = model->forward.config.layers };
	s->block = tc_zalloc(s->layers, sizeof(*s->block), err);
	return s->block ? tc_peaks_open(&s->peaks, &model->forward, tokens, err) : -1;
}

void
tc_super_close(struct tc_super *s)
{
	tc_peaks_close(&s->peaks);
	tc_spots_free(&s->zeroed);
	free(s->block);
	free(s->weight);
	free(s->step);
	*s = (struct tc_super){0};
}

static int
add(struct tc_super *s, const struct tc_super_weight *weight, struct tc_err *err)
{
	if (s->n == s->cap) {
		size_t cap = tc_max(16, 2 * s->cap);
		struct tc_super_weight *w = realloc(s->weight, cap * sizeof(*w));

		if (!w)
			return tc_fail_nomem(err, cap * sizeof(*w));
		s->weight = w;
		s->cap = cap;
	}
	s->weight[s->n++] = *weight;
	return 0;
}

int
tc_super_name(struct tc_super *s, const struct tc_spots *spots, struct tc_err *err)
{
	const struct tc_config *c = &s->model->forward.config;

	s->named = true;
	for (size_t i = 0; i < spots->n; i++) {
		const struct tc_spot *p = &spots->at[i];

		if (p->tensor >= c->layers || p->row >= c->width || p->column >= c->ffn)
			return tc_fail(err, TC_DATA, "block %zu, row %zu, column %zu: the model has %zu blocks with down "
			    "projections of %zu x %zu", p->tensor, p->row, p->column, c->layers, c->width, c->ffn);
		if (add(s, &(struct tc_super_weight){ .block = p->tensor, .row = p->row, .column = p->column, .share = NAN },
		    err) < 0)
			return -1;
	}
	return 0;
}

static void
place_of(const struct tc_super *s, size_t token, size_t *sequence, size_t *position)
{
	const size_t *start = s->model->forward.exec.start;
	size_t i = 0;

	while (token >= start[i + 1])
		i++;
	*sequence = s->first + i;
	*position = token - start[i];
}

static double
ratio_of(double value, const struct tc_peak *peak)
{
	return fabs(value) / (double)peak->median;
}

static bool
is_spike(const struct tc_super *s, double value, double ratio)
{
	return isnan(s->rule.above) ? ratio > s->rule.ratio : fabs(value) > s->rule.above;
}

static void
note_block(struct tc_super *s, size_t block, const struct tc_peak *in, const struct tc_peak *out)
{
	struct tc_super_block *b = &s->block[block];

	*b = (struct tc_super_block){ .block = block, .in_channel = in->channel, .out_channel = out->channel,
		.in = (double)in->value, .in_median = (double)in->median, .in_ratio = ratio_of((double)in->value, in),
		.out = (double)out->value, .out_median = (double)out->median, .out_ratio = ratio_of((double)out->value, out) };
	place_of(s, in->token, &b->in_sequence, &b->in_position);
	place_of(s, out->token, &b->out_sequence, &b->out_position);
}

/* The column of the row of down that gives most of the largest output; weights
 * that are zeroed give nothing. */
static void
largest_product(const struct tc_super *s, size_t down, const float *row, struct tc_super_weight *w)
{
	double most = 0;

	for (size_t c = 0; c < s->peaks.in.n; c++) {
		double product = (double)row[c] * (double)s->peaks.read[c];

		if (fabs(product) > fabs(most) && !tc_spots_have(&s->zeroed, down, w->row, c)) {
			w->column = c;
			most = product;
		}
	}
	w->in = (double)s->peaks.read[w->column];
	w->share = most / w->out;
}

/* Fills in what is known once row, column and the output's token are. */
static void
measure(const struct tc_super *s, const float *row, const struct tc_peak *in, const struct tc_peak *out,
    struct tc_super_weight *w)
{
	w->value = (double)row[w->column];
	w->in_ratio = ratio_of(w->in, in);
	w->out_ratio = ratio_of(w->out, out);
	w->spike = w->value != 0 && is_spike(s, w->in, w->in_ratio) && is_spike(s, w->out, w->out_ratio);
	w->id = s->model->forward.ids[w->token];
	place_of(s, w->token, &w->sequence, &w->position);
}

/* The weight that the block's largest output names. */
static int
search(struct tc_super *s, size_t block, float *row, const struct tc_peak *in, const struct tc_peak *out,
    struct tc_err *err)
{
	struct tc_super_weight w = { .block = block, .row = out->channel, .round = s->rounds + 1, .out = (double)out->value,
		.token = out->token };
	size_t down = tc_rerun_down(s->model, block);

	tc_tensor_read_rows(s->model->tensor[down], w.row, 1, row);
	largest_product(s, down, row, &w);
	measure(s, row, in, out, &w);
	return w.spike ? add(s, &w, err) : 0;
}

/* Named weights: what their channels have at most, wherever. */
static void
look_at(const struct tc_super *s, float *row, const struct tc_peak *in, const struct tc_peak *out,
    struct tc_super_weight *w)
{
	w->in = (double)s->peaks.in.most[w->column];
	w->out = (double)s->peaks.out.most[w->row];
	w->token = s->peaks.out.token[w->row];
	tc_tensor_read_rows(s->model->tensor[tc_rerun_down(s->model, w->block)], w->row, 1, row);
	measure(s, row, in, out, w);
}

int
tc_super_look(void *ctx, size_t block, struct tc_err *err)
{
	struct tc_super *s = ctx;
	struct tc_peak in, out;
	float *row;
	int r = 0;

	if (tc_peak_of(&s->peaks, &s->peaks.in, &in, err) < 0 || tc_peak_of(&s->peaks, &s->peaks.out, &out, err) < 0 ||
	    !(row = tc_alloc(s->peaks.in.n, sizeof(*row), err)))
		return -1;
	if (s->rounds == 0)
		note_block(s, block, &in, &out);
	if (!s->named)
		r = search(s, block, row, &in, &out, err);
	for (size_t i = 0; s->named && i < s->n; i++)
		if (s->weight[i].block == block)
			look_at(s, row, &in, &out, &s->weight[i]);
	free(row);
	tc_peaks_clear(&s->peaks);
	return r;
}

int
tc_super_round(struct tc_super *s, struct tc_err *err)
{
	size_t had = s->zeroed.n;

	s->rounds++;
	for (size_t i = had; i < s->n; i++) {
		const struct tc_super_weight *w = &s->weight[i];
		struct tc_spot spot = { tc_rerun_down(s->model, w->block), w->row, w->column, (float)w->value };

		if (tc_spots_add(&s->zeroed, &spot, err) < 0)
			return -1;
	}
	return s->n > had;
}

/* ---- the super activations ---- */

static int
follow(struct tc_super *s, size_t block, bool without, struct tc_err *err)
{
	size_t width = s->peaks.out.n;

	if (!s->step && !(s->step = tc_zalloc(s->n * s->layers, sizeof(*s->step), err)))
		return -1;
	for (size_t i = 0; i < s->n; i++) {
		const float *x = s->model->forward.exec.hidden + s->weight[i].token * width;
		struct tc_super_step *step = &s->step[i * s->layers + block];

		step->block = block;
		*(without ? &step->without : &step->with) = (double)x[s->weight[i].row];
		*(without ? &step->without_median : &step->with_median) =
		    (double)tc_median_magnitude(width, x, s->peaks.sorted);
	}
	return 0;
}

int
tc_super_follow_with(void *ctx, size_t block, struct tc_err *err)
{
	return follow(ctx, block, false, err);
}

int
tc_super_follow_without(void *ctx, size_t block, struct tc_err *err)
{
	return follow(ctx, block, true, err);
}
