#include "metric/collapse.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* qsort has no context: a gram carries its length. */
struct gram {
	const uint32_t *ids;
	size_t n;
};

static int
by_content(const void *a, const void *b)
{
	const struct gram *x = a, *y = b;

	return memcmp(x->ids, y->ids, x->n * sizeof(*x->ids));
}

int
tc_distinct(const uint32_t *ids, size_t count, size_t n, double *share, struct tc_err *err)
{
	size_t grams = count >= n ? count - n + 1 : 0, distinct = 0;
	struct gram *g;

	*share = 1;
	if (grams == 0)
		return 0;
	g = tc_alloc(grams, sizeof(*g), err);
	if (!g)
		return -1;
	for (size_t i = 0; i < grams; i++)
		g[i] = (struct gram){ ids + i, n };
	qsort(g, grams, sizeof(*g), by_content);
	for (size_t i = 0; i < grams; i++)
		distinct += i == 0 || by_content(&g[i - 1], &g[i]) != 0;
	*share = (double)distinct / (double)grams;
	free(g);
	return 0;
}

size_t
tc_longest_repeat(const uint32_t *ids, size_t count)
{
	size_t best = 0;

	/* The run of equal pairs (i, i + lag), for every lag. */
	for (size_t lag = 1; lag < count; lag++) {
		size_t run = 0;

		for (size_t i = 0; i + lag < count; i++) {
			run = ids[i] == ids[i + lag] ? run + 1 : 0;
			best = run > best ? run : best;
		}
	}
	return best;
}
