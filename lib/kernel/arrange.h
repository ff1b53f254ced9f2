/* arrange.h - a panel's weights as the matrix unit reads them; part of amx.c.
 *
 * A tile has a row for inputs t and t + APART of a step, and in it 16 outputs;
 * a panel two such tiles for each step and part. */

enum { LINE_BYTES = 64 };

/* What a later panel holds is asked for while one is arranged, some bytes with
 * every row of tiles: a chunk takes too little of a panel for the processor
 * to see by itself what comes next. */
struct later {
	const char *from;
	size_t row_bytes;
};

ALWAYS_INLINE void
ask_for(const struct later *later, size_t row)
{
	for (size_t i = 0; i < later->row_bytes; i += LINE_BYTES)
		_mm_prefetch(later->from + row * later->row_bytes + i, _MM_HINT_T0);
}

/* The panel that comes AHEAD panels after q, which may be in a later chunk or
 * beyond this product's panels, and its scales.  Where there is none, nothing
 * happens. */
static struct later
panel_ahead(const struct product *p, size_t q, const struct chunk *c)
{
	const struct tc_matrix *m = p->m;
	size_t first = c->first + (q + AHEAD) / p->panels * c->n, panel = p->panel + (q + AHEAD) % p->panels;

	if (first >= m->in) {
		first = 0;
		panel += p->panels;
	}
	if (m->group >= TC_GROUP_WIDE) {
		size_t at = (panel * m->groups + first / m->group) * NR;

		_mm_prefetch((const char *)m->scale + at * (m->half ? sizeof(uint16_t) : sizeof(float)), _MM_HINT_T0);
		if (m->shift != TC_SHIFT_NONE)
			_mm_prefetch((const char *)m->zero + at * (m->shift == TC_SHIFT_ZERO ? 1 : sizeof(float)), _MM_HINT_T0);
	}
	return (struct later){ (const char *)panel_of(m, panel) + first * m->panel_bytes / m->in, 2 * m->panel_bytes / m->in };
}

/* Row t of both tiles from rows i and i + APART of a panel of bf16 numbers. */
static void
arrange_bf16(const uint16_t *panel, const struct chunk *c, const struct later *later, tile (*to)[HALVES])
{
	const __m512i left = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5,
	    36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
	const __m512i right = _mm512_or_si512(left, _mm512_set1_epi16(16));
	size_t n = c->n, steps = c->steps;

	for (size_t s = 0; s < steps; s++, to++)
		for (size_t t = 0; t < TILE_ROWS; t++) {
			size_t i = s * STEP + t;
			__m512i a = i < n ? _mm512_loadu_si512(panel + i * NR) : _mm512_setzero_si512();
			__m512i b = i + APART < n ? _mm512_loadu_si512(panel + (i + APART) * NR) : _mm512_setzero_si512();

			ask_for(later, s * TILE_ROWS + t);
			_mm512_store_si512(to[0][0] + t * W, _mm512_permutex2var_epi16(a, left, b));
			_mm512_store_si512(to[0][1] + t * W, _mm512_permutex2var_epi16(a, right, b));
		}
}

/* The same of numbers that take more parts. */
ALWAYS_INLINE void
arrange(load_fn *load_panel, const void *panel, const struct chunk *c, const struct later *later, const int parts,
    tile (*to)[HALVES])
{
	size_t n = c->n, steps = c->steps;

	for (size_t s = 0; s < steps; s++, to += parts)
		for (size_t t = 0; t < TILE_ROWS; t++) {
			ask_for(later, s * TILE_ROWS + t);
			UNROLL for (size_t h = 0; h < HALVES; h++) {
				size_t i = s * STEP + t;
				vf a[PARTS], b[PARTS];

				split(i < n ? load_panel(panel, i * NR + h * W) : (vf){0}, parts, a);
				split(i + APART < n ? load_panel(panel, (i + APART) * NR + h * W) : (vf){0}, parts, b);
				UNROLL for (int part = 0; part < parts; part++)
					store((float *)to[part][h] + t * W, (vf)paired(a[part], b[part]));
			}
		}
}

static void
arrange_f16(const void *panel, const struct chunk *c, const struct later *later, tile (*to)[HALVES])
{
	arrange(load_f16, panel, c, later, 2, to);
}

static void
arrange_f32(const void *panel, const struct chunk *c, const struct later *later, int parts, tile (*to)[HALVES])
{
	if (parts == 1)
		arrange(load_f32, panel, c, later, 1, to);
	else if (parts == 2)
		arrange(load_f32, panel, c, later, 2, to);
	else
		arrange(load_f32, panel, c, later, 3, to);
}

/* The numbers of 32 codes; shorter ones repeat, so that the bits above them do
 * not count. */
static void
make_table(struct product *p)
{
	const struct tc_matrix *m = p->m;
	vf even, odd, a[PARTS], b[PARTS];

	for (int i = 0; i < W; i++)
		for (int odd_one = 0; odd_one < 2; odd_one++) {
			int q = (2 * i + odd_one) & ((1 << m->bits) - 1);
			float number = m->table ? m->table[q] : (float)(q - (1 << (m->bits - 1)));

			if (odd_one)
				odd[i] = number;
			else
				even[i] = number;
		}
	split(even, PARTS, a);
	split(odd, PARTS, b);
	for (int part = 0; part < PARTS; part++)
		p->table[part] = (__m512i)paired(a[part], b[part]);
}

/* Where a chunk begins in its group: the word, and the slot of it. */
static size_t
first_word(const struct tc_matrix *m, const struct chunk *c)
{
	return (c->first - (m->group ? c->group * m->group : 0)) / (32 / (size_t)m->bits);
}

static size_t
first_slot(const struct tc_matrix *m, const struct chunk *c)
{
	return (c->first - (m->group ? c->group * m->group : 0)) % (32 / (size_t)m->bits);
}

/* The codes of a chunk lie at the same places in every panel; what the last
 * step has too many lies anywhere. */
static void
find_places(const struct tc_matrix *m, const struct chunk *c, struct place *place)
{
	size_t per = 32 / (size_t)m->bits, word = first_word(m, c), slot = first_slot(m, c);

	for (size_t i = 0; i < c->n; i++) {
		uint32_t bit = (uint32_t)(slot * (size_t)m->bits);

		place[i] = (struct place){ (uint32_t)(word * NR), bit, (bit + 16) % 32 };
		if (++slot == per) {
			slot = 0;
			word++;
		}
	}
	for (size_t i = c->n; i < c->steps * STEP; i++)
		place[i] = place[0];
}

/* W words of codes, the one that is wanted at the beginning of the lower or
 * the upper half. */
ALWAYS_INLINE vu
rotated(const uint32_t *words, uint32_t bits)
{
	return (vu)_mm512_rorv_epi32(_mm512_loadu_si512(words), _mm512_set1_epi32((int)bits));
}

#define LOWER 0x55555555u
#define UPPER 0xaaaaaaaau

/* Inputs i and i + APART of n. */
ALWAYS_INLINE __mmask32
halves_there(size_t i, size_t n)
{
	return (i < n ? LOWER : 0) | (i + APART < n ? UPPER : 0);
}

/* Codes through the tables, from a step on. */
ALWAYS_INLINE void
unpack(const __m512i table[PARTS], const uint32_t *words, const struct chunk *c, size_t s, const struct place *place,
    const struct later *later, const int parts, tile (*to)[HALVES])
{
	__m512i t[PARTS] = { table[0], table[1], table[2] };
	size_t n = c->n, steps = c->steps;

	for (place += s * STEP, to += s * (size_t)parts; s < steps; s++, place += STEP, to += parts)
		for (size_t i = 0; i < TILE_ROWS; i++) {
			const struct place a = place[i], b = place[i + APART];
			__mmask32 there = halves_there(s * STEP + i, n);

			ask_for(later, s * TILE_ROWS + i);
			UNROLL for (size_t h = 0; h < HALVES; h++) {
				__m512i q = _mm512_mask_blend_epi16(UPPER, (__m512i)rotated(words + a.word + h * W, a.low),
				    (__m512i)rotated(words + b.word + h * W, b.high));

				UNROLL for (int part = 0; part < parts; part++)
					_mm512_store_si512(to[part][h] + i * W,
					    _mm512_maskz_permutexvar_epi16(there, q, t[part]));
			}
		}
}

/* Whole steps of codes of 1, 2 or 4 bits that take one part: 16 inputs fill
 * whole halves of words, so those of the inputs that belong together are put
 * side by side, once for all codes in them. */
ALWAYS_INLINE void
unpack_even(__m512i table, const int bits, const uint32_t *words, size_t steps, const struct later *later,
    tile (*to)[HALVES])
{
	const int codes = 16 / bits;

	for (size_t s = 0; s < steps; s++, words += bits * NR, to++)
		UNROLL for (int half = 0; half < bits; half++)
			UNROLL for (size_t h = 0; h < HALVES; h++) {
				__m512i a = _mm512_loadu_si512(words + (size_t)(half / 2) * NR + h * W);
				__m512i b = _mm512_loadu_si512(words + (size_t)((half + bits) / 2) * NR + h * W);
				__m512i q = bits == 1 ? a : half % 2 ? _mm512_mask_blend_epi16(UPPER, _mm512_srli_epi32(a, 16), b) :
				    _mm512_mask_blend_epi16(UPPER, a, _mm512_slli_epi32(b, 16));

				UNROLL for (int i = 0; i < codes; i++) {
					size_t t = (size_t)(half * codes + i);

					if (h == 0)
						ask_for(later, s * TILE_ROWS + t);
					_mm512_store_si512(to[0][h] + t * W,
					    _mm512_permutexvar_epi16(_mm512_srli_epi32(q, (unsigned)(i * bits)), table));
				}
			}
}

/* Whole numbers of more bits than a table has. */
ALWAYS_INLINE void
unpack_long(const int bits, const uint32_t *words, const struct chunk *c, const struct place *place,
    const struct later *later, tile (*to)[HALVES])
{
	const uint32_t mask = (1u << bits) - 1;
	size_t n = c->n, steps = c->steps;

	for (size_t s = 0; s < steps; s++, place += STEP, to++)
		for (size_t i = 0; i < TILE_ROWS; i++) {
			const struct place a = place[i], b = place[i + APART];
			__mmask32 there = halves_there(s * STEP + i, n);

			ask_for(later, s * TILE_ROWS + i);
			UNROLL for (size_t h = 0; h < HALVES; h++) {
				vf x = centred(rotated(words + a.word + h * W, a.low) & mask, bits);
				vf y = centred(rotated(words + b.word + h * W, b.low) & mask, bits);

				_mm512_store_si512(to[0][h] + i * W, _mm512_maskz_mov_epi16(there, (__m512i)paired(x, y)));
			}
		}
}

/* Whether unpack_codes() can: codes whose numbers need no memory. */
static int
unpacks(const struct tc_matrix *m)
{
	return m->type == TC_PANEL_CODES && !narrow(m) && (m->bits <= TABLE_BITS || !m->table);
}

static int
unpacks_even(const struct product *p)
{
	int bits = p->m->bits;

	return p->parts == 1 && (bits == 1 || bits == 2 || bits == 4);
}

static void
unpack_codes(const struct product *p, const void *panel, const struct chunk *c, const struct place *place,
    const struct later *later, tile (*to)[HALVES])
{
	const uint32_t *words = (const uint32_t *)panel + c->group * tc_group_words(p->m) * NR;
	const uint32_t *first = words + first_word(p->m, c) * NR;
	size_t whole = unpacks_even(p) ? c->n / STEP : 0;

	/* A chunk begins with a word of so many bits. */
	if (whole && p->m->bits == 1)
		unpack_even(p->table[0], 1, first, whole, later, to);
	else if (whole && p->m->bits == 2)
		unpack_even(p->table[0], 2, first, whole, later, to);
	else if (whole)
		unpack_even(p->table[0], 4, first, whole, later, to);
	if (p->m->bits == 8)
		unpack_long(8, words, c, place, later, to);
	else if (p->m->bits > TABLE_BITS)
		unpack_long(6, words, c, place, later, to);
	else if (p->parts == 1)
		unpack(p->table, words, c, whole, place, later, 1, to);
	else if (p->parts == 2)
		unpack(p->table, words, c, whole, place, later, 2, to);
	else
		unpack(p->table, words, c, whole, place, later, 3, to);
}

/* The numbers of a chunk, which may hold several narrow groups, in a buffer
 * that has room for a word's codes before them: expand() begins with a word. */
static const float *
expand_chunk(const struct tc_matrix *m, size_t panel, const struct chunk *c, float *numbers)
{
	size_t per = m->type == TC_PANEL_CODES ? 32 / (size_t)m->bits : 1, end = c->first + c->n, g = c->group;
	size_t begin = narrow(m) ? c->first / m->group * m->group : m->group ? g * m->group : 0;
	size_t lead = (c->first - begin) % per;

	for (size_t i = c->first - lead, stop; i < end; i = stop) {
		g = narrow(m) ? i / m->group : g;
		stop = narrow(m) ? tc_min((g + 1) * m->group, end) : end;
		expand(m, panel, g, i, stop - i, numbers);
		numbers += (stop - i) * NR;
	}
	return numbers - c->n * NR;
}

/* Panel q of the product, as the unit reads it. */
static void
arrange_panel(const struct product *p, size_t q, const struct chunk *c, struct work *k)
{
	const struct tc_matrix *m = p->m;
	const char *panel = panel_of(m, p->panel + q), *at = panel + c->first * NR * tc_panel_bytes[m->type];
	const struct later later = panel_ahead(p, q, c);

	if (unpacks(m)) {
		unpack_codes(p, panel, c, k->place, &later, k->w[q]);
	} else if (narrow(m) || m->type == TC_PANEL_CODES) {
		arrange_f32(expand_chunk(m, p->panel + q, c, k->numbers), c, &later, p->parts, k->w[q]);
	} else if (m->type == TC_PANEL_BF16) {
		arrange_bf16((const uint16_t *)at, c, &later, k->w[q]);
	} else if (m->type == TC_PANEL_F16) {
		arrange_f16(at, c, &later, k->w[q]);
	} else {
		arrange_f32(at, c, &later, PARTS, k->w[q]);
	}
}
