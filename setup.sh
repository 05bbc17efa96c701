#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Makes a fresh Debian ready for the harness: the packages of vm/packages.txt,
# then the virtual environment .venv.  When all is there it says nothing and
# takes a blink; every `make` target begins with it.
#
# Exit: 0 ready; 2 a person must act (not Debian; neither root nor sudo; no
# Python 3.11); 125 apt or pip failed.
#
#   --tests                   also those of tests/packages.txt, which only tests need
#
#   HARNESS_SKIP_PACKAGES=1   do not look at packages, only make .venv
#   HARNESS_PYTHON=PROGRAM    make .venv with this Python
#   HARNESS_OS_RELEASE=FILE   instead of /etc/os-release (tests)
set -eu
cd "$(dirname "$0")"
LC_ALL=C.UTF-8
export LC_ALL

stamp=.venv/.setup-stamp
lists=vm/packages.txt

say() {
	printf 'setup: %s\n' "$*" >&2
}

die() {
	status=$1
	shift
	say "$*"
	exit "$status"
}

# Package names of the lists, one per line.
packages() {
	# shellcheck disable=SC2086 # several names
	cat $lists | while read -r name _; do
		case $name in
		'' | '#'*) ;;
		*) printf '%s\n' "$name" ;;
		esac
	done
}

is_debian() {
	command -v dpkg-query >/dev/null 2>&1 || return 1
	command -v apt-get >/dev/null 2>&1 || return 1
	[ -r "${HARNESS_OS_RELEASE:-/etc/os-release}" ] || return 1
	while IFS='=' read -r key value; do
		case $key in
		ID | ID_LIKE)
			case " $(printf %s "$value" | tr -d "\"'") " in
			*' debian '*) return 0 ;;
			esac
			;;
		esac
	done <"${HARNESS_OS_RELEASE:-/etc/os-release}"
	return 1
}

# Packages of the list that dpkg does not call installed.
missing_packages() {
	installed=$(packages | xargs dpkg-query -W -f '${db:Status-Status} ${Package}\n' \
		2>/dev/null | sed -n 's/^installed //p') || true
	for name in $(packages); do
		case "
$installed
" in
		*"
$name
"*) ;;
		*) printf '%s ' "$name" ;;
		esac
	done
}

print_list() {
	# shellcheck disable=SC2086
	sed -n '/^[^#]/p' $lists >&2
}

# Lines of a log that say why, best first, on one line.
reason() {
	grep -m1 "$1" "$2" || tail -n1 "$2"
}

install_packages() {
	if [ "$(id -u)" = 0 ]; then
		sudo=
	elif command -v sudo >/dev/null 2>&1; then
		sudo=sudo
	else
		say "missing Debian packages: $1"
		die 2 "this needs root or sudo.  As root, type: apt-get install $1"
	fi
	say "missing Debian packages: $1"
	say "installing them with ${sudo:+$sudo }apt-get"
	log=$(mktemp "${TMPDIR:-/tmp}/harness-apt.XXXXXX")
	# A source that cannot be reached does no harm if the others have the packages.
	# Services started by a package must not inherit our lock: 9<&-.
	# shellcheck disable=SC2086 # $1 is a list, $sudo may be empty
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 \
		update </dev/null >"$log" 2>&1 9<&- || true
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
		install --no-install-recommends $1 </dev/null >>"$log" 2>&1 9<&- ||
		die 125 "apt-get install failed: $(reason '^E: ' "$log") (whole log: $log)"
	still=$(missing_packages)
	[ -z "$still" ] || die 125 "apt-get installed everything but: $still(whole log: $log)"
	rm -f "$log"
}

python_fits() {
	"$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# The system's Python first: a pyenv shim in PATH may point anywhere tomorrow.
find_python() {
	for candidate in ${HARNESS_PYTHON:-/usr/bin/python3 /usr/bin/python3.1[1-9] python3}; do
		if python_fits "$candidate"; then
			printf '%s\n' "$candidate"
			return 0
		fi
	done
	die 2 "no Python 3.11 or newer with venv; type: HARNESS_PYTHON=/path/to/python3 ./setup.sh"
}

# What .venv was made from.  Its scripts contain its path: a moved checkout differs.
wanted_stamp() {
	sha256sum pyproject.toml
	pwd
}

venv_is_ready() {
	[ -x .venv/bin/harness ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted_stamp)" ]
}

make_venv() {
	if [ -f "$stamp" ] && [ "$(tail -n1 "$stamp")" != "$(pwd)" ]; then
		rm -rf .venv
	fi
	rm -f "$stamp"
	log=$(mktemp "${TMPDIR:-/tmp}/harness-venv.XXXXXX")
	if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
		python=$(find_python)
		say "making .venv with $python"
		"$python" -m venv --clear .venv >"$log" 2>&1 ||
			die 125 "$python -m venv failed: $(reason '^Error' "$log") (whole log: $log)"
	fi
	say "installing Python packages into .venv"
	.venv/bin/python -m pip --disable-pip-version-check install --quiet -e '.[dev]' \
		</dev/null >"$log" 2>&1 ||
		die 125 "pip install failed: $(reason '^ERROR' "$log") (whole log: $log)"
	rm -f "$log"
	wanted_stamp >"$stamp"
}

check_packages() {
	[ -z "${HARNESS_SKIP_PACKAGES:-}" ] || return 0
	if ! is_debian; then
		say "this is not a Debian-like system: install what it calls these Debian packages"
		print_list
		die 2 "then type: HARNESS_SKIP_PACKAGES=1 ./setup.sh${asked:+ $asked}"
	fi
	missing=$(missing_packages)
	[ -z "$missing" ] || install_packages "${missing% }"
}

asked=${1:-}
case $asked in
'') ;;
--tests) lists="$lists tests/packages.txt" ;;
*) die 2 "no option $asked; there is only --tests" ;;
esac

# Two `make` in one checkout: the second waits here for the first.
if command -v flock >/dev/null 2>&1; then
	exec 9<setup.sh
	flock 9
fi
check_packages
venv_is_ready || make_venv
