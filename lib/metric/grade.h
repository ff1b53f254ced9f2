/* grade.h - what a model got right of one task, and how sure that is. */
#ifndef TC_METRIC_GRADE_H
#define TC_METRIC_GRADE_H

#include "metric/accuracy.h"
#include "metric/likelihood.h"

struct tc_grade {
	const char *task;
	size_t n, clusters;
	double chance;                   /* mean of 1 / choices */
	double accuracy[TC_NORMS];
	double greedy;                   /* share whose right choice is what greedy decoding gives */
	/* By the norm that was asked for: */
	struct tc_clustered right;       /* accuracy */
	double low, high;                /* Wilson's interval, of tc_clustered_items() */
	bool above_chance;               /* low is */
	struct tc_clustered margin;
	/* Against a base: */
	double base_accuracy, base_greedy, base_margin;
	struct tc_clustered delta, margin_delta; /* model less base, item by item */
	double delta_low, delta_high;    /* 95%, normal, of the clustered error */
	size_t lost, won;                /* right in the base only; in the model only */
	double sign_p;                   /* tc_sign_test() of these */
};

/* Of the items of that task.  base: NULL, or the base's answers. */
int tc_grade_task(struct tc_grade *g, const char *task, const struct tc_items *items, const struct tc_likelihood *l, const struct tc_likely *model, const struct tc_likely *base, enum tc_choice_norm norm, struct tc_err *err) TC_MUST_CHECK;

#endif
