/* digest.h - the two hashes of a checkpoint that is read as a stream: of what
 * its files hold, which is the provenance chain's input, and of the records
 * that tc-import would write.
 *
 * The input is the XXH3-64 over the XXH3-64 of each item (its name, a NUL and
 * its bytes), as 8 little-endian bytes: config.json first, then each record
 * that was added. */
#ifndef TC_MODEL_DIGEST_H
#define TC_MODEL_DIGEST_H

#define XXH_STATIC_LINKING_ONLY /* states that are no allocation of their own */
#include <xxhash.h>

#include "stream/record.h"

struct tc_digest {
	XXH3_state_t items, records;  /* the two hashes */
	XXH3_state_t item, record;    /* of the record being added */
	struct tc_buf head;           /* of the record, as a stream has it */
};

int tc_digest_begin(struct tc_digest *d, const struct tc_header *h, struct tc_err *err) TC_MUST_CHECK;
int tc_digest_add(struct tc_digest *d, const struct tc_record *r, const char *name, struct tc_err *err) TC_MUST_CHECK;
void tc_digest_end(const struct tc_digest *d, uint64_t *input, uint64_t *records);
void tc_digest_free(struct tc_digest *d);

#endif
