#include "metric/windows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static void
add(struct tc_windows *ws, size_t begin, size_t length, size_t first)
{
	struct tc_window w = { begin, length, first };

	ws->w[ws->n++] = w;
	ws->scored += tc_window_scored(&w);
}

int
tc_windows_fixed(struct tc_windows *ws, size_t tokens, size_t window, size_t stride, size_t score_from,
    struct tc_err *err)
{
	size_t covered = 0; /* tokens that some window has held */

	*ws = (struct tc_windows){0};
	ws->w = tc_alloc(tokens / stride + 1, sizeof(*ws->w), err);
	if (!ws->w)
		return -1;
	for (size_t b = 0; b + window <= tokens; b += stride) {
		/* Position p predicts token b + p + 1. */
		size_t first = covered > b + 1 ? covered - b - 1 : 0;

		add(ws, b, window, tc_max(first, score_from));
		covered = b + window;
	}
	ws->dropped = tokens - covered;
	return 0;
}

int
tc_windows_sliding(struct tc_windows *ws, size_t tokens, size_t window, size_t stride, struct tc_err *err)
{
	size_t covered = 0;

	*ws = (struct tc_windows){0};
	ws->w = tc_alloc(tokens / stride + 1, sizeof(*ws->w), err);
	if (!ws->w)
		return -1;
	for (size_t b = 0; covered < tokens; b += stride) {
		size_t end = tc_min(b + window, tokens);

		add(ws, b, end - b, covered > b ? covered - b - 1 : 0);
		covered = end;
	}
	return 0;
}

int
tc_windows_lines(struct tc_windows *ws, size_t lines, const size_t *length, size_t window, size_t score_from,
    struct tc_err *err)
{
	size_t begin = 0;

	*ws = (struct tc_windows){0};
	ws->w = tc_alloc(lines, sizeof(*ws->w), err);
	if (!ws->w)
		return -1;
	for (size_t i = 0; i < lines; begin += length[i++]) {
		size_t n = tc_min(length[i], window);

		bool scored = n >= score_from + 2;

		if (scored)
			add(ws, begin, n, score_from);
		ws->dropped += length[i] - (scored ? n : 0);
	}
	return 0;
}

void
tc_windows_free(struct tc_windows *ws)
{
	free(ws->w);
	*ws = (struct tc_windows){0};
}

static int
alloc_predictions(struct tc_predictions *p, struct tc_err *err)
{
	p->length = tc_alloc(p->nseq, sizeof(*p->length), err);
	p->ids = tc_alloc(p->ntokens, sizeof(*p->ids), err);
	p->row = tc_alloc(p->n, sizeof(*p->row), err);
	p->target = tc_alloc(p->n, sizeof(*p->target), err);
	p->weight = tc_alloc(p->nseq, sizeof(*p->weight), err);
	return p->length && p->ids && p->row && p->target && p->weight ? 0 : -1;
}

int
tc_predictions_make(struct tc_predictions *p, const struct tc_windows *ws, const uint32_t *ids, const uint32_t *bos,
    struct tc_err *err)
{
	size_t at = 0, n = 0;

	*p = (struct tc_predictions){ .nseq = ws->n, .n = ws->scored };
	for (size_t i = 0; i < ws->n; i++)
		p->ntokens += ws->w[i].length;
	if (alloc_predictions(p, err) < 0)
		return -1;
	for (size_t i = 0; i < ws->n; i++) {
		const struct tc_window *w = &ws->w[i];
		size_t scored = tc_window_scored(w);

		memcpy(p->ids + at, ids + w->begin, w->length * sizeof(*p->ids));
		if (bos)
			p->ids[at] = *bos;
		for (size_t k = 0; k < scored; k++) {
			p->row[n] = at + w->first + k;
			p->target[n++] = p->ids[at + w->first + k + 1];
		}
		p->length[i] = w->length;
		p->weight[i] = (double)scored;
		at += w->length;
	}
	return 0;
}

void
tc_predictions_free(struct tc_predictions *p)
{
	free(p->length);
	free(p->ids);
	free(p->row);
	free(p->target);
	free(p->weight);
	*p = (struct tc_predictions){0};
}

int
tc_predictions_means(const struct tc_predictions *p, const double *value, double *mean, struct tc_err *err)
{
	size_t at = 0;

	for (size_t i = 0; i < p->nseq; i++) {
		size_t end = at + (size_t)p->weight[i];
		double sum = 0;

		for (; at < end; at++) {
			if (!isfinite(value[at]))
				return tc_fail(err, TC_DATA, "window %zu: a likelihood is not finite: the model overflows", i);
			sum += value[at];
		}
		mean[i] = p->weight[i] > 0 ? sum / p->weight[i] : 0;
	}
	return 0;
}
