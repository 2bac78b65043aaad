#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "producer/producer.h"

void
producer_host_name(char name[EVENT_NAME_SIZE])
{
	struct mr_error err;
	ssize_t got = -1;
	int fd;

	if ((fd = open("/proc/sys/kernel/hostname", O_RDONLY | O_CLOEXEC)) !=
	    -1) {
		got = read(fd, name, EVENT_NAME_SIZE - 1);
		close(fd);
	}
	name[got > 0 ? got : 0] = '\0';
	name[strcspn(name, "\n")] = '\0';
	if (event_check_name(name, strlen(name), &err) != 0)
		name[0] = '\0';
}
