#include "base/rng.h"

static uint64_t
rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

void
tc_rng_seed(struct tc_rng *r, uint64_t seed)
{
	for (int i = 0; i < 4; i++) {
		uint64_t z = seed += 0x9e3779b97f4a7c15u;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
		z = (z ^ z >> 27) * 0x94d049bb133111ebu;
		r->s[i] = z ^ z >> 31;
	}
}

uint64_t
tc_rng_next(struct tc_rng *r)
{
	uint64_t *s = r->s;
	uint64_t result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

uint64_t
tc_rng_below(struct tc_rng *r, uint64_t n)
{
	for (;;) {
		unsigned __int128 m = (unsigned __int128)tc_rng_next(r) * n;

		if ((uint64_t)m >= -n % n)
			return (uint64_t)(m >> 64);
	}
}

double
tc_rng_unit(struct tc_rng *r)
{
	return (double)(tc_rng_next(r) >> 11) * 0x1p-53;
}
