/* overlap.h - how much of an evaluation text a calibration text holds. */
#ifndef TC_METRIC_OVERLAP_H
#define TC_METRIC_OVERLAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define TC_OVERLAP_N 13 /* tokens, as in Brown et al. (2020), appendix C */

/* The share of the evaluation's 13-grams of tokens that occur in the
 * calibration, 0 where either is shorter. */
int tc_overlap(const uint32_t *calib, size_t ncalib, const uint32_t *eval, size_t neval, double *share, struct tc_err *err) TC_MUST_CHECK;

#endif
