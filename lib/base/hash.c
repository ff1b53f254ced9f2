#include "base/hash.h"

#include <openssl/evp.h>
#include <stdio.h>

int
tc_sha256_begin(struct tc_sha256 *h, struct tc_err *err)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	h->ctx = c;
	if (!c)
		return tc_fail_nomem(err, 0);
	if (EVP_DigestInit_ex(c, EVP_sha256(), NULL) != 1) {
		EVP_MD_CTX_free(c);
		h->ctx = NULL;
		return tc_fail(err, TC_INTERNAL, "SHA-256 is not available in libcrypto");
	}
	return 0;
}

void
tc_sha256_add(struct tc_sha256 *h, const void *p, size_t n)
{
	EVP_DigestUpdate(h->ctx, p, n);
}

void
tc_sha256_end(struct tc_sha256 *h, char hex[TC_SHA256_HEX])
{
	unsigned char d[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	hex[0] = '\0';
	if (!h->ctx)
		return;
	EVP_DigestFinal_ex(h->ctx, d, &n);
	EVP_MD_CTX_free(h->ctx);
	h->ctx = NULL;
	for (unsigned i = 0; i < n; i++)
		snprintf(hex + 2 * i, 3, "%02x", d[i]);
}

int
tc_sha256_of(const void *p, size_t n, char hex[TC_SHA256_HEX], struct tc_err *err)
{
	struct tc_sha256 h;

	if (tc_sha256_begin(&h, err) < 0)
		return -1;
	tc_sha256_add(&h, p, n);
	tc_sha256_end(&h, hex);
	return 0;
}
