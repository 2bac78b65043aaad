#include <pthread.h>
#include <string.h>

#include "segment/segment.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__aarch64__) && !defined(__clang__)
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

/* RFC 3720's polynomial, bits reversed. */
#define POLYNOMIAL 0x82f63b78u
#define FOLDED ((size_t)64) /* bytes: four pieces beside one another */

/* tables[k][b]: what byte b does to the sum when k more bytes follow it. */
static uint32_t tables[8][256];
static uint64_t onward[2]; /* what takes a half of a piece FOLDED bytes on */
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

/* x to the power of ${n}, modulo the polynomial. */
static uint32_t
power(size_t n)
{
	uint32_t sum = 1u << 31;

	while (n-- > 0)
		sum = (sum >> 1) ^ ((sum & 1) ? POLYNOMIAL : 0);
	return (sum);
}

static void
make_tables(void)
{
	uint32_t sum;
	int i, bit, k;

	for (i = 0; i < 256; i++) {
		sum = (uint32_t)i;
		for (bit = 0; bit < 8; bit++)
			sum = (sum >> 1) ^ ((sum & 1) ? POLYNOMIAL : 0);
		tables[0][i] = sum;
	}
	for (k = 1; k < 8; k++)
		for (i = 0; i < 256; i++)
			tables[k][i] = (tables[k - 1][i] >> 8) ^
			    tables[0][tables[k - 1][i] & 0xff];
	/* The product of two reversed numbers has one power more. */
	onward[0] = (uint64_t)power(8 * FOLDED + 64 - 1) << 32;
	onward[1] = (uint64_t)power(8 * FOLDED - 1) << 32;
}

uint32_t
crc32c_portable(uint32_t crc, const void *bytes, size_t size)
{
	const uint8_t *p = bytes;

	pthread_once(&tables_once, make_tables);
	crc = ~crc;
	for (; size >= 8; size -= 8, p += 8) {
		crc ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 |
		    (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
		crc = tables[7][crc & 0xff] ^ tables[6][(crc >> 8) & 0xff] ^
		    tables[5][(crc >> 16) & 0xff] ^ tables[4][crc >> 24] ^
		    tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^
		    tables[0][p[7]];
	}
	for (; size > 0; size--, p++)
		crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 0xff];
	return (~crc);
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t
add_words(uint32_t crc, const uint8_t *p, size_t size)
{
	uint64_t sum = crc, word;

	for (; size >= 8; size -= 8, p += 8) {
		memcpy(&word, p, sizeof(word));
		sum = _mm_crc32_u64(sum, word);
	}
	crc = (uint32_t)sum;
	for (; size > 0; size--, p++)
		crc = _mm_crc32_u8(crc, *p);
	return (crc);
}

/* A piece of 16 bytes, taken FOLDED bytes on, to what is there. */
__attribute__((target("pclmul"))) static inline __m128i
fold(__m128i piece, __m128i by, const uint8_t *there)
{
	return (_mm_xor_si128(_mm_loadu_si128((const void *)there),
	    _mm_xor_si128(_mm_clmulepi64_si128(piece, by, 0x00),
		_mm_clmulepi64_si128(piece, by, 0x11))));
}

/*
 * The instruction for CRCs takes three cycles for eight bytes, on some
 * processors with no other beside it.  Carry-less products are faster: a
 * piece, times a power of x modulo the polynomial, added to the piece that
 * much further on, leaves the sum over all as it is (Gopal and others, "Fast
 * CRC Computation for Generic Polynomials Using PCLMULQDQ Instruction", 2009).
 */
__attribute__((target("sse4.2,pclmul"))) static uint32_t
by_instruction(uint32_t crc, const uint8_t *p, size_t size)
{
	__m128i a, b, c, d, by, all[4];

	crc = ~crc;
	if (size >= 2 * FOLDED) {
		pthread_once(&tables_once, make_tables);
		by = _mm_set_epi64x((long long)onward[1], (long long)onward[0]);
		a = _mm_loadu_si128((const void *)p);
		b = _mm_loadu_si128((const void *)(p + 16));
		c = _mm_loadu_si128((const void *)(p + 32));
		d = _mm_loadu_si128((const void *)(p + 48));
		a = _mm_xor_si128(a, _mm_cvtsi32_si128((int)crc));
		for (p += FOLDED, size -= FOLDED; size >= FOLDED;
		     p += FOLDED, size -= FOLDED) {
			a = fold(a, by, p);
			b = fold(b, by, p + 16);
			c = fold(c, by, p + 32);
			d = fold(d, by, p + 48);
		}
		all[0] = a;
		all[1] = b;
		all[2] = c;
		all[3] = d;
		crc = add_words(0, (const void *)all, sizeof(all));
	}
	return (~add_words(crc, p, size));
}

static int
has_instruction(void)
{

	return (__builtin_cpu_supports("sse4.2") &&
	    __builtin_cpu_supports("pclmul"));
}
#elif defined(__aarch64__) && !defined(__clang__)
__attribute__((target("+crc"))) static uint32_t
by_instruction(uint32_t crc, const uint8_t *p, size_t size)
{
	uint64_t word;

	crc = ~crc;
	for (; size >= 8; size -= 8, p += 8) {
		memcpy(&word, p, sizeof(word));
		crc = __builtin_aarch64_crc32cx(crc, word);
	}
	for (; size > 0; size--, p++)
		crc = __builtin_aarch64_crc32cb(crc, *p);
	return (~crc);
}

static int
has_instruction(void)
{

	return ((getauxval(AT_HWCAP) & HWCAP_CRC32) != 0);
}
#else
static uint32_t
by_instruction(uint32_t crc, const uint8_t *p, size_t size)
{

	return (crc32c_portable(crc, p, size));
}

static int
has_instruction(void)
{

	return (0);
}
#endif

uint32_t
crc32c(uint32_t crc, const void *bytes, size_t size)
{

	if (has_instruction())
		return (by_instruction(crc, bytes, size));
	return (crc32c_portable(crc, bytes, size));
}
