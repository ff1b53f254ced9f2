/* rng.h - a seeded generator with the same numbers everywhere:
 * xoshiro256** (Blackman and Vigna, 2018), its state filled by splitmix64. */
#ifndef TC_BASE_RNG_H
#define TC_BASE_RNG_H

#include <stdint.h>

struct tc_rng {
	uint64_t s[4];
};

void tc_rng_seed(struct tc_rng *r, uint64_t seed);
uint64_t tc_rng_next(struct tc_rng *r);

/* Uniform in 0..n-1 without bias (Lemire, 2019); n > 0. */
uint64_t tc_rng_below(struct tc_rng *r, uint64_t n);

/* Uniform in [0, 1), 53 bits. */
double tc_rng_unit(struct tc_rng *r);

#endif
