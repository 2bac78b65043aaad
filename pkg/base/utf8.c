#include "base/utf8.h"

static int
is_tail(unsigned char c)
{

	return ((c & 0xC0) == 0x80);
}

size_t
utf8_length(const char *p, size_t n)
{
	const unsigned char *s = (const unsigned char *)p;

	if (n == 0)
		return (0);
	if (s[0] < 0x80)
		return (1);
	if (s[0] < 0xC2 || s[0] > 0xF4 || n < 2 || !is_tail(s[1]))
		return (0);
	if (s[0] < 0xE0)
		return (2);
	if (n < 3 || !is_tail(s[2]))
		return (0);
	if (s[0] < 0xF0) {
		if ((s[0] == 0xE0 && s[1] < 0xA0) ||
		    (s[0] == 0xED && s[1] > 0x9F))
			return (0);
		return (3);
	}
	if (n < 4 || !is_tail(s[3]) || (s[0] == 0xF0 && s[1] < 0x90) ||
	    (s[0] == 0xF4 && s[1] > 0x8F))
		return (0);
	return (4);
}
