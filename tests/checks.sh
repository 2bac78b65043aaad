# shellcheck shell=sh
# checks.sh -- for suites that are shell scripts: source it, have a folder
# ${work}, check, and end with results.
: "${work:?}"
passed=0
failed=0
skipped=0

# check NAME COMMAND... -- one test; what it says is shown if it fails
check() {
	name=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		echo "ok    $name"
		passed=$((passed + 1))
	else
		echo "FAIL  $name"
		sed 's/^/      /' "$work/log" | tail -n 30
		failed=$((failed + 1))
	fi
}

# skip NAME WHY -- one that can't be made here
skip() {
	echo "skip  $1: $2"
	skipped=$((skipped + 1))
}

# refuses WHAT COMMAND... -- it fails, and says WHAT
refuses() {
	what=$1
	shift
	if "$@" >"$work/said" 2>&1; then
		echo 'it was not refused'
		return 1
	fi
	cat "$work/said"
	grep -q -- "$what" "$work/said"
}

# The last line, and the status.
results() {
	if [ "$skipped" -gt 0 ]; then
		echo "$passed passed, $failed failed, $skipped skipped"
	else
		echo "$passed passed, $failed failed"
	fi
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}
