/* kafka_tls -- why a broker's certificate wasn't accepted: librdkafka's own
 * message says only that it wasn't. */
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "kafka/kafka_internal.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char refusal[160]; /* the last one's */

/* Called by librdkafka's threads, once for each certificate of a chain. */
static int
judge_certificate(rd_kafka_t *client, const char *broker, int32_t broker_id,
    int *x509_error, int depth, const char *der, size_t size, char *why,
    size_t why_size, void *opaque)
{
	const char *reason;

	(void)client, (void)broker, (void)broker_id, (void)depth, (void)der;
	(void)size, (void)opaque;
	if (*x509_error == X509_V_OK)
		return (1);
	reason = X509_verify_cert_error_string(*x509_error);
	snprintf(why, why_size, "%s", reason);
	pthread_mutex_lock(&lock);
	snprintf(refusal, sizeof(refusal), "%s", reason);
	pthread_mutex_unlock(&lock);
	return (0);
}

int
client_tls_set(rd_kafka_conf_t *settings, struct mr_error *err)
{

	if (rd_kafka_conf_set_ssl_cert_verify_cb(settings, judge_certificate) ==
	    RD_KAFKA_CONF_OK)
		return (0);
	return (
	    mr_error_set(err, MR_FATAL, "librdkafka was built without TLS"));
}

void
client_tls_explain(const char *reason, char *text, size_t size)
{
	const char *cut = strstr(reason, ": SSL handshake failed");

	pthread_mutex_lock(&lock);
	if (cut != NULL && refusal[0] != '\0' &&
	    strstr(cut, "certificate verify failed") != NULL)
		snprintf(text, size,
		    "%.*s: the broker's certificate isn't "
		    "accepted: %s",
		    (int)(cut - reason), reason, refusal);
	else
		snprintf(text, size, "%s", reason);
	pthread_mutex_unlock(&lock);
}
