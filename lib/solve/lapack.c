#include "solve/lapack.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernel/kernel.h"

static const char library[] = "libopenblas.so.0";

typedef void factor_fn(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_length);
static factor_fn *dpotrf, *dpotri;
typedef void solved_fn(const char *uplo, const int *n, const int *nrhs, const double *a, const int *lda, double *b, const int *ldb, int *info, size_t uplo_length);
static solved_fn *dpotrs;
typedef void eigen_fn(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
    const int *lwork, int *iwork, const int *liwork, int *info, size_t jobz_length, size_t uplo_length);
static eigen_fn *dsyevd;
typedef void product_fn(const char *transa, const char *transb, const int *m, const int *n, const int *k, const double *alpha,
    const double *a, const int *lda, const double *b, const int *ldb, const double *beta, double *c, const int *ldc,
    size_t transa_length, size_t transb_length);
static product_fn *dgemm;
typedef void solve_fn(const char *side, const char *uplo, const char *transa, const char *diag, const int *m, const int *n,
    const double *alpha, const double *a, const int *lda, double *b, const int *ldb, size_t side_length, size_t uplo_length,
    size_t transa_length, size_t diag_length);
static solve_fn *dtrsm;

/* The core type whose instructions a kind has. */
static const char *
core_type(void)
{
	const char *kind = tc_kernels_name();

	if (strcmp(kind, "generic") == 0)
		return "PRESCOTT";
	return strcmp(kind, "avx2") == 0 ? "HASWELL" : "SKYLAKEX";
}

/* f points to a pointer to a function: ISO C knows no conversion from an object's
 * address to one. */
static int
find(void *handle, const char *name, void *f, struct tc_err *err)
{
	void *p = dlsym(handle, name);

	memcpy(f, &p, sizeof(p));
	return p ? 0 : tc_fail(err, TC_NOINPUT, "%s has no %s", library, name);
}

int
tc_lapack_load(struct tc_err *err)
{
	void *handle;

	if (dtrsm)
		return 0;
	if (setenv("OPENBLAS_NUM_THREADS", "1", 1) < 0 || setenv("OPENBLAS_CORETYPE", core_type(), 1) < 0)
		return tc_fail_errno(err, "setenv");
	handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return tc_fail(err, TC_NOINPUT, "OpenBLAS cannot be loaded: %s", dlerror());
	if (find(handle, "dpotrf_", &dpotrf, err) < 0 || find(handle, "dpotri_", &dpotri, err) < 0 ||
	    find(handle, "dpotrs_", &dpotrs, err) < 0 || find(handle, "dsyevd_", &dsyevd, err) < 0 ||
	    find(handle, "dgemm_", &dgemm, err) < 0)
		return -1;
	return find(handle, "dtrsm_", &dtrsm, err);
}

/* Rows are LAPACK's columns: our upper triangle is its lower one. */
static int
call(factor_fn *f, double *a, size_t n)
{
	int size = (int)n, info = 0;

	f("L", &size, a, &size, &info, 1);
	return info != 0;
}

int
tc_lapack_cholesky(double *a, size_t n)
{
	return call(dpotrf, a, n);
}

int
tc_lapack_cholesky_inverse(double *r, size_t n)
{
	return call(dpotri, r, n);
}

int
tc_lapack_cholesky_solve(const double *r, size_t n, size_t rows, double *b)
{
	int size = (int)n, many = (int)rows, info = 0;

	dpotrs("L", &size, &many, r, &size, b, &size, &info, 1);
	return info != 0;
}

int
tc_lapack_eigen(double *a, size_t n, bool vectors, double *value, struct tc_err *err)
{
	const char *job = vectors ? "V" : "N";
	int size = (int)n, info = 0, ask = -1, isize, wsize, *iwork;
	double best, *work;

	dsyevd(job, "U", &size, a, &size, value, &best, &ask, &isize, &ask, &info, 1, 1);
	if (info != 0 || !(best <= INT_MAX))
		return tc_fail(err, TC_DATA, "%zu eigenvalues are too many", n);
	wsize = (int)best;
	work = tc_alloc((size_t)wsize, sizeof(*work), err);
	iwork = tc_alloc((size_t)isize, sizeof(*iwork), err);
	if (!work || !iwork) {
		free(work);
		free(iwork);
		return -1;
	}
	dsyevd(job, "U", &size, a, &size, value, work, &wsize, iwork, &isize, &info, 1, 1);
	free(work);
	free(iwork);
	return info == 0 ? 0 : tc_fail(err, TC_DATA, "eigenvalues of %zu x %zu were not found", n, n);
}

/* Transposed, c^T = b^T a^T: our rows are its columns. */
void
tc_lapack_product(size_t m, size_t n, size_t k, const double *a, size_t lda, const double *b, bool transposed, double *c)
{
	int im = (int)m, in = (int)n, ik = (int)k, ia = (int)lda, ib = transposed ? ik : in;
	double one = 1, zero = 0;

	dgemm(transposed ? "T" : "N", "N", &in, &im, &ik, &one, b, &ib, a, &ia, &zero, c, &in, 1, 1);
}

void
tc_lapack_solve_upper(const double *r, size_t n, double *b, size_t m)
{
	int in = (int)n, im = (int)m;
	double one = 1;

	dtrsm("L", "L", "T", "N", &in, &im, &one, r, &in, b, &in, 1, 1, 1, 1);
}
