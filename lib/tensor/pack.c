/* pack.c - codes of 1 to 8 bits. */
#include "tensor/tensor.h"

#include <string.h>

/* In every lane of `lane` bits, at most 64, the upper half's lowest `bits` bits go
 * next to the lower half's. */
static inline uint64_t
join_halves(uint64_t v, int lane, int bits)
{
	uint64_t low = (UINT64_MAX >> (64 - bits)) * (UINT64_MAX / (UINT64_MAX >> (64 - lane)));

	return (v & low) | (v >> (lane / 2 - bits) & low << bits);
}

/* Eight codes of b bits are b bytes: n / 8 octets, each through one word. */
static inline void
pack_octets(const uint8_t *codes, size_t n, const int bits, uint8_t *dst)
{
	for (size_t i = 0; i + 8 <= n; i += 8, dst += bits) {
		uint64_t octet;

		memcpy(&octet, codes + i, sizeof(octet));
		octet = join_halves(octet, 16, bits);
		octet = join_halves(octet, 32, 2 * bits);
		octet = join_halves(octet, 64, 4 * bits);
		memcpy(dst, &octet, (size_t)bits);
	}
}

void
tc_pack(const uint8_t *codes, size_t n, int bits, uint8_t *dst)
{
	size_t i = n / 8 * 8;
	uint32_t word = 0;
	int have = 0;

	switch (bits) {   /* known shifts are fast ones */
	case 1: pack_octets(codes, n, 1, dst); break;
	case 2: pack_octets(codes, n, 2, dst); break;
	case 3: pack_octets(codes, n, 3, dst); break;
	case 4: pack_octets(codes, n, 4, dst); break;
	case 5: pack_octets(codes, n, 5, dst); break;
	case 6: pack_octets(codes, n, 6, dst); break;
	case 7: pack_octets(codes, n, 7, dst); break;
	default: memcpy(dst, codes, n); return;
	}
	for (dst += i / 8 * (size_t)bits; i < n; i++) {
		word |= (uint32_t)codes[i] << have;
		have += bits;
		while (have >= 8) {
			*dst++ = (uint8_t)word;
			word >>= 8;
			have -= 8;
		}
	}
	if (have)
		*dst = (uint8_t)word;
}

void
tc_unpack(const uint8_t *src, size_t n, int bits, uint8_t *codes)
{
	uint8_t mask = (uint8_t)((1u << bits) - 1);
	size_t i = 0;

	if (bits == 8) {
		memcpy(codes, src, n);
		return;
	}
	for (; i + 8 <= n; i += 8, src += bits) {
		uint64_t word = 0;

		memcpy(&word, src, (size_t)bits);
		for (int j = 0; j < 8; j++)
			codes[i + (size_t)j] = (uint8_t)(word >> (j * bits)) & mask;
	}
	for (size_t bit = 0; i < n; i++, bit += (size_t)bits) {
		size_t at = bit / 8, shift = bit % 8;
		uint32_t word = src[at];

		if (shift + (size_t)bits > 8)
			word |= (uint32_t)src[at + 1] << 8;
		codes[i] = (uint8_t)(word >> shift) & mask;
	}
}
