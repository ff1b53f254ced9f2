/* hash.h - SHA-256 (libcrypto) for what people check by hand with
 * sha256sum(1).  Checksums inside a stream are XXH3, straight from xxhash.h. */
#ifndef TC_BASE_HASH_H
#define TC_BASE_HASH_H

#include <stddef.h>

#include "base/err.h"

struct tc_sha256 {
	void *ctx; /* an EVP_MD_CTX */
};

#define TC_SHA256_HEX 65 /* with the terminating NUL */

int tc_sha256_begin(struct tc_sha256 *h, struct tc_err *err) TC_MUST_CHECK;
void tc_sha256_add(struct tc_sha256 *h, const void *p, size_t n);
/* Writes the digest in lower-case hex and releases the state. */
void tc_sha256_end(struct tc_sha256 *h, char hex[TC_SHA256_HEX]);

/* Of one run of bytes. */
int tc_sha256_of(const void *p, size_t n, char hex[TC_SHA256_HEX], struct tc_err *err) TC_MUST_CHECK;

#endif
