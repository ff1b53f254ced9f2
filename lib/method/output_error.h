/* output_error.h - what errors D of a layer's weights, [rows][n], do to its
 * outputs, summed over the calibration tokens at the site it reads:
 *
 *   with their Hessian H, the sum of x x^T    tr(D H D^T)
 *   with squares alone, its diagonal          sum_ij H_jj D_ij^2
 *
 *   tc_output_error_open(&e, &in, &err);
 *   tc_output_error_add(&e, 0, n, rows, d, ldd, sum);    any number of threads
 *   tc_output_error_close(&e);                           also after a failure */
#ifndef TC_METHOD_OUTPUT_ERROR_H
#define TC_METHOD_OUTPUT_ERROR_H

#include "method/quantizer.h"

struct tc_output_error {
	size_t n;              /* the layer's inputs */
	const double *squares; /* without a Hessian */
	float *panels;         /* of its lower triangle: see output_error.c */
};

/* in outlives e.  TC_DATA when neither Hessian nor squares are there. */
int tc_output_error_open(struct tc_output_error *e, const struct tc_quant_input *in, struct tc_err *err) TC_MUST_CHECK;
/* sum[r] += the error of row r of d, of which inputs first .. end-1 count:
 * d[r * ldd + j] is of input j.  The bits do not depend on what other rows
 * there are. */
void tc_output_error_add(const struct tc_output_error *e, size_t first, size_t end, size_t rows, const float *d, size_t ldd, double *sum);
void tc_output_error_close(struct tc_output_error *e);

#endif
