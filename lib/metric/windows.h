/* windows.h - which tokens are seen together and which predictions count:
 * the protocol of a perplexity. */
#ifndef TC_METRIC_WINDOWS_H
#define TC_METRIC_WINDOWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Tokens begin .. begin+length-1 of the text; the predictions made at
 * positions first .. length-2 of the window are scored (position i predicts
 * token i+1). */
struct tc_window {
	size_t begin, length, first;
};

static inline size_t
tc_window_scored(const struct tc_window *w)
{
	return w->length >= 2 && w->first <= w->length - 2 ? w->length - 1 - w->first : 0;
}

struct tc_windows {
	struct tc_window *w;
	size_t n;
	size_t scored;    /* predictions */
	size_t dropped;   /* tokens of an incomplete last window */
};

/* Windows of `window` tokens, each `stride` <= window after the one before;
 * incomplete ones at the end are dropped.  With overlap (stride < window) only
 * predictions not scored before count; score_from: predictions made before
 * that position of a window do not count. */
int tc_windows_fixed(struct tc_windows *ws, size_t tokens, size_t window, size_t stride, size_t score_from, struct tc_err *err) TC_MUST_CHECK;

/* As Hugging Face's page on perplexity does: windows that begin at 0, stride,
 * 2 stride, ... (stride <= window), the last one short and ending with the
 * text; of each only the tokens that no earlier window held are scored. */
int tc_windows_sliding(struct tc_windows *ws, size_t tokens, size_t window, size_t stride, struct tc_err *err) TC_MUST_CHECK;

/* One window a line (or sequence): line i has length[i] tokens, cut at
 * `window`; lines without a prediction at score_from or later are dropped. */
int tc_windows_lines(struct tc_windows *ws, size_t lines, const size_t *length, size_t window, size_t score_from, struct tc_err *err) TC_MUST_CHECK;

void tc_windows_free(struct tc_windows *ws);

/* The windows as sequences, their tokens one after another, and the
 * predictions to score: what is made at row[i] should be target[i]. */
struct tc_predictions {
	size_t nseq, ntokens, n;
	size_t *length;           /* [nseq] */
	uint32_t *ids;            /* [ntokens] */
	size_t *row;              /* [n], window by window */
	uint32_t *target;         /* [n] */
	double *weight;           /* [nseq]: how many of them are a window's */
};

/* Of the text ids; bos (may be NULL) takes the place of every window's first
 * token. */
int tc_predictions_make(struct tc_predictions *p, const struct tc_windows *ws, const uint32_t *ids, const uint32_t *bos, struct tc_err *err) TC_MUST_CHECK;
void tc_predictions_free(struct tc_predictions *p);
/* mean[nseq] of value[n] over each window; 0 for one without predictions.
 * TC_DATA when a value is not finite. */
int tc_predictions_means(const struct tc_predictions *p, const double *value, double *mean, struct tc_err *err) TC_MUST_CHECK;

#endif
