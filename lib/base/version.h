/* version.h - what was built; defined by the build in version.c. */
#ifndef TC_BASE_VERSION_H
#define TC_BASE_VERSION_H

extern const char tc_version[];  /* "0.1.0" */
extern const char tc_build_id[]; /* 16 hex digits: hash of the sources of lib/ and stages/ */

#endif
