/* hash.h - the hash of the tokenizer's in-memory tables: quick on short
 * strings, and never written to a file. */
#ifndef TC_TOKEN_HASH_H
#define TC_TOKEN_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The finaliser of MurmurHash3 (public domain): mixes every bit into every other. */
static inline uint64_t
tc_mix64(uint64_t h)
{
	h ^= h >> 33;
	h *= UINT64_C(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64_C(0xc4ceb9fe1a85ec53);
	return h ^ h >> 33;
}

static inline uint64_t
tc_hash_bytes(const void *s, size_t n)
{
	const unsigned char *p = s;
	uint64_t h = n * UINT64_C(0x9e3779b97f4a7c15), w;

	for (; n >= 8; n -= 8, p += 8) {
		memcpy(&w, p, 8);
		h = tc_mix64(h ^ w);
	}
	w = 0;
	memcpy(&w, p, n);
	return tc_mix64(h ^ w);
}

#endif
