#include "cli/figures.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "metric/collapse.h"
#include "metric/paired.h"
#include "metric/script.h"

#define REP_N 4
#define DISTINCT_N 2

enum kind { SHARE, COUNT, FLAG };

static const struct {
	const char *name;
	enum kind kind;
	bool optional;     /* left out where it is not known */
} figures[TC_FIGURES] = {
	[TC_FIGURE_REP_4] = { "rep_4", SHARE, false },
	[TC_FIGURE_DISTINCT_2] = { "distinct_2", SHARE, false },
	[TC_FIGURE_WORD_REP_4] = { "word_rep_4", SHARE, false },
	[TC_FIGURE_WORD_DISTINCT_2] = { "word_distinct_2", SHARE, false },
	[TC_FIGURE_LONGEST_REPEAT] = { "longest_repeat", COUNT, false },
	[TC_FIGURE_LOOP_RATE] = { "loop_rate", SHARE, false },
	[TC_FIGURE_ENDED] = { "ended", FLAG, false },
	[TC_FIGURE_SCRIPT_LEAK] = { "script_leak", SHARE, false },
	[TC_FIGURE_FIRST_DIVERGENCE] = { "first_divergence", COUNT, true },
	[TC_FIGURE_SHARE_EQUAL] = { "share_equal", SHARE, true },
	[TC_FIGURE_TEACHER_FORCED] = { "teacher_forced", SHARE, true },
};

static int
repetition(const uint32_t *ids, size_t n, double *rep, double *distinct, struct tc_err *err)
{
	if (tc_distinct(ids, n, REP_N, rep, err) < 0 || tc_distinct(ids, n, DISTINCT_N, distinct, err) < 0)
		return -1;
	*rep = 1 - *rep;
	return 0;
}

int
tc_figures_repetition(struct tc_figures *f, const uint32_t *ids, size_t nids, const struct tc_buf *text, struct tc_err *err)
{
	uint32_t *words;
	size_t nwords;
	int r;

	for (int i = 0; i < TC_FIGURES; i++)
		f->value[i] = NAN;
	if (repetition(ids, nids, &f->value[TC_FIGURE_REP_4], &f->value[TC_FIGURE_DISTINCT_2], err) < 0)
		return -1;
	if (!text)
		return 0;
	if (tc_words(text->n ? (const char *)text->p : "", text->n, &words, &nwords, err) < 0)
		return -1;
	r = repetition(words, nwords, &f->value[TC_FIGURE_WORD_REP_4], &f->value[TC_FIGURE_WORD_DISTINCT_2], err);
	free(words);
	return r;
}

int
tc_figures_measure(struct tc_figures *f, const uint32_t *ids, size_t nids, const struct tc_buf *text, const char *prompt,
    struct tc_err *err)
{
	uint32_t scripts = prompt && text ? tc_scripts(prompt, strlen(prompt)) : 0;
	size_t letters, leaked;

	if (tc_figures_repetition(f, ids, nids, text, err) < 0)
		return -1;
	f->value[TC_FIGURE_LOOP_RATE] = tc_loop_rate(ids, nids);
	f->value[TC_FIGURE_LONGEST_REPEAT] = (double)tc_longest_repeat(ids, nids);
	if (scripts) {
		tc_script_leak(scripts, (const char *)text->p, text->n, &letters, &leaked);
		f->value[TC_FIGURE_SCRIPT_LEAK] = letters ? (double)leaked / (double)letters : 0;
	}
	return 0;
}

static json_t *
number(double x, enum kind kind)
{
	if (!isfinite(x))
		return json_null();
	return kind == SHARE ? json_real(x) : kind == FLAG ? json_boolean(x != 0) : json_integer((json_int_t)x);
}

json_t *
tc_figures_json(const struct tc_figures *f)
{
	json_t *o = json_object();
	int r = 0;

	for (int i = 0; i < TC_FIGURES; i++)
		if (!figures[i].optional || isfinite(f->value[i]))
			r |= json_object_set_new(o, figures[i].name, number(f->value[i], figures[i].kind));
	if (r == 0)
		return o;
	json_decref(o);
	return NULL;
}

/* The mean of what is known; its error is null for one text. */
static json_t *
mean_json(const double *x, const double *known, size_t n, double joined)
{
	struct tc_mean m = tc_mean_of(n, x, known);
	size_t texts = 0;
	json_t *o;

	for (size_t i = 0; i < n; i++)
		texts += known[i] > 0;
	o = json_pack("{s:o,s:o,s:I}", "mean", number(texts > 0 ? m.mean : NAN, SHARE), "stderr",
	    number(texts > 1 ? m.stderr_ : NAN, SHARE), "texts", (json_int_t)texts);
	if (o && isfinite(joined) && json_object_set_new(o, "joined", json_real(joined)) < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *
tc_figures_overall(const struct tc_figures *f, size_t n, const struct tc_figures *joined, struct tc_err *err)
{
	double *x = tc_alloc(n, sizeof(*x), err), *known = tc_alloc(n, sizeof(*known), err);
	json_t *o = json_object();
	bool failed = !x || !known || !o;

	for (int i = 0; !failed && i < TC_FIGURES; i++) {
		bool any = false;

		for (size_t k = 0; k < n; k++) {
			known[k] = isfinite(f[k].value[i]);
			x[k] = known[k] > 0 ? f[k].value[i] : 0;
			any |= known[k] > 0;
		}
		if (any || !figures[i].optional)
			failed = json_object_set_new(o, figures[i].name,
			    mean_json(x, known, n, joined->value[i])) < 0;
	}
	free(x);
	free(known);
	if (!failed)
		return o;
	tc_fail_nomem(err, 0);
	json_decref(o);
	return NULL;
}

static void
print_cell(const json_t *v)
{
	if (json_is_number(v))
		printf(" %10.4f", json_number_value(v));
	else
		printf(" %10s", "-");
}

void
tc_figures_print(const json_t *overall)
{
	printf("%-16s %10s %10s %10s\n", "figure", "mean", "stderr", "joined");
	for (int i = 0; i < TC_FIGURES; i++) {
		const json_t *o = json_object_get(overall, figures[i].name);

		if (!o)
			continue;
		printf("%-16s", figures[i].name);
		print_cell(json_object_get(o, "mean"));
		print_cell(json_object_get(o, "stderr"));
		print_cell(json_object_get(o, "joined"));
		putchar('\n');
	}
}
