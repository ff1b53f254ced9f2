/* math.h - exp, log, pow, sin and cos whose bits are the same on every
 * machine: libm's differ between versions and CPUs.  Plain double arithmetic,
 * argument reduction and Taylor series; the error is at most 2.5 units in the
 * last place over the stated range (tests/unit/math.c measures it). */
#ifndef TC_BASE_MATH_H
#define TC_BASE_MATH_H

double tc_exp(double x);             /* any x; overflows to infinity, underflows to 0; 1.5 ulp */
double tc_log(double x);             /* x > 0 and normal */
double tc_pow(double x, double y);   /* x > 0; 2 + 3 |y log x| ulp */
double tc_sin(double x);             /* |x| <= 2^30 */
double tc_cos(double x);

#endif
