/* walk.c - how far a MessagePack object reaches, without building it.
 *
 * A parser allocates what a length field asks for; this walk looks at the
 * lengths first and refuses what no head needs.  It keeps its place, so that
 * a head that arrives byte by byte is still walked once. */
#include "stream/head.h"

/* One object at p: its bytes without its children in *size, and how many
 * children follow.  1, 0 when its length field is not there yet, -1 when
 * there is no such object. */
static int
item(const unsigned char *p, size_t n, uint64_t *size, uint64_t *children)
{
	/* From 0xc0 to 0xdf: bytes of the length field, and of what stands
	 * besides it and what it counts. */
	static const struct {
		unsigned char field, fixed;
	} kinds[32] = {
		{0, 1}, {0, 0}, {0, 1}, {0, 1}, {1, 1}, {2, 1}, {4, 1}, {1, 2},  /* nil, -, bools, bins, ext 8 */
		{2, 2}, {4, 2}, {0, 5}, {0, 9}, {0, 2}, {0, 3}, {0, 5}, {0, 9},  /* exts, floats, uints */
		{0, 2}, {0, 3}, {0, 5}, {0, 9}, {0, 3}, {0, 4}, {0, 6}, {0, 10}, /* ints, fixexts */
		{0, 18}, {1, 1}, {2, 1}, {4, 1}, {2, 1}, {4, 1}, {2, 1}, {4, 1}, /* strs, arrays, maps */
	};
	unsigned char b = p[0];
	uint64_t length = 0;

	*size = 1;
	*children = 0;
	if (b < 0x80 || b >= 0xe0)
		return 1;
	if (b < 0xc0) {
		if (b >= 0xa0)
			*size += b & 0x1f;
		else
			*children = (uint64_t)(b & 0x0f) * (b < 0x90 ? 2 : 1);
		return 1;
	}
	if (kinds[b - 0xc0].fixed == 0)
		return -1;
	if (n < 1u + kinds[b - 0xc0].field)
		return 0;
	for (int i = 1; i <= kinds[b - 0xc0].field; i++)
		length = length << 8 | p[i];
	*size = kinds[b - 0xc0].fixed + kinds[b - 0xc0].field;
	if (b >= 0xdc)
		*children = b >= 0xde ? 2 * length : length;
	else
		*size += length;
	return 1;
}

int
tc_walk_on(struct tc_walk *w, const unsigned char *p, size_t n, size_t max_bytes, int max_depth)
{
	uint64_t size, children;
	int k;

	if (max_depth > TC_HEAD_DEPTH_MAX)
		max_depth = TC_HEAD_DEPTH_MAX;
	while (w->at == 0 || w->depth > 0) {
		if (w->at >= n)
			return w->at >= max_bytes ? -1 : 0;
		k = item(p + w->at, n - w->at, &size, &children);
		if (k <= 0)
			return k;
		if (size > max_bytes - w->at || w->items + children > TC_HEAD_ITEMS_MAX)
			return -1;
		if (size > n - w->at)
			return 0;
		w->at += size;
		w->items += children;
		if (w->depth > 0)
			w->left[w->depth - 1]--;
		if (children > 0) {
			if (w->depth == max_depth)
				return -1;
			w->left[w->depth++] = children;
		}
		while (w->depth > 0 && w->left[w->depth - 1] == 0)
			w->depth--;
	}
	return 1;
}

long
tc_msgpack_extent(const unsigned char *p, size_t n, size_t max_bytes, int max_depth)
{
	struct tc_walk w = {0};
	int k = tc_walk_on(&w, p, n, max_bytes, max_depth);

	return k > 0 ? (long)w.at : k;
}
