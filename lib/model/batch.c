#include "model/batch.h"

#include "base/mem.h"

size_t
tc_batch_next(const size_t *start, size_t nseq, size_t first, size_t *end)
{
	size_t i = first;

	while (i < nseq && i - first < TC_BATCH_SEQUENCES &&
	    (i == first || start[i + 1] - start[first] <= TC_BATCH_ROWS))
		i++;
	*end = i;
	return start[i] - start[first];
}

size_t
tc_batch_tiles(const size_t *start, size_t first, size_t end, struct tc_tile *tile)
{
	size_t n = 0, row = 0;

	for (size_t s = first; s < end; s++) {
		size_t length = start[s + 1] - start[s];

		for (size_t pos = 0; pos < length; pos += TC_TILE_ROWS) {
			size_t rows = tc_min(TC_TILE_ROWS, length - pos);

			tile[n++] = (struct tc_tile){ s - first, length, pos, rows, row, start[s] + pos };
			row += rows;
		}
	}
	return n;
}

struct tc_batch_sizes
tc_batch_largest(const size_t *start, size_t nseq)
{
	struct tc_batch_sizes most = {0};

	for (size_t i = 0, end; i < nseq; i = end) {
		size_t rows = tc_batch_next(start, nseq, i, &end);

		most.rows = tc_max(most.rows, rows);
		most.sequences = tc_max(most.sequences, end - i);
		for (size_t s = i; s < end; s++)
			most.length = tc_max(most.length, start[s + 1] - start[s]);
	}
	/* Sequences end in short tiles: at most one more each. */
	most.tiles = most.rows / TC_TILE_ROWS + most.sequences;
	return most;
}
