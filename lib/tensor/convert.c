/* convert.c - floating-point types. */
#include "tensor/tensor.h"

#include <assert.h>
#include <string.h>

float
tc_f32_from_bf16(uint16_t h)
{
	uint32_t u = (uint32_t)h << 16;
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

uint16_t
tc_bf16_from_f32(float x)
{
	uint32_t u;

	memcpy(&u, &x, sizeof(u));
	if ((u & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(u >> 16 | 0x40); /* NaN stays NaN */
	return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float
tc_f32_from_f16(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff, u;
	float f;

	if (rest >= 0x7c00) {              /* infinite, NaN */
		u = sign | 0x7f800000 | (rest & 0x3ff) << 13;
		memcpy(&f, &u, sizeof(f));
		return f;
	}
	/* Normals and subnormals alike: place the bits, scale by 2^112. */
	u = rest << 13;
	memcpy(&f, &u, sizeof(f));
	f *= 0x1p112f;
	return sign ? -f : f;
}

uint16_t
tc_f16_from_f32(float x)
{
	uint32_t u, sign, rest, half;
	float f;

	memcpy(&u, &x, sizeof(u));
	sign = u >> 16 & 0x8000;
	rest = u & 0x7fffffff;
	if (rest > 0x7f800000)
		return (uint16_t)(sign | 0x7e00);
	if (rest >= 0x477ff000)            /* rounds to 65536 or is infinite */
		return (uint16_t)(sign | 0x7c00);
	if (rest < 0x38800000) {           /* subnormal: the adder rounds */
		memcpy(&f, &rest, sizeof(f));
		f += 0.5f;
		memcpy(&half, &f, sizeof(half));
		return (uint16_t)(sign | (half - 0x3f000000));
	}
	rest += 0xc8000fff + (rest >> 13 & 1);
	return (uint16_t)(sign | rest >> 13);
}

void
tc_f32_from(enum tc_dtype dtype, const void *src, size_t n, float *dst)
{
	const uint16_t *h = src;
	const double *d = src;

	switch (dtype) {
	case TC_F32:
		memcpy(dst, src, n * sizeof(*dst));
		return;
	case TC_BF16:
		for (size_t i = 0; i < n; i++)
			dst[i] = tc_f32_from_bf16(h[i]);
		return;
	case TC_F16:
		for (size_t i = 0; i < n; i++)
			dst[i] = tc_f32_from_f16(h[i]);
		return;
	case TC_F64:
		for (size_t i = 0; i < n; i++)
			dst[i] = (float)d[i];
		return;
	default:
		assert(!"a dtype of numbers");
	}
}

void
tc_f32_to(enum tc_dtype dtype, const float *src, size_t n, void *dst)
{
	uint16_t *h = dst;

	switch (dtype) {
	case TC_F32:
		memcpy(dst, src, n * sizeof(*src));
		return;
	case TC_BF16:
		for (size_t i = 0; i < n; i++)
			h[i] = tc_bf16_from_f32(src[i]);
		return;
	case TC_F16:
		for (size_t i = 0; i < n; i++)
			h[i] = tc_f16_from_f32(src[i]);
		return;
	default:
		assert(!"a dtype of weights");
	}
}

/* An exponent of all ones marks NaN and infinity.  Blocks are scanned without
 * a branch an element; the hit is then looked for. */
/* Whole blocks without a branch, and of a length that the compiler knows: it
 * makes vectors of them. */
#define FIRST_BAD(type, mask)                                                        \
	do {                                                                         \
		const type *u = src;                                                 \
		for (size_t i = 0; i < n; i += BLOCK) {                              \
			type bad = n - i < BLOCK;                                    \
			for (size_t j = 0; j < BLOCK && n - i >= BLOCK; j++)         \
				bad |= (type)((u[i + j] & (mask)) == (mask));        \
			for (size_t j = i; bad && j < tc_min(n, i + BLOCK); j++)     \
				if ((u[j] & (mask)) == (mask))                       \
					return (int64_t)j;                           \
		}                                                                    \
	} while (0)

int64_t
tc_first_not_finite(enum tc_dtype dtype, const void *src, size_t n)
{
	enum { BLOCK = 256 };

	switch (dtype) {
	case TC_F32:
		FIRST_BAD(uint32_t, 0x7f800000u);
		break;
	case TC_BF16:
		FIRST_BAD(uint16_t, 0x7f80u);
		break;
	case TC_F16:
		FIRST_BAD(uint16_t, 0x7c00u);
		break;
	case TC_F64:
		FIRST_BAD(uint64_t, 0x7ff0000000000000u);
		break;
	default:
		break;
	}
	return -1;
}
