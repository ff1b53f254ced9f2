/* script.h - text in a script that nobody asked for: Chinese in the middle of
 * an English answer. */
#ifndef TC_METRIC_SCRIPT_H
#define TC_METRIC_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

/* The scripts of a text's letters, a bit each; 0: no letters.  Text is valid
 * UTF-8.  Known are Latin, Greek, Cyrillic, Armenian, Hebrew, Arabic,
 * Devanagari, Bengali, Gurmukhi, Gujarati, Tamil, Telugu, Kannada, Malayalam,
 * Thai, Lao, Georgian, Ethiopic, Khmer, Hangul, Han and kana; letters of
 * others, digits and marks do not count.  Kana comes with Han. */
uint32_t tc_scripts(const char *text, size_t n);

/* The letters of a text, and those that are of none of these scripts. */
void tc_script_leak(uint32_t scripts, const char *text, size_t n, size_t *letters, size_t *leaked);

#endif
