# SPDX-License-Identifier: GPL-2.0
# A linker in miniature: ld.sh OUTPUT OBJECT...
out=$1
shift
if grep -q UNDEFINED "$@"; then
	echo "ld: mm/filemap.o: in function \`filemap_fault':" >&2
	echo "filemap.c:(.text+0x1): undefined reference to \`range_lock'" >&2
	exit 1
fi
cat "$@" > "$out"
