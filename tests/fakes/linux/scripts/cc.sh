# SPDX-License-Identifier: GPL-2.0
# A compiler in miniature: cc.sh SOURCE OBJECT.  Words in the source make it
# fail, fill the disk, or never end.
src=$1 obj=$2
line() { grep -n "$1" "$PWD/$src" | head -n 1 | cut -d: -f1; }
if grep -q SYNTAX_ERROR "$src"; then
	echo "$PWD/$src:$(line SYNTAX_ERROR):5: error: expected ';' before 'SYNTAX_ERROR'" >&2
	exit 1
fi
if grep -q DISK_FULL "$src"; then
	echo "fatal error: error writing to $obj: No space left on device" >&2
	exit 1
fi
if grep -q NO_REASON "$src"; then
	exit 1
fi
if grep -q NEEDS_TOOL "$src"; then
	echo "/bin/sh: 1: flexible: not found" >&2
	exit 127
fi
if grep -q NEVER_ENDS "$src"; then
	echo $$ > "${obj%.o}.pid"
	echo "  CC_RUNS ${obj%.o}.pid"
	: > "$obj"
	exec sleep 600
fi
cp "$src" "$obj"
