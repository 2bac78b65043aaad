# shellcheck shell=sh
# env.sh -- where things are; read by the scripts in this directory.
#
# All of it can be set from the environment, so that several Millraces can
# run side by side:
#	MILLRACE_BUILD	build: programs in its bin/
#	MILLRACE_DATA	data: state files, and Kafka's in data/kafka
#	MILLRACE_RUN	run: sockets, pids, configuration, logs
#	MILLRACE_PORT	8000: nginx
#	PORT_6066	6066, and likewise 6067: the ports of a service's own that
#			the table names; 0 for none, as where nginx is not on 8000
#	MILLRACE_HOSTS	further host names that nginx serves, commas between
#	MILLRACE_BROKERS  an existing Kafka; without it one is started here
#	BROKER		which is started here: embedded (build/bin/broker, with
#			data/broker) or kafka (Apache Kafka, with data/kafka); by
#			default the one that has data there, or else embedded
#	BROKERS		3: three of Apache Kafka, on the ports from KAFKA_PORT on; by
#			default as many as have data there, or else 1
#	KAFKA_PORT	9092: its port, either's
#	KAFKA_METRICS_PORT  9404: where Apache Kafka's metrics are; 0 for
#			nowhere, as where KAFKA_PORT is not 9092; the next ports are
#			the other brokers'

PATH=$PATH:/usr/sbin:/sbin
LC_ALL=C
export PATH LC_ALL

absolute() {
	case $1 in
	/*)	echo "$1" ;;
	*)	echo "$ROOT/$1" ;;
	esac
}

ROOT=$(cd "$(dirname "$0")/../.." && pwd -P) || exit 1
LOCAL=$ROOT/deploy/local
RUN=$(absolute "${MILLRACE_RUN:-run}")
SV=$RUN/sv

# What `ctl up` was given holds until everything is stopped.
kept() {
	sed -n "s/^$1=//p" "$RUN/settings" 2>/dev/null
}
BUILD=$(absolute "${MILLRACE_BUILD:-$(kept MILLRACE_BUILD)}")
[ "$BUILD" = "$ROOT/" ] && BUILD=$ROOT/build
DATA=$(absolute "${MILLRACE_DATA:-$(kept MILLRACE_DATA)}")
[ "$DATA" = "$ROOT/" ] && DATA=$ROOT/data
PORT=${MILLRACE_PORT:-$(kept MILLRACE_PORT)}
PORT=${PORT:-8000}
HOSTS=${MILLRACE_HOSTS:-$(kept MILLRACE_HOSTS)}
CLUSTER=${MILLRACE_BROKERS:-$(kept MILLRACE_BROKERS)}
KAFKA_BROKERS=${BROKERS:-$(kept KAFKA_BROKERS)}
if [ -z "$KAFKA_BROKERS" ]; then
	KAFKA_BROKERS=1
	[ ! -e "$DATA/kafka/cluster-id" ] || KAFKA_BROKERS=3
fi
BROKER=${BROKER:-$(kept BROKER)}
if [ -z "$BROKER" ]; then
	BROKER=embedded
	if [ "${BROKERS-}" = 3 ] || { [ -d "$DATA/kafka" ] &&
	    [ ! -d "$DATA/broker" ]; }; then
		BROKER=kafka
	fi
fi
KAFKA_PORT=${KAFKA_PORT:-$(kept KAFKA_PORT)}
KAFKA_PORT=${KAFKA_PORT:-9092}
KAFKA_METRICS_PORT=${KAFKA_METRICS_PORT:-$(kept KAFKA_METRICS_PORT)}
if [ -z "$KAFKA_METRICS_PORT" ]; then
	KAFKA_METRICS_PORT=0
	[ "$KAFKA_PORT" = 9092 ] && KAFKA_METRICS_PORT=9404
fi
KAFKA_DATA=$DATA/kafka
KAFKA_RUN=$RUN/kafka
export KAFKA_PORT KAFKA_METRICS_PORT KAFKA_DATA KAFKA_RUN KAFKA_BROKERS

# The table's lines without comments: program, urls, flags.
table() {
	sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$LOCAL/services"
}

programs() {
	table | awk '{ print $1 }'
}

# The ports of their own that services have, as the table names them.
own_ports() {
	table | awk '{ print $2 }' | tr , '\n' | sed -n 's/^://p'
}

# Where such a port really is; 0 for nowhere.
port_of() {
	eval "port=\${PORT_$1:-\$(kept PORT_$1)}"
	[ -n "$port" ] || { [ "$PORT" = 8000 ] && port=$1; }
	echo "${port:-0}"
}

# The instances that are brokers: those that may be there, and those to start.
ANY_KAFKA='kafka kafka-2 kafka-3'
kafka_instances() {
	[ "$BROKER-$KAFKA_BROKERS" = kafka-3 ] && echo "$ANY_KAFKA" || echo kafka
}

# kafka is node 1, kafka-2 node 2; the ports of each are one further.
node_of() {
	case $1 in
	kafka)	echo 1 ;;
	*)	echo "${1#kafka-}" ;;
	esac
}

# How many instances of a program there are to be.
scale_of() {
	cat "$RUN/scale/$1" 2>/dev/null || echo 1
}

# orders, notifications, notifications-2, ...: all instances of a program.
instances_of() {
	echo "$1"
	n=2
	while [ "$n" -le "$(scale_of "$1")" ]; do
		echo "$1-$n"
		n=$((n + 1))
	done
}

all_instances() {
	for p in $(programs); do
		instances_of "$p"
	done
}

# The program of an instance: itself, or its name without the number.
program_of() {
	for p in $(programs); do
		if [ "$1" = "$p" ]; then
			echo "$p"
			return
		fi
	done
	echo "${1%-[0-9]*}"
}

has_ipv6() {
	grep -qs '^00000000000000000000000000000001 ' /proc/net/if_inet6
}

fail() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}
