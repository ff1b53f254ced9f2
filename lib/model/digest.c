#include "model/digest.h"

#include <string.h>

#include "stream/head.h"

#define CHUNK_BYTES ((size_t)256 << 10) /* stays in cache from one hash to the other */

static void
add_hash(XXH3_state_t *to, uint64_t hash)
{
	unsigned char b[8];

	for (int i = 0; i < 8; i++)
		b[i] = (unsigned char)(hash >> (8 * i));
	XXH3_64bits_update(to, b, sizeof(b));
}

static void
begin_item(struct tc_digest *d, const char *name)
{
	XXH3_64bits_reset(&d->item);
	XXH3_64bits_update(&d->item, name, strlen(name) + 1);
	XXH3_64bits_reset(&d->record);
	XXH3_64bits_update(&d->record, d->head.p, d->head.n);
}

static void
end_item(struct tc_digest *d)
{
	add_hash(&d->items, XXH3_64bits_digest(&d->item));
	add_hash(&d->records, XXH3_64bits_digest(&d->record));
}

int
tc_digest_begin(struct tc_digest *d, const struct tc_header *h, struct tc_err *err)
{
	XXH3_64bits_reset(&d->items);
	XXH3_64bits_reset(&d->records);
	d->head.n = 0;
	if (tc_head_put_header(&d->head, h, err) < 0)
		return -1;
	begin_item(d, "config.json");
	XXH3_64bits_update(&d->item, h->config, h->config_bytes);
	end_item(d);
	return 0;
}

int
tc_digest_add(struct tc_digest *d, const struct tc_record *r, const char *name, struct tc_err *err)
{
	const struct tc_part *part;
	int nparts;

	d->head.n = 0;
	if (tc_head_put_record(&d->head, r, err) < 0)
		return -1;
	begin_item(d, name);
	part = tc_record_parts(r, &nparts);
	for (int i = 0; i < nparts; i++)
		for (size_t done = 0; done < part[i].size_bytes; done += CHUNK_BYTES) {
			size_t n = tc_min(CHUNK_BYTES, part[i].size_bytes - done);

			XXH3_64bits_update(&d->item, (const char *)part[i].data + done, n);
			XXH3_64bits_update(&d->record, (const char *)part[i].data + done, n);
		}
	end_item(d);
	return 0;
}

void
tc_digest_end(const struct tc_digest *d, uint64_t *input, uint64_t *records)
{
	*input = XXH3_64bits_digest(&d->items);
	*records = XXH3_64bits_digest(&d->records);
}

void
tc_digest_free(struct tc_digest *d)
{
	tc_buf_free(&d->head);
}
