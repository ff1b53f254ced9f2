#include "solve/substitute.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "solve/damp.h"
#include "solve/lapack.h"

static int
divide(struct tc_substitute *s, size_t n, const uint32_t *keep, struct tc_err *err)
{
	s->keep = tc_alloc(s->kept, sizeof(*s->keep), err);
	s->remove = tc_alloc(s->removed, sizeof(*s->remove), err);
	if (!s->keep || !s->remove)
		return -1;
	memcpy(s->keep, keep, s->kept * sizeof(*keep));
	for (size_t i = 0, k = 0; i < n; i++)
		if (k < s->kept && keep[k] == i)
			k++;
		else
			s->remove[i - k] = (uint32_t)i;
	return 0;
}

/* The upper triangle of H[K,K], damped: nothing is known of inputs that were
 * always 0. */
static void
fill(const struct tc_substitute *s, const float *packed, double *a)
{
	double mean = 0;

	for (size_t i = 0; i < s->kept; i++)
		mean += tc_packed_at(packed, s->keep[i], s->keep[i]);
	mean = mean > 0 ? mean / (double)s->kept : 1;
	for (size_t i = 0; i < s->kept; i++) {
		double *row = a + i * s->kept;

		for (size_t j = i; j < s->kept; j++)
			row[j] = tc_packed_at(packed, s->keep[i], s->keep[j]);
		row[i] += s->damping * mean + (row[i] > 0 ? 0 : mean);
	}
}

int
tc_substitute_make(struct tc_substitute *s, const float *packed, size_t n, size_t kept, const uint32_t *keep, double damping,
    struct tc_err *err)
{
	double *a = NULL;
	int tries = 0, r = -1;

	*s = (struct tc_substitute){ .kept = kept, .removed = n - kept, .damping = damping };
	a = tc_alloc(kept * kept, sizeof(*a), err);
	s->z = tc_alloc(kept * s->removed, sizeof(*s->z), err);
	if (!a || !s->z || divide(s, n, keep, err) < 0 || tc_lapack_load(err) < 0)
		goto out;
	for (fill(s, packed, a); tc_lapack_cholesky(a, kept); fill(s, packed, a))
		if (tc_damp_more(&s->damping, &tries, err) < 0)
			goto out;
	for (size_t i = 0; i < s->removed; i++)
		for (size_t k = 0; k < kept; k++)
			s->z[i * kept + k] = tc_packed_at(packed, s->remove[i], s->keep[k]);
	r = tc_lapack_cholesky_solve(a, kept, s->removed, s->z) ? tc_fail(err, TC_INTERNAL, "a triangular solve failed") : 0;
out:
	free(a);
	if (r < 0)
		tc_substitute_free(s);
	return r;
}

void
tc_substitute_free(struct tc_substitute *s)
{
	free(s->keep);
	free(s->remove);
	free(s->z);
	*s = (struct tc_substitute){0};
}

void
tc_substitute_row(const struct tc_substitute *s, double *row)
{
	for (size_t i = 0; i < s->removed; i++) {
		const double *z = s->z + i * s->kept;
		double w = row[s->remove[i]];

		for (size_t k = 0; w != 0 && k < s->kept; k++)
			row[s->keep[k]] += w * z[k];
		row[s->remove[i]] = 0;
	}
}
