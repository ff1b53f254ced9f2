/* area.h - memory for a record's payloads: grows without moving a byte, since
 * it is a mapping of its own.  {0} is empty and valid.  Internal to
 * lib/stream. */
#ifndef TC_STREAM_AREA_H
#define TC_STREAM_AREA_H

#include <stddef.h>

#include "base/err.h"

#define TC_AREA_STEP_BYTES ((size_t)1 << 20)

struct tc_area {
	unsigned char *p;      /* aligned to a page; moves when it grows */
	size_t n, cap;
	struct tc_area *next;  /* for lists of areas */
};

/* Room for extra_bytes more after a->n. */
int tc_area_room(struct tc_area *a, size_t extra_bytes, struct tc_err *err) TC_MUST_CHECK;
/* Empties the area, for size_bytes to come. */
void tc_area_reset(struct tc_area *a, size_t size_bytes);
void tc_area_free(struct tc_area *a);

#endif
