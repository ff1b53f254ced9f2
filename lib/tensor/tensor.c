#include "tensor/tensor.h"

#include <string.h>

const struct tc_dtype_info tc_dtypes[TC_DTYPES] = {
	[TC_F32] = { "f32", 4 },
	[TC_F16] = { "f16", 2 },
	[TC_BF16] = { "bf16", 2 },
	[TC_F64] = { "f64", 8 },
	[TC_U32] = { "u32", 4 },
	[TC_U8] = { "u8", 1 },
};

const char *const tc_role_names[TC_ROLES] = {
	"embed", "pos",
	"attn_norm", "q", "k", "v", "q_norm", "k_norm", "o",
	"attn_post_norm", "mlp_norm", "gate", "up", "down",
	"mlp_post_norm",
	"final_norm", "head",
};

const char *const tc_part_words[2] = { "weight", "bias" };
const char *const tc_site_names[TC_SITES] = { "attn_in", "attn_out", "mlp_in", "mlp_mid", "head_in" };
const char *const tc_zero_names[TC_ZEROS] = { "none", "int", "min" };
const char *const tc_encoding_names[TC_ENCODINGS] = { "dense", "uniform", "codebook", "levels", "product", "none" };
const char *const tc_mask_names[TC_MASKS] = { "none", "bits", "2:4", "csr" };
const char *const tc_input_op_names[TC_OPS] = { "scale", "hadamard" };

static bool
same(const char *name, const char *s, size_t len)
{
	return strlen(name) == len && memcmp(name, s, len) == 0;
}

int
tc_dtype_find(const char *name, size_t len)
{
	for (int i = 0; i < TC_DTYPES; i++)
		if (same(tc_dtypes[i].name, name, len))
			return i;
	return -1;
}

static int
find(const char *const *names, int n, const char *name, size_t len)
{
	for (int i = 0; i < n; i++)
		if (same(names[i], name, len))
			return i;
	return -1;
}

int
tc_role_find(const char *name, size_t len)
{
	return find(tc_role_names, TC_ROLES, name, len);
}

int
tc_part_word_find(const char *word, size_t len)
{
	return find(tc_part_words, 2, word, len);
}

int
tc_site_find(const char *name, size_t len)
{
	return find(tc_site_names, TC_SITES, name, len);
}

int
tc_role_site(enum tc_role role)
{
	switch (role) {
	case TC_ROLE_Q:
	case TC_ROLE_K:
	case TC_ROLE_V:
		return TC_SITE_ATTN_IN;
	case TC_ROLE_O:
		return TC_SITE_ATTN_OUT;
	case TC_ROLE_GATE:
	case TC_ROLE_UP:
		return TC_SITE_MLP_IN;
	case TC_ROLE_DOWN:
		return TC_SITE_MLP_MID;
	case TC_ROLE_HEAD:
		return TC_SITE_HEAD_IN;
	default:
		return -1;
	}
}

bool
tc_role_is_linear(enum tc_role role)
{
	return role != TC_ROLE_HEAD && tc_role_site(role) >= 0;
}

bool
tc_role_is_of_block(enum tc_role role)
{
	return role > TC_ROLE_POS && role < TC_ROLE_FINAL_NORM;
}

size_t
tc_tensor_rows(const struct tc_tensor *t)
{
	return t->ndim == 2 ? t->shape[0] : 1;
}

size_t
tc_tensor_cols(const struct tc_tensor *t)
{
	return t->ndim == 2 ? t->shape[1] : t->shape[0];
}

size_t
tc_tensor_elements(const struct tc_tensor *t)
{
	return tc_tensor_rows(t) * tc_tensor_cols(t);
}

size_t
tc_tensor_bytes(const struct tc_tensor *t)
{
	size_t n = 0;

	for (int i = 0; i < t->nparts; i++)
		n += t->part[i].size_bytes;
	return n;
}

bool
tc_tensor_is_plain(const struct tc_tensor *t)
{
	return t->residual.bits == 0 && t->rank == 0 && t->mask == TC_MASK_NONE && t->sparse == 0 && t->nops == 0;
}

bool
tc_tensor_is_dense(const struct tc_tensor *t)
{
	return t->format.encoding == TC_DENSE && tc_tensor_is_plain(t);
}

bool
tc_tensor_has_numbers(const struct tc_tensor *t)
{
	return t->format.encoding == TC_DENSE && t->residual.bits == 0 && t->rank == 0 && t->sparse == 0 && t->nops == 0;
}

const struct tc_part *
tc_tensor_part(const struct tc_tensor *t, const char *name)
{
	for (int i = 0; i < t->nparts; i++)
		if (strcmp(t->part[i].name, name) == 0)
			return &t->part[i];
	return NULL;
}

size_t
tc_format_row_groups(const struct tc_format *f, size_t cols)
{
	if (f->group == TC_GROUP_ROW || f->group == TC_GROUP_TENSOR || f->group >= cols)
		return 1;
	return (cols + f->group - 1) / f->group;
}

size_t
tc_format_book_bytes(const struct tc_format *f)
{
	return ((size_t)f->stages * (size_t)f->vector * sizeof(uint16_t)) << f->bits;
}
