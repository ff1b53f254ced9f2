#include "metric/ledger.h"

#include <string.h>

#include "tensor/factors.h"

void
tc_ledger_begin(struct tc_ledger *l, const struct tc_header *h)
{
	*l = (struct tc_ledger){ .parameters = h->parameters };
}

static void
add_part(struct tc_ledger *l, const struct tc_part *p)
{
	static const char residual[] = "residual_";
	const char *name;
	const struct { const char *name; uint64_t *bytes; } part[] = {
		{ "data", &l->dense_bytes },
		{ "codes", &l->codes_bytes },
		{ "scales", &l->scales_bytes },
		{ "scale_steps", &l->scales_bytes },
		{ "zeros", &l->zeros_bytes },
		{ "codebook", &l->codebook_bytes },
		{ "levels", &l->codebook_bytes },
		{ "mask", &l->mask_bytes },
		{ "mask_starts", &l->mask_bytes },
		{ "mask_counts", &l->mask_bytes },
		{ "mask_columns", &l->mask_bytes },
		{ "sparse_counts", &l->sparse_bytes },
		{ "sparse_columns", &l->sparse_bytes },
		{ "sparse_values", &l->sparse_bytes },
		{ "input_scale", &l->input_op_bytes },
	};

	if (tc_part_is_factor(p->name)) {
		l->factor_bytes += p->size_bytes;
		return;
	}
	name = strncmp(p->name, residual, sizeof(residual) - 1) == 0 ? p->name + sizeof(residual) - 1 : p->name;
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		if (strcmp(name, part[i].name) == 0)
			*part[i].bytes += p->size_bytes;
}

static void
add_tensor(struct tc_ledger *l, const struct tc_tensor *t)
{
	uint64_t bytes = tc_tensor_bytes(t), n = tc_tensor_elements(t);

	l->tensors++;
	l->model_bytes += bytes;
	for (int i = 0; i < t->nparts; i++)
		add_part(l, &t->part[i]);
	if (tc_role_is_linear(t->role) && !t->bias) {
		l->linear_bytes += bytes;
		l->linear_parameters += n;
	} else if ((t->role == TC_ROLE_EMBED || t->role == TC_ROLE_POS || t->role == TC_ROLE_HEAD) && !t->bias) {
		l->embed_bytes += bytes;
		l->embed_parameters += n;
	} else {
		l->other_bytes += bytes;
		l->other_parameters += n;
	}
}

void
tc_ledger_add(struct tc_ledger *l, const struct tc_record *r)
{
	uint64_t *to = r->kind == TC_KIND_STAT ? &l->stat_bytes : r->kind == TC_KIND_TOKENS ? &l->token_bytes :
	    r->kind == TC_KIND_FILE ? &l->file_bytes : &l->unknown_bytes;

	if (r->kind == TC_KIND_TENSOR) {
		add_tensor(l, &r->u.tensor);
		return;
	}
	for (int i = 0; i < r->nparts; i++)
		*to += r->part[i].size_bytes;
}

static double
bits(uint64_t bytes, uint64_t parameters)
{
	return parameters ? 8.0 * (double)bytes / (double)parameters : 0;
}

double
tc_ledger_bits_model(const struct tc_ledger *l)
{
	return bits(l->model_bytes, l->parameters);
}

double
tc_ledger_bits_linear(const struct tc_ledger *l)
{
	return bits(l->linear_bytes, l->linear_parameters);
}

json_t *
tc_ledger_json(const struct tc_ledger *l)
{
	return json_pack("{s:I,s:I,s:{s:f,s:f},s:{s:I,s:I},s:{s:I,s:I},s:{s:I,s:I},s:{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I},s:{s:I,s:I,s:I,s:I}}",
	    "parameters", (json_int_t)l->parameters,
	    "model_bytes", (json_int_t)l->model_bytes,
	    "bits_per_weight", "model", tc_ledger_bits_model(l), "linear", tc_ledger_bits_linear(l),
	    "linear", "parameters", (json_int_t)l->linear_parameters, "bytes", (json_int_t)l->linear_bytes,
	    "embedding", "parameters", (json_int_t)l->embed_parameters, "bytes", (json_int_t)l->embed_bytes,
	    "other", "parameters", (json_int_t)l->other_parameters, "bytes", (json_int_t)l->other_bytes,
	    "parts", "dense", (json_int_t)l->dense_bytes, "codes", (json_int_t)l->codes_bytes,
	    "scales", (json_int_t)l->scales_bytes, "zeros", (json_int_t)l->zeros_bytes,
	    "codebook", (json_int_t)l->codebook_bytes,
	    "masks", (json_int_t)l->mask_bytes, "factors", (json_int_t)l->factor_bytes, "sparse", (json_int_t)l->sparse_bytes, "input_ops", (json_int_t)l->input_op_bytes,
	    "apart", "statistics", (json_int_t)l->stat_bytes, "tokens", (json_int_t)l->token_bytes,
	    "files", (json_int_t)l->file_bytes, "unknown", (json_int_t)l->unknown_bytes);
}
