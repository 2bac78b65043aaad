#include <pthread.h>
#include <string.h>

#include "segment/segment.h"

#if defined(__aarch64__) && !defined(__clang__)
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

/* RFC 3720's polynomial, bits reversed. */
#define POLYNOMIAL 0x82f63b78u

/* tables[k][b]: what byte b does to the sum when k more bytes follow it. */
static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

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
by_instruction(uint32_t crc, const uint8_t *p, size_t size)
{
	uint64_t sum = ~crc, word;

	for (; size >= 8; size -= 8, p += 8) {
		memcpy(&word, p, sizeof(word));
		sum = __builtin_ia32_crc32di(sum, word);
	}
	crc = (uint32_t)sum;
	for (; size > 0; size--, p++)
		crc = __builtin_ia32_crc32qi(crc, *p);
	return (~crc);
}

static int
has_instruction(void)
{

	return (__builtin_cpu_supports("sse4.2") != 0);
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
