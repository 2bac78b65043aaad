/* partition -- which partition a producer's records go to. */
#include "producer/internal.h"

static int
round_robin(const void *key, size_t key_size, int64_t turn, int partitions)
{

	(void)key, (void)key_size;
	return ((int)(turn % partitions));
}

static int
sticky(const void *key, size_t key_size, int64_t turn, int partitions)
{

	(void)key, (void)key_size;
	return ((int)(turn / PRODUCER_STICKY_RECORDS % partitions));
}

static int
to_one(const void *key, size_t key_size, int64_t turn, int partitions)
{

	(void)key, (void)key_size, (void)turn, (void)partitions;
	return ((int)producer_settings.partition);
}

int
producer_partitioner(const struct producer *p, kafka_partitioner **chosen,
    struct mr_error *err)
{
	const int is_explicit = producer_settings.partitioner ==
	    PRODUCER_EXPLICIT;

	*chosen = NULL;
	if (is_explicit != (producer_settings.partition >= 0))
		return (mr_error_set(err, MR_FATAL,
		    "--partition goes with --partitioner explicit, and that "
		    "with it"));
	switch (producer_settings.partitioner) {
	case PRODUCER_ROUND_ROBIN:
		*chosen = round_robin;
		break;
	case PRODUCER_STICKY:
		*chosen = sticky;
		break;
	case PRODUCER_EXPLICIT:
		*chosen = to_one;
		break;
	case PRODUCER_CUSTOM:
		if ((*chosen = p->partitioner) == NULL)
			return (mr_error_set(err, MR_FATAL,
			    "--partitioner custom: this program has none of "
			    "its own"));
		break;
	default:
		break;
	}
	return (0);
}
