/* spots.h - single weights of a model: lists of them, and ways to choose some
 * to compare with. */
#ifndef TC_METHOD_SPOTS_H
#define TC_METHOD_SPOTS_H

#include "base/rng.h"
#include "tensor/tensor.h"

struct tc_spot {
	size_t tensor;           /* its place in a list of tensors; of one that was read from a file, the block */
	size_t row, column;
	float value;             /* NAN: not known */
};

struct tc_spots {
	struct tc_spot *at;
	size_t n, cap;
};

int tc_spots_add(struct tc_spots *s, const struct tc_spot *spot, struct tc_err *err) TC_MUST_CHECK;
bool tc_spots_have(const struct tc_spots *s, size_t tensor, size_t row, size_t column);
void tc_spots_free(struct tc_spots *s);

/* Adds those of a file of down projections' weights: a line each of block, row,
 * column, value or "-", and perhaps a model's name, separated by white space;
 * what follows a # is a comment.  model: only lines of that name, NULL: all. */
int tc_spots_read(struct tc_spots *s, const char *path, const char *model, struct tc_err *err) TC_MUST_CHECK;

/* In the lists of tensors, [ntensors], those that are not to be looked at are
 * NULL; weights in except are not chosen.
 *
 * Adds the n weights that are largest in magnitude (fewer where there are no
 * more), the first of equals. */
int tc_spots_largest(struct tc_spots *s, size_t ntensors, const struct tc_tensor *const *tensor, const struct tc_spots *except, size_t n, struct tc_err *err) TC_MUST_CHECK;
/* Adds for each of like another weight of the same tensor, drawn from those whose
 * magnitude is within *tolerance of its own, which is doubled until there is
 * one; *tolerance becomes the largest that was needed.  TC_DATA when a tensor
 * has too few weights. */
int tc_spots_random(struct tc_spots *s, const struct tc_tensor *const *tensor, const struct tc_spots *like, double *tolerance, struct tc_rng *rng, struct tc_err *err) TC_MUST_CHECK;

#endif
