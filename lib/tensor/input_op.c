#include "tensor/input_op.h"

#include <math.h>
#include <string.h>

struct tc_input_ops
tc_tensor_input_ops(const struct tc_tensor *t)
{
	const struct tc_part *scale = t->nops ? tc_tensor_part(t, "input_scale") : NULL;

	return (struct tc_input_ops){ t->nops, t->op, scale ? scale->data : NULL };
}

uint64_t
tc_input_op_signs(uint64_t seed, size_t k)
{
	uint64_t z = seed + 0x9e3779b97f4a7c15 * (k + 1);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static void
change_signs(uint64_t seed, size_t n, float *x)
{
	for (size_t k = 0; k * 64 < n; k++) {
		uint64_t signs = tc_input_op_signs(seed, k);
		size_t end = tc_min(n, (k + 1) * 64);

		for (size_t i = k * 64; i < end; i++)
			x[i] = signs >> i % 64 & 1 ? -x[i] : x[i];
	}
}

/* Sums and differences, apart 1, 2, 4, ... */
static void
transform(size_t block, float *x)
{
	for (size_t apart = 1; apart < block; apart *= 2)
		for (size_t i = 0; i < block; i += 2 * apart)
			for (size_t j = i; j < i + apart; j++) {
				float a = x[j], b = x[j + apart];

				x[j] = a + b;
				x[j + apart] = a - b;
			}
}

static void
hadamard(const struct tc_input_op *op, size_t n, float *x)
{
	float factor = 1 / sqrtf((float)op->block);

	for (size_t i = 0; i < n; i += op->block)
		transform(op->block, x + i);
	for (size_t i = 0; i < n; i++)
		x[i] *= factor;
}

void
tc_input_ops_apply(const struct tc_input_ops *o, size_t n, const float *x, float *y)
{
	if (x != y)
		memcpy(y, x, n * sizeof(*y));
	for (int i = 0; i < o->n; i++)
		if (o->op[i].kind == TC_OP_SCALE) {
			for (size_t j = 0; j < n; j++)
				y[j] *= tc_f32_from_f16(o->scale[j]);
		} else {
			change_signs(o->op[i].seed, n, y);
			hadamard(&o->op[i], n, y);
		}
}

void
tc_input_ops_transposed(const struct tc_input_ops *o, size_t n, float *x)
{
	for (int i = o->n - 1; i >= 0; i--)
		if (o->op[i].kind == TC_OP_SCALE) {
			for (size_t j = 0; j < n; j++)
				x[j] *= tc_f32_from_f16(o->scale[j]);
		} else {
			hadamard(&o->op[i], n, x);
			change_signs(o->op[i].seed, n, x);
		}
}

void
tc_input_ops_inverse(const struct tc_input_ops *o, size_t n, float *x)
{
	for (int i = 0; i < o->n; i++)
		if (o->op[i].kind == TC_OP_SCALE) {
			for (size_t j = 0; j < n; j++)
				x[j] /= tc_f32_from_f16(o->scale[j]);
		} else {
			change_signs(o->op[i].seed, n, x);
			hadamard(&o->op[i], n, x);
		}
}

int
tc_input_op_check(const struct tc_input_op *op, size_t n, struct tc_err *err)
{
	if (op->kind >= TC_OPS)
		return tc_fail(err, TC_DATA, "an unknown input op");
	if (op->kind == TC_OP_HADAMARD && (op->block < 1 || (op->block & (op->block - 1)) != 0 || n % op->block != 0))
		return tc_fail(err, TC_DATA, "a Hadamard transform of %llu does not fit %zu inputs", (unsigned long long)op->block, n);
	return 0;
}

bool
tc_input_ops_same(const struct tc_input_ops *a, const struct tc_input_ops *b, size_t n)
{
	if (a->n != b->n)
		return false;
	for (int i = 0; i < a->n; i++) {
		const struct tc_input_op *x = &a->op[i], *y = &b->op[i];

		if (x->kind != y->kind || x->block != y->block || x->seed != y->seed ||
		    (x->kind == TC_OP_SCALE && memcmp(a->scale, b->scale, n * sizeof(*a->scale)) != 0))
			return false;
	}
	return true;
}
