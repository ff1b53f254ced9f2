#include "solve/lapack.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"

static const char library[] = "libopenblas.so.0";

typedef void factor_fn(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_length);
static factor_fn *dpotrf, *dpotri;

/* The core type whose instructions a kind has. */
static const char *
core_type(void)
{
	const char *kind = tc_kernels_name();

	if (strcmp(kind, "generic") == 0)
		return "PRESCOTT";
	return strcmp(kind, "avx2") == 0 ? "HASWELL" : "SKYLAKEX";
}

/* ISO C knows no conversion from an object's address to a function's. */
static factor_fn *
function(void *handle, const char *name)
{
	void *p = dlsym(handle, name);
	factor_fn *f;

	memcpy(&f, &p, sizeof(f));
	return f;
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
	dpotrf = function(handle, "dpotrf_");
	dpotri = function(handle, "dpotri_");
	if (!dpotrf || !dpotri)
		return tc_fail(err, TC_NOINPUT, "%s has no dpotrf and dpotri", library);
	return 0;
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
