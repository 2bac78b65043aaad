# shellcheck shell=bash
# debian.sh -- a minimal Debian in a folder; read by scripts that need one.
#
# How packages are reached is this machine's business and is read here when it
# runs: apt's archive and settings, certificates.

# The archives that apt has here, one a line, of both formats of its lists.
archives() {
	cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
	    sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\) .*/\2/p'
	cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
	    sed -n 's/^URIs: *//p' | tr ' ' '\n'
}

main_archive() {
	archives | grep -E '/debian/?$' | head -1
}

security_archive() {
	archives | grep -E '/debian-security/?$' | head -1
}

# lay_system FOLDER CODE-NAME PACKAGES,... -- as root.
lay_system() {
	local fresh=$1 code=$2 packages=$3 archive security
	archive=$(main_archive)
	[ -n "$archive" ] || {
		echo "apt's sources here name no Debian archive to lay a system from"
		return 1
	}
	security=$(security_archive)
	debootstrap --variant=minbase \
	    --include="$packages" "$code" "$fresh" \
	    "$archive" >"$fresh.log" 2>&1 || {
		tail -5 "$fresh.log"
		return 1
	}
	{
		echo "deb $archive $code main"
		echo "deb $archive $code-updates main"
		[ -z "$security" ] || echo "deb $security $code-security main"
	} >"$fresh/etc/apt/sources.list"
	apt-config dump 2>/dev/null | grep -E '^Acquire::(https?|ftp|Retries)' \
	    >"$fresh/etc/apt/apt.conf.d/99host"
	cp -a /etc/apt/auth.conf.d/. "$fresh/etc/apt/auth.conf.d/" 2>/dev/null
	# Nobody will mind if a power cut spoils it.
	echo force-unsafe-io >"$fresh/etc/dpkg/dpkg.cfg.d/throwaway"
	cp -L /etc/resolv.conf /etc/hosts "$fresh/etc/"
}

# Certificates that an administrator added are added there as well.
lay_certificates() {
	cp -a /usr/local/share/ca-certificates/. \
	    "$1/usr/local/share/ca-certificates/" 2>/dev/null
	chroot "$1" update-ca-certificates >/dev/null 2>&1
}
