/* scored.h - a model that is run once over token sequences, as its records
 * arrive, and what was counted and hashed on the way.
 *
 *   m->source = ...                                 tc_cli_model() and the like
 *   tc_scored_run(&cli, &m, &how);
 *   tc_forward_final(&m->forward)                   for lib/metric/nll.h
 *   tc_scored_free(&m);                             also after a failure */
#ifndef TC_CLI_SCORED_H
#define TC_CLI_SCORED_H

#include "base/hash.h"
#include "cli/cli.h"
#include "metric/ledger.h"
#include "model/forward.h"
#include "token/tokenizer.h"

struct tc_scored {
	struct tc_source *source;     /* opened by the caller, closed by tc_scored_free() */
	struct tc_forward forward;
	bool open;                    /* forward is */
	struct tc_ledger ledger;
	struct tc_tokenizer *tokenizer;
	char tokenizer_sha256[TC_SHA256_HEX], sha256[TC_SHA256_HEX]; /* "": none, not asked for */
	struct tc_sha256 hash;
	uint32_t *calib;              /* calibration tokens of the stream */
	size_t ncalib;
	char calib_sha256[TC_SHA256_HEX];
};

struct tc_scored_how {
	const char *name;             /* "model", in progress lines */
	struct tc_compute *compute;         /* NULL: f32 */
	bool hashed;                  /* sha256 is wanted */
	/* The files have come, the first tensor is there: starts m->forward on
	 * its tokens.  A failure fills cli->err. */
	int (*start)(void *ctx, struct tc_scored *m);
	void *ctx;
};

/* Takes all tokens through the model; 0 only when the whole stream was right. */
int tc_scored_run(struct tc_cli *cli, struct tc_scored *m, const struct tc_scored_how *how) TC_MUST_CHECK;
void tc_scored_free(struct tc_scored *m);

/* TC_DATA unless token ids mean the same to both models. */
int tc_scored_same_tokens(const struct tc_scored *model, const struct tc_scored *base, struct tc_err *err) TC_MUST_CHECK;

/* As result files have it: {arch, weights_sha256, ledger, base_quantized};
 * NULL: out of memory. */
json_t *tc_scored_json(const struct tc_scored *m);
/* Adds bits_per_weight {model, linear}, model_bytes and parameters to o. */
int tc_scored_size_json(const struct tc_scored *m, json_t *o, struct tc_err *err) TC_MUST_CHECK;
/* "bits per weight ..." on stdout. */
void tc_scored_size_print(const struct tc_scored *m);

#endif
