/* input_op.h - what is done to a layer's input before it is multiplied. */
#ifndef TC_TENSOR_INPUT_OP_H
#define TC_TENSOR_INPUT_OP_H

#include "tensor/tensor.h"

/* A tensor's input ops on n inputs; scale: their "input_scale", or NULL. */
struct tc_input_ops {
	int n;
	const struct tc_input_op *op;
	const uint16_t *scale;
};
struct tc_input_ops tc_tensor_input_ops(const struct tc_tensor *t);
/* y = M x; y may be x. */
void tc_input_ops_apply(const struct tc_input_ops *o, size_t n, const float *x, float *y);
/* x = M^T x: of a row of what multiplies M x, the row that multiplies x. */
void tc_input_ops_transposed(const struct tc_input_ops *o, size_t n, float *x);
/* x = M^-T x: of a row of what multiplies x, the row that multiplies M x. */
void tc_input_ops_inverse(const struct tc_input_ops *o, size_t n, float *x);
/* 64 signs: bit i of word k is set where input 64 k + i changes its sign;
 * splitmix64's output for the state seed + k times its increment. */
uint64_t tc_input_op_signs(uint64_t seed, size_t k);

/* TC_DATA where n inputs do not allow the op. */
int tc_input_op_check(const struct tc_input_op *op, size_t n, struct tc_err *err) TC_MUST_CHECK;
/* Whether both are the same operation on n inputs. */
bool tc_input_ops_same(const struct tc_input_ops *a, const struct tc_input_ops *b, size_t n);

#endif
