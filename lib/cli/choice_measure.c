#include "cli/choice_measure.h"

#include <math.h>
#include <stdlib.h>

enum { PROBE_BITS = 3 };

int
tc_choice_measure_open(struct tc_choice_measure *m, struct tc_err *err)
{
	struct tc_trial_options o = { .keep_bytes = m->keep_bytes };

	if (tc_draw_held(m->hold, m->samples, &m->draw, err) < 0)
		return -1;
	for (size_t i = 0; i < m->draw.nseq; i++)
		if (m->draw.length[i] > m->positions)
			return tc_fail(err, TC_DATA, "a calibration sequence has %zu tokens, the model %zu positions", m->draw.length[i],
			    m->positions);
	o.nseq = m->draw.nseq;
	o.length = m->draw.length;
	o.ids = m->draw.ids;
	m->open = true;
	return tc_trial_open(&m->trial, m->header, m->hold, &o, m->cli->pool, err);
}

void
tc_choice_measure_close(struct tc_choice_measure *m)
{
	if (m->open)
		tc_trial_close(&m->trial);
	tc_draw_free(&m->draw);
	m->open = false;
}

/* The KL divergence that a tensor in the place of a's makes: no less than 0, as
 * rounded sums may be where nothing changes. */
static int
try_tensor(struct tc_choice_measure *m, const struct tc_candidate *a, const struct tc_tensor *t, double *kld, struct tc_err *err)
{
	const struct tc_tensor **replaced = tc_zalloc(m->hold->n, sizeof(*replaced), err);
	struct tc_trial_result result;
	int r;

	if (!replaced)
		return -1;
	replaced[a->held] = t;
	r = tc_trial_run(&m->trial, replaced, &result, err);
	free(replaced);
	*kld = r == 0 ? fmax(0, result.kld.mean) : NAN;
	return r;
}

static int
measure_choice(struct tc_choice_measure *m, struct tc_candidate *a, size_t k, struct tc_measures *known, struct tc_err *err)
{
	static const struct tc_quant_options plain;
	struct tc_quant_input in = { .w = a->weights };
	struct tc_quantized q;
	struct tc_errors e;
	bool stale = false;
	int r;

	if (tc_choice_make(&a->choices.at[k], m->common, a->weights, known, &q, m->cli->pool, err) < 0)
		return -1;
	a->bytes[k] = tc_tensor_bytes(&q.t);
	a->cost[k].bytes = a->counts ? a->bytes[k] : 0;
	r = tc_measures_of(known, tc_quantizer_find("rtn"), &plain, &in, &stale, err);
	if (r == 0 && m->weigh == TC_WEIGH_KL_EACH)
		r = try_tensor(m, a, &q.t, &a->cost[k].error, err);
	else if (r == 0 && (r = tc_errors_measure(&e, &in, &q.t, m->cli->pool, err)) == 0 && m->weigh == TC_WEIGH_FISHER)
		a->cost[k].error = tc_sensitivity_loss(&m->sensitivity[a->place], e.weight.diff2);
	else if (r == 0)
		r = tc_choice_error(&e, m->metric[a->kind], &a->cost[k].error, err);
	tc_quantized_free(&q);
	if (stale && !m->told_stale)
		tc_cli_say(m->cli, "%s: its statistics were measured before weights upstream changed", a->t.name);
	m->told_stale |= stale;
	return r;
}

/* The one by which a tensor's errors are weighed: of those with 3 bits, or of all,
 * the worst. */
static size_t
probe_of(const struct tc_candidate *a)
{
	size_t best = SIZE_MAX;

	for (int any = 0; best == SIZE_MAX && any < 2; any++)
		for (size_t k = 0; k < a->choices.n; k++)
			if (a->cost[k].error > 0 && (any || a->choices.at[k].bits == PROBE_BITS) &&
			    (best == SIZE_MAX || a->cost[k].error > a->cost[best].error))
				best = k;
	return best;
}

/* Malinovskii et al. (2024), "Pushing the Limits of Large Language Model
 * Quantization via the Linearity Theorem": what a tensor's relative error adds to
 * the loss is in proportion to it, so one measurement gives the factor. */
static int
weigh_by_probe(struct tc_choice_measure *m, struct tc_candidate *a, struct tc_measures *known, struct tc_err *err)
{
	struct tc_quantized q;
	size_t probe = probe_of(a);
	double kld, factor;
	int r;

	if (probe == SIZE_MAX)
		return 0;
	if (tc_choice_make(&a->choices.at[probe], m->common, a->weights, known, &q, m->cli->pool, err) < 0)
		return -1;
	r = try_tensor(m, a, &q.t, &kld, err);
	tc_quantized_free(&q);
	factor = kld / a->cost[probe].error;
	for (size_t k = 0; r == 0 && k < a->choices.n; k++)
		a->cost[k].error *= factor;
	return r;
}

static int
measure_candidate(struct tc_choice_measure *m, struct tc_candidate *a, struct tc_measures *known, struct tc_err *err)
{
	for (size_t k = 0; k < a->choices.n; k++) {
		if (isfinite(a->cost[k].error))
			continue;
		tc_cli_progress(m->cli, "%s: choice %zu of %zu", a->t.name, k + 1, a->choices.n);
		if (measure_choice(m, a, k, known, err) < 0)
			return tc_err_at(err, "%s", a->t.name);
		if (!isfinite(a->cost[k].error))
			return tc_fail(err, TC_DATA, "%s: its squared gradients are not known (tc-fisher)", a->t.name);
	}
	return m->weigh == TC_WEIGH_KL ? weigh_by_probe(m, a, known, err) : 0;
}

int
tc_choice_measure_run(struct tc_choice_measure *m, struct tc_candidates *all, struct tc_err *err)
{
	struct tc_measures known = {0};
	int r = m->weigh <= TC_WEIGH_KL_EACH ? tc_choice_measure_open(m, err) : 0;

	for (size_t i = 0; r == 0 && i < m->hold->n; i++) {
		const struct tc_record *record = &m->hold->item[i].r;
		struct tc_candidate *a = record->kind == TC_KIND_TENSOR ? tc_candidates_find(all, &record->u.tensor) : NULL;

		r = tc_stats_file_tell(m->stats, record, &known, err);
		if (r == 0 && a)
			r = measure_candidate(m, a, &known, err);
	}
	tc_measures_clear(&known);
	return r;
}
