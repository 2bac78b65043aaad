#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/id.h"

void
id_random_bytes(void *bytes, size_t length)
{
	unsigned char *p = bytes;
	ssize_t n;

	while (length > 0) {
		if ((n = getrandom(p, length, 0)) < 0) {
			if (errno == EINTR)
				continue;
			abort();
		}
		p += n;
		length -= (size_t)n;
	}
}

void
id_uuid_v7(int64_t wall_us, char text[ID_UUID_SIZE])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char bytes[16];
	uint64_t us = wall_us < 0 ? 0 : (uint64_t)wall_us, ms = us / 1000;
	uint64_t fraction = us % 1000 * 4096 / 1000;
	char *p = text;
	int i;

	id_random_bytes(bytes + 8, sizeof(bytes) - 8);
	for (i = 0; i < 6; i++)
		bytes[i] = (unsigned char)(ms >> (40 - 8 * i));
	bytes[6] = (unsigned char)(0x70 | fraction >> 8); /* version 7 */
	bytes[7] = (unsigned char)fraction;
	bytes[8] = (unsigned char)((bytes[8] & 0x3F) | 0x80); /* variant */
	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[bytes[i] >> 4];
		*p++ = hex[bytes[i] & 15];
	}
	*p = '\0';
}

int
id_uuid_valid(const char *text)
{
	int i;

	for (i = 0; i < ID_UUID_SIZE - 1; i++) {
		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (text[i] != '-')
				return (0);
		} else if (!(text[i] >= '0' && text[i] <= '9') &&
		    !(text[i] >= 'a' && text[i] <= 'f'))
			return (0);
	}
	return (text[i] == '\0');
}

int
id_uuid_read(const char *text, char out[ID_UUID_SIZE])
{
	int i;

	for (i = 0; i < ID_UUID_SIZE - 1 && text[i] != '\0'; i++)
		out[i] = text[i] >= 'A' && text[i] <= 'F' ?
		    (char)(text[i] - 'A' + 'a') :
		    text[i];
	out[i] = '\0';
	return (text[i] == '\0' && id_uuid_valid(out));
}

/* splitmix64: spreads one word of seed over the state, never all zero. */
static uint64_t
split_mix(uint64_t *x)
{
	uint64_t z;

	*x += UINT64_C(0x9E3779B97F4A7C15);
	z = *x;
	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return (z ^ (z >> 31));
}

static uint64_t
rotate(uint64_t x, int bits)
{

	return ((x << bits) | (x >> (64 - bits)));
}

void
id_rng_seed(struct id_rng *rng, uint64_t seed)
{
	int i;

	for (i = 0; i < 4; i++)
		rng->s[i] = split_mix(&seed);
}

uint64_t
id_rng_next(struct id_rng *rng)
{
	uint64_t *s = rng->s;
	uint64_t result, t;

	result = rotate(s[1] * 5, 7) * 9;
	t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate(s[3], 45);
	return (result);
}

double
id_rng_uniform(struct id_rng *rng)
{

	return ((double)(id_rng_next(rng) >> 11) * 0x1.0p-53);
}

double
id_rng_normal(struct id_rng *rng)
{
	double radius, angle;

	/* 1 - uniform lies in (0, 1], where the logarithm is finite. */
	radius = sqrt(-2.0 * log(1.0 - id_rng_uniform(rng)));
	angle = 2.0 * 3.14159265358979323846 * id_rng_uniform(rng);
	return (radius * cos(angle));
}
