/*
 * nothing -- what FastCGI costs when the program does nothing.
 *
 *	nothing SOCKET-PATH [THREADS]
 *
 * Bare libfcgi, as its own example has it: threads that each accept a
 * request, answer 200 with two bytes of JSON, and go on.  The baseline that
 * our services are compared with, behind the same front.
 */
#include <fcgiapp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static int listen_fd;

static void *
serve(void *arg)
{
	static const char answer[] = "Status: 200 OK\r\n"
				     "Content-Type: application/json\r\n"
				     "Content-Length: 2\r\n"
				     "Cache-Control: no-cache\r\n\r\n{}";
	char body[8192];
	FCGX_Request request;

	(void)arg;
	if (FCGX_InitRequest(&request, listen_fd, 0) != 0)
		return (NULL);
	while (FCGX_Accept_r(&request) == 0) {
		while (FCGX_GetStr(body, (int)sizeof(body), request.in) > 0)
			;
		FCGX_PutStr(answer, (int)sizeof(answer) - 1, request.out);
		FCGX_Finish_r(&request);
	}
	return (NULL);
}

int
main(int argc, char **argv)
{
	int threads = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 16, i;
	pthread_attr_t attr;
	pthread_t thread;

	if (argc < 2 || threads < 1) {
		fprintf(stderr, "usage: nothing SOCKET-PATH [THREADS]\n");
		return (2);
	}
	signal(SIGPIPE, SIG_IGN);
	umask(007);
	if (FCGX_Init() != 0 ||
	    (listen_fd = FCGX_OpenSocket(argv[1], 1024)) == -1) {
		fprintf(stderr, "nothing: can't listen on %s\n", argv[1]);
		return (1);
	}
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, (size_t)256 * 1024);
	for (i = 1; i < threads; i++) {
		if (pthread_create(&thread, &attr, serve, NULL) != 0)
			return (1);
	}
	serve(NULL);
	return (0);
}
