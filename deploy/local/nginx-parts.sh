# shellcheck shell=sh
# nginx-parts.sh -- the parts of nginx's configuration that are the same here
# and within docker compose; read by both nginx-conf, after env.sh.
#
# Who reads it says how a program is reached and where nginx listens, as
#	pass PROGRAM		lines within a location
#	listen PORT WHAT	lines within a server

# host_names LIST -- MILLRACE_HOSTS as server_name takes them.
host_names() {
	echo "$1" | tr ', ' '\n\n' | while read -r host; do
		case $host in
		'')	;;
		*[!A-Za-z0-9.:_-]*)
			fail "MILLRACE_HOSTS: '$host' is no host name" ;;
		*)	printf ' %s' "$host" ;;
		esac
	done
}

program_locations() {
	table | while read -r program urls _; do
		[ "$urls" = - ] && continue
		echo "$urls" | tr , '\n' | while read -r url; do
			case $url in :*) continue ;; esac
			printf '\t\tlocation = %s {\n' "$url"
			pass "$program"
			printf '\t\t}\n\t\tlocation %s/ {\n' "$url"
			pass "$program"
			printf '\t\t}\n'
		done
	done
}

# Services' ports of their own; any of their instances answers.
own_servers() {
	table | while read -r program urls _; do
		echo "$urls" | tr , '\n' | sed -n 's/^://p' | while read -r own; do
			port=$(port_of "$own")
			[ "$port" = 0 ] && continue
			printf '\tserver {\n'
			listen "$port" ''
			cat <<EOF
		server_name localhost 127.0.0.1 [::1]$hosts;
		include headers.conf;
		include problems.conf;
		location / {
			return 404;
		}
		location ~ ^/(livez|readyz|metrics)\$ {
EOF
			pass "$program"
			printf '\t\t}\n\t}\n\n\tserver {\n'
			listen "$port" ' default_server'
			cat <<EOF
		server_name "";
		return 421;
	}

EOF
		done
	done
}

# fill WORK FOLDER SED-ARGUMENT... -- write FOLDER/nginx.conf of the template,
# with the files upstreams, locations, own, default and listen in WORK and
# what else sed is to do; and copy what it includes.
fill() {
	work=$1
	folder=$2
	shift 2
	sed -e "/^@UPSTREAMS@/{
r $work/upstreams
d
}" -e "/^@LOCATIONS@/{
r $work/locations
d
}" -e "/^@LISTEN_DEFAULT@/{
r $work/default
d
}" -e "/^@OWN_SERVERS@/{
r $work/own
d
}" -e "/^@LISTEN@/{
r $work/listen
d
}" "$@" "$ROOT/nginx/nginx.conf.in" >"$folder/nginx.conf" &&
	    cp "$ROOT"/nginx/*.conf "$folder/"
}
