/*
 * utf8 -- one question about bytes: do they start with a character?
 *
 * As RFC 3629 has it: overlong forms, surrogates and what lies above
 * U+10FFFF are refused.
 */
#ifndef MR_UTF8_H
#define MR_UTF8_H

#include <stddef.h>

/*
 * utf8_length -- how many of the ${n} bytes at ${p} (1 to 4) are the first
 * character; 0 if they aren't well-formed, or if ${n} is 0.  A NUL is a
 * character of one byte.
 */
size_t utf8_length(const char *p, size_t n);

#endif
