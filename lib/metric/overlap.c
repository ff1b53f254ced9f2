#include "metric/overlap.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/mem.h"

static uint64_t
gram(const uint32_t *ids)
{
	uint64_t h = XXH3_64bits(ids, TC_OVERLAP_N * sizeof(*ids));

	return h ? h : 1; /* 0 marks an empty slot */
}

/* The slot of h in an open table: where it is, or where it would go. */
static size_t
slot(const uint64_t *table, size_t mask, uint64_t h)
{
	size_t i = h & mask;

	while (table[i] && table[i] != h)
		i = (i + 1) & mask;
	return i;
}

int
tc_overlap(const uint32_t *calib, size_t ncalib, const uint32_t *eval, size_t neval, double *share, struct tc_err *err)
{
	size_t mask = 1, hits = 0;
	uint64_t *table;

	*share = 0;
	if (ncalib < TC_OVERLAP_N || neval < TC_OVERLAP_N)
		return 0;
	while (mask < 2 * ncalib)
		mask *= 2;
	table = tc_zalloc(mask, sizeof(*table), err);
	if (!table)
		return -1;
	mask--;
	for (size_t i = 0; i + TC_OVERLAP_N <= ncalib; i++) {
		uint64_t h = gram(calib + i);

		table[slot(table, mask, h)] = h;
	}
	for (size_t i = 0; i + TC_OVERLAP_N <= neval; i++)
		hits += table[slot(table, mask, gram(eval + i))] != 0;
	*share = (double)hits / (double)(neval - TC_OVERLAP_N + 1);
	free(table);
	return 0;
}
