/* draw.h - which sequences of a text a stage runs: --samples, --seqlen,
 * --skip, --seed, --shard and --ids. */
#ifndef TC_CLI_DRAW_H
#define TC_CLI_DRAW_H

#include "cli/tokens.h"
#include "stream/hold.h"

/* This shard's sequences, one after another. */
struct tc_draw {
	uint64_t first;    /* index of the first one in the whole run */
	size_t nseq;       /* at least 1 */
	size_t *length;    /* [nseq] */
	uint32_t *ids;     /* [ntokens] */
	size_t ntokens;
};

/* By the options of cli: windows of text, from its beginning on or with a seed
 * anywhere, of at most `positions` tokens; without options `samples` windows of
 * `seqlen`, or of the positions if these are fewer.  Several sequences of
 * --ids are taken as they are, by default all; one alone is a text.  Copies
 * the ids.  A text that has not enough is TC_DATA, a shard without a sequence
 * TC_USAGE. */
int tc_cli_draw(struct tc_cli *cli, const struct tc_ids *text, size_t positions, size_t samples, size_t seqlen, struct tc_draw *out) TC_MUST_CHECK;
/* The first `most` sequences of the calibration tokens that a stream carries, whose
 * records are h; TC_DATA when there are none. */
int tc_draw_held(const struct tc_hold *h, size_t most, struct tc_draw *out, struct tc_err *err) TC_MUST_CHECK;
void tc_draw_free(struct tc_draw *d);

/* Writes the tokens record to the stage's stream, under this tag. */
int tc_cli_draw_put(struct tc_cli *cli, const struct tc_draw *d, const char *tag, const struct tc_ids *text) TC_MUST_CHECK;

#endif
