/*
 * bytes -- numbers in network order, as Kafka and the files here have them.
 */
#ifndef MR_SEGMENT_BYTES_H
#define MR_SEGMENT_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint32_t
get_u32(const uint8_t *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return (be32toh(n));
}

static inline uint64_t
get_u64(const uint8_t *p)
{
	uint64_t n;

	memcpy(&n, p, sizeof(n));
	return (be64toh(n));
}

static inline int16_t
get_i16(const uint8_t *p)
{

	return ((int16_t)((p[0] << 8) | p[1]));
}

static inline int32_t
get_i32(const uint8_t *p)
{

	return ((int32_t)get_u32(p));
}

static inline int64_t
get_i64(const uint8_t *p)
{

	return ((int64_t)get_u64(p));
}

static inline void
put_u32(uint8_t *p, uint32_t n)
{

	n = htobe32(n);
	memcpy(p, &n, sizeof(n));
}

static inline void
put_i32(uint8_t *p, int32_t n)
{

	put_u32(p, (uint32_t)n);
}

static inline void
put_i64(uint8_t *p, int64_t n)
{
	uint64_t u = htobe64((uint64_t)n);

	memcpy(p, &u, sizeof(u));
}

static inline void
put_i16(uint8_t *p, int16_t n)
{

	p[0] = (uint8_t)((uint16_t)n >> 8);
	p[1] = (uint8_t)n;
}

#endif
