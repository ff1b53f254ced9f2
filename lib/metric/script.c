#include "metric/script.h"

#include "token/utf8.h"

enum script {
	LATIN, GREEK, CYRILLIC, ARMENIAN, HEBREW, ARABIC, DEVANAGARI, BENGALI, GURMUKHI, GUJARATI, TAMIL, TELUGU, KANNADA,
	MALAYALAM, THAI, LAO, GEORGIAN, ETHIOPIC, KHMER, HANGUL, HAN, KANA
};
#define NO_SCRIPT (-1)

/* Blocks of letters (Unicode's Scripts.txt, rounded to blocks where no other
 * script is in them), ascending. */
static const struct {
	uint32_t first, last;
	enum script script;
} ranges[] = {
	{ 'A', 'Z', LATIN }, { 'a', 'z', LATIN }, { 0xaa, 0xaa, LATIN }, { 0xba, 0xba, LATIN }, { 0xc0, 0xd6, LATIN },
	{ 0xd8, 0xf6, LATIN }, { 0xf8, 0x2af, LATIN }, { 0x370, 0x373, GREEK }, { 0x376, 0x377, GREEK },
	{ 0x37b, 0x37d, GREEK }, { 0x37f, 0x37f, GREEK }, { 0x386, 0x386, GREEK }, { 0x388, 0x3ff, GREEK },
	{ 0x400, 0x481, CYRILLIC }, { 0x48a, 0x52f, CYRILLIC }, { 0x531, 0x588, ARMENIAN }, { 0x5d0, 0x5f2, HEBREW },
	{ 0x620, 0x64a, ARABIC }, { 0x66e, 0x66f, ARABIC }, { 0x671, 0x6d3, ARABIC }, { 0x6fa, 0x6ff, ARABIC },
	{ 0x750, 0x77f, ARABIC }, { 0x904, 0x939, DEVANAGARI }, { 0x958, 0x961, DEVANAGARI }, { 0x971, 0x97f, DEVANAGARI },
	{ 0x985, 0x9b9, BENGALI }, { 0xa05, 0xa39, GURMUKHI }, { 0xa85, 0xab9, GUJARATI }, { 0xb83, 0xbb9, TAMIL },
	{ 0xc05, 0xc39, TELUGU }, { 0xc85, 0xcb9, KANNADA }, { 0xd05, 0xd3a, MALAYALAM }, { 0xe01, 0xe30, THAI },
	{ 0xe32, 0xe33, THAI }, { 0xe40, 0xe46, THAI }, { 0xe81, 0xeb0, LAO }, { 0xec0, 0xec6, LAO }, { 0x10a0, 0x10ff, GEORGIAN },
	{ 0x1100, 0x11ff, HANGUL }, { 0x1200, 0x135a, ETHIOPIC }, { 0x1780, 0x17b3, KHMER }, { 0x1e00, 0x1eff, LATIN },
	{ 0x1f00, 0x1fff, GREEK }, { 0x2c60, 0x2c7f, LATIN }, { 0x2de0, 0x2dff, CYRILLIC }, { 0x2e80, 0x2fd5, HAN },
	{ 0x3005, 0x3007, HAN }, { 0x3041, 0x3096, KANA }, { 0x309d, 0x309f, KANA }, { 0x30a1, 0x30fa, KANA },
	{ 0x30fc, 0x30ff, KANA }, { 0x3131, 0x318e, HANGUL }, { 0x31f0, 0x31ff, KANA }, { 0x3400, 0x4dbf, HAN },
	{ 0x4e00, 0x9fff, HAN }, { 0xa640, 0xa66e, CYRILLIC }, { 0xa722, 0xa787, LATIN }, { 0xac00, 0xd7a3, HANGUL },
	{ 0xf900, 0xfad9, HAN }, { 0xfb00, 0xfb06, LATIN }, { 0xfb1d, 0xfb4f, HEBREW }, { 0xfb50, 0xfdfb, ARABIC },
	{ 0xfe70, 0xfefc, ARABIC }, { 0xff21, 0xff3a, LATIN }, { 0xff41, 0xff5a, LATIN }, { 0xff66, 0xff9d, KANA },
	{ 0x20000, 0x3134a, HAN },
};
#define RANGES (sizeof(ranges) / sizeof(ranges[0]))

static int
script_of(uint32_t c)
{
	size_t low = 0, high = RANGES;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (c > ranges[mid].last)
			low = mid + 1;
		else
			high = mid;
	}
	return low < RANGES && c >= ranges[low].first ? (int)ranges[low].script : NO_SCRIPT;
}

uint32_t
tc_scripts(const char *text, size_t n)
{
	uint32_t scripts = 0;

	for (size_t i = 0, used; i < n; i += used) {
		int s = script_of(tc_utf8_get((const unsigned char *)text + i, &used));

		if (s != NO_SCRIPT)
			scripts |= UINT32_C(1) << s;
	}
	return scripts & (UINT32_C(1) << KANA) ? scripts | UINT32_C(1) << HAN : scripts;
}

void
tc_script_leak(uint32_t scripts, const char *text, size_t n, size_t *letters, size_t *leaked)
{
	*letters = *leaked = 0;
	for (size_t i = 0, used; i < n; i += used) {
		int s = script_of(tc_utf8_get((const unsigned char *)text + i, &used));

		*letters += s != NO_SCRIPT;
		*leaked += s != NO_SCRIPT && !(scripts & UINT32_C(1) << s);
	}
}
