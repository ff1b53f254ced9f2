#include "base/math.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ln 2 and pi/2 in pieces: products of the first pieces with a 30-bit integer
 * are exact. */
#define LN2_HI 0x1.62e42fefp-1
#define LN2_LO 0x1.473de6af278edp-34
#define PI_2_HI 0x1.921fb4p+0
#define PI_2_MID 0x1.4442dp-24
#define PI_2_LO 0x1.8469898cc5170p-48

/* Nearest integer, ties to even, for |x| < 2^51. */
static double
nearest(double x)
{
	return x + 0x1.8p52 - 0x1.8p52;
}

/* 2^k by its bits, -1022 <= k <= 1023. */
static double
power_of_two(int k)
{
	uint64_t u = (uint64_t)(k + 1023) << 52;
	double d;

	memcpy(&d, &u, sizeof(d));
	return d;
}

double
tc_exp(double x)
{
	double k, r, s = 1;
	int n;

	if (x != x)
		return x;
	if (x > 709.78)
		return INFINITY;
	if (x < -745.2)
		return 0;
	k = nearest(x * 0x1.71547652b82fep+0);
	r = (x - k * LN2_HI) - k * LN2_LO;
	for (int i = 14; i > 0; i--)     /* r^i / i!, from the small end */
		s = 1 + s * r / i;
	n = (int)k;
	if (n < -1000)                   /* a subnormal result in two steps */
		return s * power_of_two(n + 100) * power_of_two(-100);
	if (n > 1000)
		return s * power_of_two(n - 100) * power_of_two(100);
	return s * power_of_two(n);
}

double
tc_log(double x)
{
	uint64_t u;
	int k;
	double m, s, z, sum = 0;

	memcpy(&u, &x, sizeof(u));
	k = (int)(u >> 52) - 1023;
	u = (u & 0xfffffffffffffu) | (uint64_t)1023 << 52;
	memcpy(&m, &u, sizeof(m));
	if (m > 0x1.6a09e667f3bcdp+0) {  /* sqrt 2: m in (0.707, 1.414] */
		m *= 0.5;
		k++;
	}
	/* log m = 2 atanh s, s = (m - 1) / (m + 1), |s| <= 0.1716. */
	s = (m - 1) / (m + 1);
	z = s * s;
	for (int i = 23; i >= 3; i -= 2)
		sum = sum * z + 1.0 / i;
	return k * LN2_HI + (k * LN2_LO + (2 * s + 2 * s * z * sum));
}

double
tc_pow(double x, double y)
{
	return tc_exp(y * tc_log(x));
}

/* sin or cos of r, |r| <= pi/4. */
static double
sin_series(double r)
{
	double z = r * r, s = 1;

	for (int i = 17; i > 1; i -= 2)
		s = 1 - s * z / (i * (i - 1));
	return r * s;
}

static double
cos_series(double r)
{
	double z = r * r, s = 1;

	for (int i = 18; i > 0; i -= 2)
		s = 1 - s * z / (i * (i - 1));
	return s;
}

static double
turn(double x, int quarter)
{
	double k = nearest(x * 0x1.45f306dc9c883p-1);
	double r = ((x - k * PI_2_HI) - k * PI_2_MID) - k * PI_2_LO;

	switch (((int64_t)k + quarter) & 3) {
	case 0:
		return sin_series(r);
	case 1:
		return cos_series(r);
	case 2:
		return -sin_series(r);
	default:
		return -cos_series(r);
	}
}

double
tc_sin(double x)
{
	return turn(x, 0);
}

double
tc_cos(double x)
{
	return turn(x, 1);
}
