/* peaks.h - the largest activations around a block's down projection: what it
 * reads and what it gives (its bias counted, post norms not).
 *
 *   tc_peaks_open(&p, &forward, &err);
 *   forward.hook = tc_peaks_hook; forward.hook_ctx = &p;   options.with_hooks
 *   after every block: tc_peak_of(&p, &p.in), tc_peak_of(&p, &p.out), tc_peaks_clear(&p)
 *   tc_peaks_close(&p); */
#ifndef TC_STATS_PEAKS_H
#define TC_STATS_PEAKS_H

#include "model/forward.h"

struct tc_peak_side {
	size_t n;        /* channels */
	float *most;     /* [n]: the value that is largest in magnitude, */
	size_t *token;   /* [n]: and the first token where it is */
	float *largest;  /* [tokens]: the largest magnitude of each token */
};

struct tc_peaks {
	const struct tc_forward *forward;
	size_t tokens;
	struct tc_peak_side in, out;
	float *read;     /* [in.n]: what was read at the token where out is largest */
	/* of its own */
	float largest;   /* of out's magnitudes */
	float *y, *work, *sorted;
};

/* The largest value of all. */
struct tc_peak {
	float value;
	size_t channel, token;
	float median;    /* of the tokens' largest magnitudes */
};

/* f is open; it will be given so many tokens. */
int tc_peaks_open(struct tc_peaks *p, const struct tc_forward *f, size_t tokens, struct tc_err *err) TC_MUST_CHECK;
/* A tc_exec_hook of a struct tc_peaks.  down's outputs are computed a second
 * time, to the bits that they have in the block. */
void tc_peaks_hook(void *ctx, enum tc_site site, size_t seq, const float *x, size_t rows, size_t dim);
/* TC_DATA when an activation is not finite. */
int tc_peak_of(struct tc_peaks *p, const struct tc_peak_side *s, struct tc_peak *peak, struct tc_err *err) TC_MUST_CHECK;
void tc_peaks_clear(struct tc_peaks *p);
void tc_peaks_close(struct tc_peaks *p);

/* The median of the magnitudes of x[n], the larger of the middle two; sorted:
 * room for n. */
float tc_median_magnitude(size_t n, const float *x, float *sorted);

#endif
