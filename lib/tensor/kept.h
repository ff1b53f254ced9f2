/* kept.h - a tensor that outlives the record it came in. */
#ifndef TC_TENSOR_KEPT_H
#define TC_TENSOR_KEPT_H

#include "tensor/tensor.h"

struct tc_kept {
	struct tc_tensor t;
	void *owned;    /* the parts' bytes, or NULL when they lie in a mapping */
	bool there;
};

/* Copies n parts' bytes into one piece of memory, each aligned to TC_ALIGN,
 * and points the parts there; *owned is for free(3). */
int tc_parts_copy(struct tc_part *part, int n, void **owned, struct tc_err *err) TC_MUST_CHECK;

/* Keeps from; its parts are copied unless they stay valid by themselves
 * (mapped). */
int tc_kept_set(struct tc_kept *k, const struct tc_tensor *from, bool mapped, struct tc_err *err) TC_MUST_CHECK;
/* The same with the n elements at[] (row by row) zero: of from's own type where
 * it is dense, else of f32. */
int tc_kept_zeroed(struct tc_kept *k, const struct tc_tensor *from, size_t n, const size_t *at, struct tc_err *err) TC_MUST_CHECK;
void tc_kept_free(struct tc_kept *k);

#endif
