#include "stats/peaks.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int
ascending(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

float
tc_median_magnitude(size_t n, const float *x, float *sorted)
{
	for (size_t i = 0; i < n; i++)
		sorted[i] = fabsf(x[i]);
	qsort(sorted, n, sizeof(*sorted), ascending);
	return sorted[n / 2];
}

static int
open_side(struct tc_peak_side *s, size_t n, size_t tokens, struct tc_err *err)
{
	s->n = n;
	s->most = tc_alloc(n, sizeof(*s->most), err);
	s->token = tc_alloc(n, sizeof(*s->token), err);
	s->largest = tc_zalloc(tokens, sizeof(*s->largest), err);
	return s->most && s->token && s->largest ? 0 : -1;
}

int
tc_peaks_open(struct tc_peaks *p, const struct tc_forward *f, size_t tokens, struct tc_err *err)
{
	const struct tc_config *c = &f->config;

	*p = (struct tc_peaks){ .forward = f, .tokens = tokens };
	if (open_side(&p->in, c->ffn, tokens, err) < 0 || open_side(&p->out, c->width, tokens, err) < 0)
		goto fail;
	p->read = tc_alloc(c->ffn, sizeof(*p->read), err);
	p->y = tc_alloc(TC_TILE_ROWS, c->width * sizeof(*p->y), err);
	p->work = tc_alloc(tc_linear_work(c->ffn, TC_TILE_ROWS, f->pool), sizeof(*p->work), err);
	p->sorted = tc_alloc(tc_max(tokens, c->width), sizeof(*p->sorted), err);
	if (!p->read || !p->y || !p->work || !p->sorted)
		goto fail;
	tc_peaks_clear(p);
	return 0;
fail:
	tc_peaks_close(p);
	return -1;
}

static void
clear_side(struct tc_peak_side *s)
{
	memset(s->most, 0, s->n * sizeof(*s->most));
	memset(s->token, 0, s->n * sizeof(*s->token));
}

void
tc_peaks_clear(struct tc_peaks *p)
{
	clear_side(&p->in);
	clear_side(&p->out);
	memset(p->read, 0, p->in.n * sizeof(*p->read));
	p->largest = 0;
}

static void
close_side(struct tc_peak_side *s)
{
	free(s->most);
	free(s->token);
	free(s->largest);
}

void
tc_peaks_close(struct tc_peaks *p)
{
	close_side(&p->in);
	close_side(&p->out);
	free(p->read);
	free(p->y);
	free(p->work);
	free(p->sorted);
	*p = (struct tc_peaks){0};
}

/* A NaN stays where it is noted. */
static void
note(struct tc_peak_side *s, const float *x, size_t token)
{
	float largest = 0;

	for (size_t i = 0; i < s->n; i++) {
		float a = fabsf(x[i]);

		largest = a > largest ? a : largest;
		if (a > fabsf(s->most[i]) || a != a) {
			s->most[i] = x[i];
			s->token[i] = token;
		}
	}
	s->largest[token] = largest;
}

void
tc_peaks_hook(void *ctx, enum tc_site site, size_t seq, const float *x, size_t rows, size_t dim)
{
	struct tc_peaks *p = ctx;
	const struct tc_forward *f = p->forward;
	size_t width = p->out.n;

	if (site != TC_SITE_MLP_MID)
		return;
	for (size_t row = 0, n; row < rows; row += n) {
		n = tc_min(TC_TILE_ROWS, rows - row);
		tc_linear_run(&f->block.down, n, x + row * dim, dim, p->y, width, p->work, f->pool);
		for (size_t r = row; r < row + n; r++) {
			size_t token = f->exec.start[seq] + r;

			note(&p->in, x + r * dim, token);
			note(&p->out, p->y + (r - row) * width, token);
			if (p->out.largest[token] > p->largest) {
				p->largest = p->out.largest[token];
				memcpy(p->read, x + r * dim, dim * sizeof(*x));
			}
		}
	}
}

int
tc_peak_of(struct tc_peaks *p, const struct tc_peak_side *s, struct tc_peak *peak, struct tc_err *err)
{
	size_t most = 0;

	if (tc_first_not_finite(TC_F32, s->most, s->n) >= 0)
		return tc_fail(err, TC_DATA, "block %zu: activations are not finite: the model overflows",
		    p->forward->blocks_done - 1);
	for (size_t i = 1; i < s->n; i++)
		if (fabsf(s->most[i]) > fabsf(s->most[most]))
			most = i;
	*peak = (struct tc_peak){ s->most[most], most, s->token[most], tc_median_magnitude(p->tokens, s->largest, p->sorted) };
	return 0;
}
