/* batch.h - how tokens are cut: sequences into batches, batches into tiles of
 * rows of one sequence.  Tile boundaries are at multiples of TC_TILE_ROWS of a
 * sequence, whatever the batch. */
#ifndef TC_MODEL_BATCH_H
#define TC_MODEL_BATCH_H

#include <stddef.h>

/* Rows that go through a block together: their buffers stay in cache. */
#define TC_TILE_ROWS 96
/* What a batch has, but for a longer sequence, which is one of its own. */
#define TC_BATCH_ROWS 2048
#define TC_BATCH_SEQUENCES 64

/* Some rows of one sequence of a batch. */
struct tc_tile {
	size_t seq;      /* in the batch */
	size_t length;   /* of the sequence */
	size_t pos0, rows;
	size_t row;      /* of the batch's buffers */
	size_t token;    /* of all */
};

/* Of nseq sequences, i with tokens start[i] .. start[i+1]-1: first .. *end-1 make
 * the next batch; returns its rows. */
size_t tc_batch_next(const size_t *start, size_t nseq, size_t first, size_t *end);
/* Its tiles; returns how many, at most rows / TC_TILE_ROWS + sequences. */
size_t tc_batch_tiles(const size_t *start, size_t first, size_t end, struct tc_tile *tile);

/* What the batches ask of buffers. */
struct tc_batch_sizes {
	size_t rows, sequences, tiles, length; /* the most of each */
};
struct tc_batch_sizes tc_batch_largest(const size_t *start, size_t nseq);

#endif
