#include "model/masked.h"

#include <stdlib.h>
#include <string.h>

#include "model/bf16.h"
#include "tensor/mask.h"

/* Numbers of which only those are held that are stored. */
struct pack {
	const struct tc_tensor *w;
	struct tc_linear *l;
	uint64_t *bits;     /* [threads][nr][words]: of a panel's rows */
	float *rows;        /* [threads][nr][in] */
	size_t *place;      /* [panels + 1] */
};

static uint64_t *
read_masks(const struct pack *k, size_t p, int worker, size_t *stored)
{
	size_t nr = tc_kernels()->nr, words = tc_mask_words(k->l->m.in), first = k->l->row0 + p * nr;
	uint64_t *bits = k->bits + (size_t)worker * nr * words;

	*stored = 0;
	for (size_t j = 0; j < tc_min(nr, k->l->m.out - p * nr); j++)
		*stored += tc_mask_row(k->w, first + j, tc_mask_start(k->w, first + j), bits + j * words);
	return bits;
}

static void
count_panel(void *ctx, size_t p, int worker)
{
	struct pack *k = ctx;
	size_t stored;

	read_masks(k, p, worker, &stored);
	k->place[p + 1] = tc_round_up(tc_masks_bytes(k->l->m.in, tc_kernels()->nr) + stored * tc_panel_bytes[k->l->m.type], sizeof(float));
}

static uint16_t
number_of(const struct tc_matrix *m, float x)
{
	if (m->type == TC_PANEL_F16)
		return tc_f16_from_f32(x);
	return m->bf16 ? tc_bf16_held(tc_bf16_from_f32(x)) : tc_bf16_from_f32(x);
}

static void
pack_masked(void *ctx, size_t p, int worker)
{
	struct pack *k = ctx;
	const struct tc_matrix *m = &k->l->m;
	size_t nr = tc_kernels()->nr, n = tc_min(nr, m->out - p * nr), words = tc_mask_words(m->in), stored;
	const uint64_t *bits = read_masks(k, p, worker, &stored);
	float *rows = k->rows + (size_t)worker * nr * m->in;
	char *mask = (char *)k->l->panels.p + k->place[p];
	uint16_t *to = (uint16_t *)(mask + tc_masks_bytes(m->in, nr));

	tc_tensor_read_bulk(k->w, k->l->row0 + p * nr, n, rows);
	for (size_t i = 0; i < m->in; i++, mask += nr / 8) {
		uint32_t some = 0;

		for (size_t j = 0; j < n; j++) {
			if (!tc_mask_bit(bits + j * words, i))
				continue;
			some |= (uint32_t)1 << j;
			*to++ = number_of(m, rows[j * m->in + i]);
		}
		memcpy(mask, &some, nr / 8);
	}
}

int
tc_masked_prepare(struct tc_linear *l, const struct tc_tensor *w, struct tc_pool *pool, struct tc_err *err)
{
	size_t threads = (size_t)tc_pool_threads(pool), nr = tc_kernels()->nr, panels = (l->m.out + nr - 1) / nr;
	struct pack k = { .w = w, .l = l };
	int r = tc_room(&l->place.p, &l->place.size_bytes, (panels + 1) * sizeof(*k.place), err);

	k.bits = tc_alloc(threads * nr, tc_mask_words(l->m.in) * sizeof(*k.bits), err);
	k.rows = tc_alloc(threads * nr, l->m.in * sizeof(*k.rows), err);
	if (r == 0 && k.bits && k.rows) {
		l->m.place = k.place = l->place.p;
		k.place[0] = 0;
		tc_pool_run(pool, panels, count_panel, &k);
		for (size_t p = 0; p < panels; p++)
			k.place[p + 1] += k.place[p];
		r = tc_room(&l->panels.p, &l->panels.size_bytes, k.place[panels] + TC_MASKED_PAD, err);
	} else {
		r = -1;
	}
	if (r == 0) {
		l->m.panels = l->panels.p;
		tc_pool_run(pool, panels, pack_masked, &k);
		memset((char *)l->panels.p + k.place[panels], 0, TC_MASKED_PAD);
	}
	free(k.bits);
	free(k.rows);
	return r;
}
