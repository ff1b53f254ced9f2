/* alloc.h - which of its choices each tensor takes, when all together may have so
 * many bytes.
 *
 * Errors are finite and add up.  Every function fills chosen[n], the place of
 * each item's choice, and never goes over the budget: TC_USAGE when the cheapest
 * choices do. */
#ifndef TC_METHOD_ALLOC_H
#define TC_METHOD_ALLOC_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { TC_ALLOC_CHOICES_MAX = 256, TC_ALLOC_KINDS = 3, TC_ALLOC_CLASSES_MAX = 8 };

struct tc_alloc_choice {
	uint64_t bytes;
	double error;
};

struct tc_alloc_item {
	const struct tc_alloc_choice *choice; /* [n] */
	size_t n;             /* 1..TC_ALLOC_CHOICES_MAX; 1: it is fixed */
	size_t kind;          /* below TC_ALLOC_KINDS: items of a kind that are not fixed have the same
	                       * list of choices, for uniform */
	uint64_t parameters;  /* for classes, */
	double rank;          /* and what they are ranked by, the largest first */
};

struct tc_alloc {
	const struct tc_alloc_item *item;
	size_t n;
	uint64_t budget;      /* bytes; UINT64_MAX: any number */
};

uint64_t tc_alloc_bytes(const struct tc_alloc *a, const size_t *chosen);
double tc_alloc_error(const struct tc_alloc *a, const size_t *chosen);

/* From the cheapest choices on, the upgrade that takes most error away for its
 * bytes, among those that there is room for, until there is none.  Upgrades of one
 * item that follow each other lie on the convex hull of its choices: what comes of
 * it is the solution of the Lagrangian, and what fits into the rest. */
int tc_alloc_greedy(const struct tc_alloc *a, size_t *chosen, struct tc_err *err) TC_MUST_CHECK;

/* The least error there is, by dynamic programming over bytes (multiple-choice
 * knapsack: Dudzinski and Walukiewicz, 1987).  They are counted in units: of
 * their greatest common divisor, which is exact; where the budget has more than
 * 2^17 of these, of the budget's 2^17th part, rounded up, and what is left over
 * is spent as tc_alloc_greedy() does.  Of equals the one of fewer bytes.
 * Memory: an item 2^17 bytes. */
int tc_alloc_knapsack(const struct tc_alloc *a, size_t *chosen, struct tc_err *err) TC_MUST_CHECK;

/* One choice for all items of a kind: those with the least error together. */
int tc_alloc_uniform(const struct tc_alloc *a, size_t *chosen, struct tc_err *err) TC_MUST_CHECK;

/* Items that are not fixed, ranked, fall into classes whose shares of the
 * parameters are share[n] (adding up to 1), in the order of their choices; an item
 * is in the class in which the middle of its parameters lies.  With a budget all
 * boundaries are moved by one factor, so that as many bytes are spent as may be. */
int tc_alloc_classes(const struct tc_alloc *a, const double *share, size_t n, size_t *chosen, struct tc_err *err) TC_MUST_CHECK;

#endif
