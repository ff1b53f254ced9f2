/* ledger.h - where every byte of a stream goes.
 *
 * Bits per weight = 8 x bytes of every part of every tensor / parameters of
 * the original model: a tied embedding is counted once, and always counted.
 * Statistics, tokens and files are not the model and are listed apart. */
#ifndef TC_METRIC_LEDGER_H
#define TC_METRIC_LEDGER_H

#include <jansson.h>
#include <stdint.h>

#include "stream/record.h"

struct tc_ledger {
	uint64_t parameters;        /* of the original model */
	uint64_t model_bytes;       /* parts of all tensors */
	uint64_t linear_bytes, linear_parameters; /* weights of the blocks' linear layers */
	uint64_t embed_bytes, embed_parameters;   /* embedding and untied head */
	uint64_t other_bytes, other_parameters;   /* norms, biases */
	uint64_t codes_bytes, scales_bytes, zeros_bytes, codebook_bytes, dense_bytes, mask_bytes, factor_bytes, sparse_bytes, input_op_bytes; /* model_bytes by part */
	uint64_t stat_bytes, token_bytes, file_bytes, unknown_bytes;
	uint64_t tensors;
};

void tc_ledger_begin(struct tc_ledger *l, const struct tc_header *h);
void tc_ledger_add(struct tc_ledger *l, const struct tc_record *r);
double tc_ledger_bits_model(const struct tc_ledger *l);
double tc_ledger_bits_linear(const struct tc_ledger *l);
/* The ledger as tc-ls --json and result files show it; NULL: out of memory. */
json_t *tc_ledger_json(const struct tc_ledger *l);

#endif
