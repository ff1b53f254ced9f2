/* layout.c - the tensors that a model of a config has, and where its checkpoint
 * keeps them. */
#include "model/arch.h"

#include <stdio.h>
#include <string.h>

static bool
present(const struct tc_config *c, const struct tc_slot *s)
{
	switch (s->when) {
	case TC_IF_QKV_BIAS: return c->qkv_bias;
	case TC_IF_O_BIAS: return c->o_bias;
	case TC_IF_MLP_BIAS: return c->mlp_bias;
	case TC_IF_UNTIED: return !c->tied;
	case TC_IF_PRE_NORM: return c->pre_norm;
	case TC_IF_POST_NORM: return c->post_norm;
	case TC_IF_PRE_ONLY: return c->pre_norm && !c->post_norm;
	case TC_IF_PRE_AND_POST: return c->pre_norm && c->post_norm;
	case TC_IF_QK_NORM: return c->qk_norm != TC_QK_NORM_NONE;
	case TC_ALWAYS: break;
	}
	return true;
}

static uint64_t
dim_size(const struct tc_config *c, enum tc_dim d)
{
	switch (d) {
	case TC_DIM_VOCAB: return c->vocab;
	case TC_DIM_POSITIONS: return c->positions;
	case TC_DIM_WIDTH: return c->width;
	case TC_DIM_Q_NORM: return c->head_dim * (c->qk_norm == TC_QK_NORM_WHOLE ? c->heads : 1);
	case TC_DIM_K_NORM: return c->head_dim * (c->qk_norm == TC_QK_NORM_WHOLE ? c->kv_heads : 1);
	case TC_DIM_FFN: return c->ffn;
	case TC_DIM_Q: return c->heads * c->head_dim;
	case TC_DIM_KV: return c->kv_heads * c->head_dim;
	case TC_DIM_NONE: break;
	}
	return 0;
}

static void
fill(const struct tc_config *c, const struct tc_arch *a, const struct tc_slot *s, size_t block, struct tc_tensor *t)
{
	memset(t, 0, sizeof(*t));
	if (s->where == TC_BLOCK)
		snprintf(t->name, sizeof(t->name), "%s%zu.%s", a->block, block, s->name);
	else
		snprintf(t->name, sizeof(t->name), "%s", s->name);
	t->role = s->role;
	t->bias = s->bias;
	t->block = s->where == TC_BLOCK ? (int)block : -1;
	t->ndim = s->in == TC_DIM_NONE ? 1 : 2;
	t->shape[0] = dim_size(c, s->out);
	t->shape[1] = s->in == TC_DIM_NONE ? 0 : dim_size(c, s->in);
}

/* The i-th slot of those at a place that this config has; NULL past the last
 * (then *count is how many there are). */
static const struct tc_slot *
nth_slot(const struct tc_config *c, const struct tc_arch *a, enum tc_where where, size_t i, size_t *count)
{
	size_t n = 0;

	for (const struct tc_slot *s = a->slots; s->name; s++) {
		if (s->where != where || !present(c, s))
			continue;
		if (n++ == i)
			return s;
	}
	*count = n;
	return NULL;
}

/* The i-th tensor's slot and block; NULL past the last. */
static const struct tc_slot *
slot_at(const struct tc_config *c, const struct tc_arch *a, size_t i, size_t *block)
{
	const struct tc_slot *s = nth_slot(c, a, TC_BEFORE, i, block);
	size_t n = 1;

	if (s)
		return s;
	i -= *block;
	nth_slot(c, a, TC_BLOCK, SIZE_MAX, &n);
	*block = i / n;
	if (*block < c->layers)
		return nth_slot(c, a, TC_BLOCK, i % n, &n);
	return nth_slot(c, a, TC_AFTER, i - n * c->layers, &n);
}

int
tc_config_tensor(const struct tc_config *c, size_t i, struct tc_tensor *t)
{
	const struct tc_arch *a = tc_arch_find(c->arch);
	size_t block = 0;
	const struct tc_slot *s = a ? slot_at(c, a, i, &block) : NULL;

	if (!s)
		return 0;
	fill(c, a, s, block, t);
	return 1;
}

double
tc_config_usual_norm_offset(const struct tc_config *c)
{
	return tc_arch_find(c->arch)->defaults.norm_offset;
}

const char *
tc_config_prefix(const struct tc_config *c)
{
	return tc_arch_find(c->arch)->prefix;
}

int
tc_config_origin(const struct tc_config *c, size_t i, struct tc_origin *o)
{
	const struct tc_arch *a = tc_arch_find(c->arch);
	size_t block = 0;
	const struct tc_slot *s = a ? slot_at(c, a, i, &block) : NULL;
	bool before = true;

	if (!s)
		return 0;
	*o = (struct tc_origin){ .fused = s->fused != NULL };
	o->transposed = a->conv1d && s->where == TC_BLOCK && s->in != TC_DIM_NONE;
	if (s->where == TC_BLOCK)
		snprintf(o->name, sizeof(o->name), "%s%zu.%s", a->block, block, s->fused ? s->fused : s->name);
	else
		snprintf(o->name, sizeof(o->name), "%s", s->name);
	if (!s->fused)
		o->rows = dim_size(c, s->out);
	for (const struct tc_slot *f = a->slots; s->fused && f->name; f++) {
		before = before && f != s;
		if (!f->fused || strcmp(f->fused, s->fused) != 0 || !present(c, f))
			continue;
		o->rows += dim_size(c, f->out);
		o->row0 += before ? dim_size(c, f->out) : 0;
	}
	return 1;
}

uint64_t
tc_config_parameters(const struct tc_config *c)
{
	struct tc_tensor t;
	uint64_t sum = 0;

	for (size_t i = 0; tc_config_tensor(c, i, &t); i++)
		sum += t.shape[0] * (t.ndim == 2 ? t.shape[1] : 1);
	return sum;
}

/* "model.layers.12.mlp.up_proj.weight" -> 12 and the rest; false for other names. */
static bool
split_name(const struct tc_arch *a, const char *name, size_t *block, const char **rest)
{
	size_t n = strlen(a->block);
	size_t b = 0, digits;

	if (strncmp(name, a->block, n) != 0)
		return false;
	name += n;
	digits = strspn(name, "0123456789");
	if (digits == 0 || digits > 6 || name[digits] != '.' || (name[0] == '0' && digits > 1))
		return false;
	for (size_t i = 0; i < digits; i++)
		b = b * 10 + (size_t)(name[i] - '0');
	*block = b;
	*rest = name + digits + 1;
	return true;
}

int
tc_config_find(const struct tc_config *c, const char *name, struct tc_tensor *t)
{
	const struct tc_arch *a = tc_arch_find(c->arch);
	const char *rest = name;
	size_t block = 0;
	bool inside;

	if (!a)
		return 0;
	inside = split_name(a, name, &block, &rest);
	if (inside && block >= c->layers)
		return 0;
	for (const struct tc_slot *s = a->slots; s->name; s++)
		if ((s->where == TC_BLOCK) == inside && present(c, s) && strcmp(s->name, rest) == 0) {
			fill(c, a, s, block, t);
			return 1;
		}
	return 0;
}

static void
print_shape(const struct tc_tensor *t, char *buf, size_t size)
{
	size_t n = 0;

	buf[0] = '\0';
	for (int i = 0; i < t->ndim && i < TC_DIMS_MAX && n < size; i++)
		n += (size_t)snprintf(buf + n, size - n, "%s%llu", i ? " x " : "", (unsigned long long)t->shape[i]);
}

int
tc_config_check(const struct tc_config *c, const struct tc_tensor *t, struct tc_err *err)
{
	struct tc_tensor want;
	char got_shape[96], want_shape[96];
	bool same;

	if (!tc_config_find(c, t->name, &want))
		return tc_fail(err, TC_DATA, "tensor '%s': a %s model of this config has no such tensor", t->name, c->arch);
	if (t->role != want.role || t->bias != want.bias || t->block != want.block)
		return tc_fail(err, TC_DATA, "tensor '%s': is %s%s of block %d, the config says %s%s of block %d", t->name,
		    tc_role_names[t->role], t->bias ? " bias" : "", t->block,
		    tc_role_names[want.role], want.bias ? " bias" : "", want.block);
	same = t->ndim == want.ndim;
	for (int i = 0; same && i < want.ndim; i++)
		same = t->shape[i] == want.shape[i];
	if (same)
		return 0;
	print_shape(t, got_shape, sizeof(got_shape));
	print_shape(&want, want_shape, sizeof(want_shape));
	return tc_fail(err, TC_DATA, "tensor '%s': has shape %s, the config says %s", t->name, got_shape, want_shape);
}

size_t
tc_config_tensors(const struct tc_config *c)
{
	struct tc_tensor t;
	size_t n = 0;

	while (tc_config_tensor(c, n, &t) > 0)
		n++;
	return n;
}

size_t
tc_config_place(const struct tc_config *c, const struct tc_tensor *t)
{
	struct tc_tensor u;
	size_t i = 0;

	while (tc_config_tensor(c, i, &u) > 0 && (u.role != t->role || u.bias != t->bias || u.block != t->block))
		i++;
	return i;
}
