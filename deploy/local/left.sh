# shellcheck shell=sh
# left.sh -- what a killed supervisor, or a killed program, leaves behind.
#
# `runsvdir -P` gives each runsv a session, which its program, their children
# and svlogd stay in; it has the number of the runsv.  What is in that session
# and doesn't descend from the runsv any more has been left behind.
#
# While a session has a process, its number is not given to another.  So the
# session that a record names is still the same if any process in it is as
# old as the record; otherwise its number is a stranger's by now.  A record
# (run/state/<instance>/session) is one line:
#	BOOT PID-NAMESPACE SESSION BEGAN
# with the time since that boot, in clock ticks, when its writer was in the
# session.

# read_stat PID -- sets stat_session and stat_began; 1 if no such
# process runs.
read_stat() {
	{ read -r stat_line <"/proc/$1/stat"; } 2>/dev/null || return 1
	# The name is in parentheses, and may have any characters.
	# shellcheck disable=SC2086
	set -- ${stat_line##*) }
	shift 3
	# shellcheck disable=SC2034 # who sources this has uses for both
	stat_session=$1 stat_began=${17}
	case $stat_line in
	*') Z '*|*') X '*) return 1 ;;
	esac
}

this_boot="$(cat /proc/sys/kernel/random/boot_id) $(readlink /proc/self/ns/pid)"

# read_record STATE-DIRECTORY -- sets session and began; 1 if there is none
# of this boot.
read_record() {
	{ read -r boot space session began rest <"$1/session"; } 2>/dev/null ||
	    return 1
	case $session$began in
	*[!0-9]*) return 1 ;;
	esac
	[ "$boot $space" = "$this_boot" ] && [ -z "$rest" ] &&
	    [ "${session:-0}" -gt 1 ] && [ -n "$began" ]
}

# left_in SESSION BEGAN [all] -- "PID NAME" of what was left behind in it, a
# line each; or of all that is in it.
left_in() {
	cat /proc/[0-9]*/stat 2>/dev/null | awk -v session="$1" -v began="$2" \
	    -v all="${3-}" '
	{
		pid = $1
		name = $0
		sub(/^[0-9]+ \(/, "", name)
		sub(/\) [^)]*$/, "", name)
		sub(/.*\) /, "")
		if ($4 == session && $20 + 0 <= began + 0)
			same = 1
		if ($1 == "Z" || $1 == "X")
			next
		parent[pid] = $2
		if ($4 == session)
			names[pid] = name
	}
	END {
		for (pid in names) {
			for (p = pid; p != session && p in parent; )
				p = parent[p]
			if (same && (all || p != session || !(p in parent)))
				print pid, names[pid]
		}
	}' | sort -n
}

# end_in SIGNAL TENTHS SESSION BEGAN [all] -- have what was left end, svlogd by
# itself after those that it logs for; kill what still runs after so many
# tenths of a second.  1 if something outlives that.
end_in() {
	end_with=$1 tenths=$2
	shift 2
	left=$(left_in "$@")
	[ -n "$left" ] || return 0
	# shellcheck disable=SC2046
	kill -s "$end_with" -- $(echo "$left" |
	    awk '$2 != "svlogd" { print $1 }') 2>/dev/null
	while [ -n "$left" ] && [ "$tenths" -gt 0 ]; do
		sleep 0.1
		tenths=$((tenths - 1))
		left=$(left_in "$@")
	done
	tenths=30
	while [ -n "$left" ] && [ $tenths -gt 0 ]; do
		# shellcheck disable=SC2046
		kill -s KILL -- $(echo "$left" | cut -d' ' -f1) 2>/dev/null
		sleep 0.1
		tenths=$((tenths - 1))
		left=$(left_in "$@")
	done
	[ -z "$left" ]
}

# is_lost STATE-DIRECTORY -- the supervisor on record is gone; sets session
# and began.
is_lost() {
	read_record "$1" && ! read_stat "$session"
}

# lost_of STATE-DIRECTORY -- what a killed supervisor left, as left_in prints
# it; 1 if nothing.
lost_of() {
	is_lost "$1" && left_in "$session" "$began" | grep .
}

# take_over STATE-DIRECTORY INSTANCE -- end what a killed supervisor left, and
# say so; 1 if some of it can't be ended.  One at a time: hold its lock.
take_over() {
	is_lost "$1" || return 0
	lost=$(left_in "$session" "$began")
	[ -n "$lost" ] || return 0
	lost=$(echo "$lost" | awk '{ printf "%s%s (pid %s)", comma, $2, $1
		comma = ", " }')
	if ! end_in TERM 50 "$session" "$began"; then
		echo "supervisor: that of $2 was killed; can't end all that it" \
		    "left: $lost"
		return 1
	fi
	echo "supervisor: that of $2 was killed; ended what it left: $lost"
}
