#include "solve/lapack.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"

static const char library[] = "libopenblas.so.0";

typedef void factor_fn(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_length);
static factor_fn *dpotrf, *dpotri;
typedef void solve_fn(const char *uplo, const int *n, const int *nrhs, const double *a, const int *lda, double *b, const int *ldb, int *info, size_t uplo_length);
static solve_fn *dpotrs;

/* The core type whose instructions a kind has. */
static const char *
core_type(void)
{
	const char *kind = tc_kernels_name();

	if (strcmp(kind, "generic") == 0)
		return "PRESCOTT";
	return strcmp(kind, "avx2") == 0 ? "HASWELL" : "SKYLAKEX";
}

/* ISO C knows no conversion from an object's address to a function's: f is where
 * the pointer is. */
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

	if (dpotri)
		return 0;
	if (setenv("OPENBLAS_NUM_THREADS", "1", 1) < 0 || setenv("OPENBLAS_CORETYPE", core_type(), 1) < 0)
		return tc_fail_errno(err, "setenv");
	handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
	if (!handle)
		return tc_fail(err, TC_NOINPUT, "OpenBLAS cannot be loaded: %s", dlerror());
	if (find(handle, "dpotrf_", &dpotrf, err) < 0 || find(handle, "dpotrs_", &dpotrs, err) < 0)
		return -1;
	return find(handle, "dpotri_", &dpotri, err);
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
