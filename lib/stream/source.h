/* source.h - where records come from: a stream on a descriptor, a saved
 * stream mapped in place, or a checkpoint that is turned into one.
 *
 *   struct tc_source *s;
 *   tc_model_open(&s, path, &err);            (lib/model/open.h)
 *   while ((r = tc_source_next(s, &rec, &err)) > 0) ...
 *   tc_source_close(s);
 *
 * s->header is valid after opening.  A record and everything it points to
 * belong to the source and last until the next call; a mapped source's part
 * data last until the source is closed (s->mapped).
 *
 * Returning 0 means that the whole input was read and every check passed:
 * count, hashes, end record.  Only then are the input hashes in
 * s->header.step[].input and s->hash valid.  An abort record from upstream
 * becomes an error with upstream's code and err->told set. */
#ifndef TC_STREAM_SOURCE_H
#define TC_STREAM_SOURCE_H

#include "base/err.h"
#include "stream/record.h"

struct tc_source {
	struct tc_header header;
	bool mapped;
	bool spare_payloads;   /* set by the caller (tc-ls): payloads that need not be
	                        * read are skipped unverified, part data may be NULL;
	                        * not so of TC_STAT_FISHER, whose numbers are listed */
	uint64_t hash;         /* of all record hashes, at the end */
	uint64_t records;      /* seen so far, header included */
	uint64_t bytes;        /* of the stream consumed so far (0: a checkpoint) */
	int (*next)(struct tc_source *, struct tc_record *, struct tc_err *);
	void (*close)(struct tc_source *);
};

static inline int
tc_source_next(struct tc_source *s, struct tc_record *r, struct tc_err *err)
{
	return s->next(s, r, err);
}

/* NULL is fine. */
static inline void
tc_source_close(struct tc_source *s)
{
	if (s)
		s->close(s);
}

#endif
