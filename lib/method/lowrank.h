/* lowrank.h - the matrix of low rank that is nearest to a layer's weights, or to
 * what quantization has taken from them, by what its output loses.
 *
 * Of D [out][in], the weights or what is missing of them, and M, which errors of
 * the weights count by,
 *
 *   M = H + d I    the inputs' sum of x x^T, damped
 *   M = diag(s)    the inputs' sums of squares s, damped likewise
 *   M = I          the weights alone
 *
 * the matrix D_r of rank r that leaves the least tr((D - D_r) M (D - D_r)^T), the
 * output's squared error over the calibration tokens, is that of the singular
 * vectors of D M^(1/2) (Eckart and Young; in this metric SVD-LLM, Wang et al. 2024,
 * and for the residual LQER, Zhang et al. 2024).  It is had without them, from the
 * smaller of two symmetric matrices:
 *
 *   out <= in   with U the first r eigenvectors of D M D^T, u v = U (U^T D)
 *   out > in    with M = L L^T and P those of L^T D^T D L, u v = (D L P) (P^T L^-1)
 *
 * and the error left is the sum of the other eigenvalues.  A column of u and its row
 * of v are made equally long, so that both fit 16 bits, or fewer.
 *
 *   tc_lowrank_open(&l, &in, true, pool, &err);
 *   r = tc_lowrank_rank_of(&l, ...);
 *   tc_lowrank_make(&l, r, TC_F16, &q, pool, &err);
 *   tc_lowrank_close(&l);                               also after a failure */
#ifndef TC_METHOD_LOWRANK_H
#define TC_METHOD_LOWRANK_H

#include "method/quantizer.h"

struct tc_lowrank_input {
	const struct tc_tensor *w;   /* the weights, finite */
	const struct tc_tensor *q;   /* what stands for them and is to be added to, or NULL */
	const float *hessian;        /* packed lower triangle, or NULL: then */
	const double *squares;       /* [in], or NULL: then M is I */
	double damping;              /* d over the mean of M's diagonal */
};

struct tc_lowrank {
	const struct tc_lowrank_input *in;
	size_t rows, cols, n;        /* n: the fewer of them */
	double *value;               /* [n] eigenvalues, descending, none below 0 */
	double *lost;                /* [n + 1]: sums of those from r on */
	double total;                /* what the output of w is: tr(W M W^T) */
	double damping;              /* d: as was asked for or, where M was not positive definite, more */
	/* For tc_lowrank_make(): */
	double *d;                   /* [rows][cols] */
	double *vector;              /* [n][n] eigenvectors, ascending, or NULL */
	double *factor;              /* R = L^T [cols][cols], upper, or NULL; */
	double *diagonal;            /* or [cols] its diagonal; neither: 1 */
};

/* vectors: tc_lowrank_make() will be called.  in outlives l.  Takes the memory of some
 * matrices [out][in] and [in][in] of doubles.  The bits do not depend on the number of threads.  Needs
 * OpenBLAS. */
int tc_lowrank_open(struct tc_lowrank *l, const struct tc_lowrank_input *in, bool vectors, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
void tc_lowrank_close(struct tc_lowrank *l);

/* The output's relative squared error with that rank: lost[rank] / total, 0 when
 * there is nothing to be off by. */
double tc_lowrank_error(const struct tc_lowrank *l, size_t rank);
/* The smallest rank whose error is at most that. */
size_t tc_lowrank_rank_of(const struct tc_lowrank *l, double error);

/* Bytes of factors of the rank. */
uint64_t tc_lowrank_bytes(size_t rows, size_t cols, size_t rank, enum tc_dtype dtype);

/* q becomes factors of the type alone or, with in->q, those and it.  rank is 1 to l->n. */
int tc_lowrank_make(const struct tc_lowrank *l, size_t rank, enum tc_dtype dtype, struct tc_quantized *q, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif
