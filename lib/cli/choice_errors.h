/* choice_errors.h - what tc-quant --errors has measured of tensors' choices. */
#ifndef TC_CLI_CHOICE_ERRORS_H
#define TC_CLI_CHOICE_ERRORS_H

#include "cli/candidates.h"
#include "method/errors.h"

/* By what an error is relative, the best first. */
enum tc_error_metric { TC_ERROR_HESSIAN, TC_ERROR_SQUARES, TC_ERROR_WEIGHT, TC_ERROR_METRICS };

/* Reads the files into the costs of the choices that they are of.  The errors of
 * tensors of one kind are all by metric[kind], the best that all lines of these
 * have; TC_ERROR_METRICS: there are none of that kind.  TC_DATA for a line that is
 * not tc-quant's, or has a negative error, and for a file that names no tensor of
 * the model. */
int tc_choice_errors_read(const struct tc_list *files, struct tc_candidates *all, enum tc_error_metric metric[TC_ALLOC_KINDS], struct tc_err *err) TC_MUST_CHECK;

/* A measured error by metric; TC_ERROR_METRICS: by the best that is known.  0 of a
 * tensor of zeros; TC_DATA when it is not known by that metric. */
int tc_choice_error(const struct tc_errors *e, enum tc_error_metric metric, double *error, struct tc_err *err) TC_MUST_CHECK;

#endif
