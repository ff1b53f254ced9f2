/* exp, log, pow, sin and cos against the C library's long doubles: the bounds
 * that base/math.h states. */
#include <math.h>

#include "base/math.h"
#include "base/rng.h"
#include "tap.h"

enum { TRIES = 300000 };

static struct tc_rng rng;

static double
between(double low, double high)
{
	return low + (high - low) * tc_rng_unit(&rng);
}

/* The error in units in the last place of the true value. */
static double
ulps(double got, long double want)
{
	int e;

	if (want == 0)
		return got == 0 ? 0 : INFINITY;
	frexpl(want, &e);
	return (double)(fabsl((long double)got - want) / ldexpl(1, e - 53 < -1074 ? -1074 : e - 53));
}

/* The largest error of f over low..high; at is where. */
static double
worst(double (*f)(double), long double (*truth)(long double), double low, double high, double *at)
{
	double most = 0;

	for (int i = 0; i < TRIES; i++) {
		double x = between(low, high), u = ulps(f(x), truth(x));

		if (!(u <= most)) {
			most = u;
			*at = x;
		}
	}
	return most;
}

static void
bounded(const char *name, double (*f)(double), long double (*truth)(long double), double low, double high, double bound)
{
	double at = 0, u = worst(f, truth, low, high, &at);

	ok(u <= bound, "%s over %g..%g: at most %.2f ulp (%.2f at %a)", name, low, high, bound, u, at);
}

static double
log_of_power(double e)
{
	return tc_log(exp2(e));
}

static long double
true_log_of_power(long double e)
{
	return logl((long double)exp2((double)e));
}

/* The relative error of pow is that of exp plus |y log x| times that of log. */
static void
test_pow(void)
{
	double most = 0, theta = 0;

	for (int i = 0; i < TRIES; i++) {
		double x = exp2(between(-30, 30)), y = between(-20, 20);
		double u = ulps(tc_pow(x, y), powl(x, y)) / (2 + 3 * fabs(y * log(x)));

		most = u > most ? u : most;
	}
	ok(most <= 1, "pow: at most 2 + 3 |y log x| ulp (%.2f of that)", most);
	for (int i = 0; i < TRIES; i++) {
		double y = tc_rng_unit(&rng), u = ulps(tc_pow(1e6, y), powl(1e6, y));

		theta = u > theta ? u : theta;
	}
	ok(theta <= 16, "pow(1e6, 0..1), as rope uses it: at most 16 ulp (%.2f)", theta);
}

static void
test_special(void)
{
	ok(tc_exp(0) == 1 && tc_exp(1000) == INFINITY && tc_exp(INFINITY) == INFINITY && tc_exp(-1000) == 0 &&
	    tc_exp(-INFINITY) == 0 && isnan(tc_exp(NAN)), "exp of 0, large, infinite and NaN");
	ok(isfinite(tc_exp(709.78)) && tc_exp(-745.1) > 0, "exp reaches the ends of the range");
	ok(tc_log(1) == 0 && fabs(tc_log(2) - 0x1.62e42fefa39efp-1) <= 0x1p-53 && tc_log(0x1p-1022) < -708,
	    "log of 1, 2 and the smallest normal");
	ok(tc_pow(3, 0) == 1 && tc_pow(1, 123.4) == 1, "pow to and of 1");
	ok(tc_sin(0) == 0 && tc_cos(0) == 1, "sin and cos of 0");
}

int
main(void)
{
	tc_rng_seed(&rng, 1);
	bounded("exp", tc_exp, expl, -1, 1, 1.5);
	bounded("exp", tc_exp, expl, -708, 709.7, 1.5);
	bounded("exp to subnormal results", tc_exp, expl, -745, -708, 1.5);
	bounded("log", tc_log, logl, 0.5, 2, 2.5);
	bounded("log", tc_log, logl, 0.999, 1.001, 2.5);
	bounded("log of 2^x", log_of_power, true_log_of_power, -1021, 1023, 2.5);
	bounded("sin", tc_sin, sinl, -3.2, 3.2, 2.5);
	bounded("cos", tc_cos, cosl, -3.2, 3.2, 2.5);
	bounded("sin", tc_sin, sinl, -0x1p30, 0x1p30, 2.5);
	bounded("cos", tc_cos, cosl, -0x1p30, 0x1p30, 2.5);
	test_pow();
	test_special();
	return done_testing();
}
