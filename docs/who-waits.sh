#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Where the visitor of workloads/bench/beside.c sleeps while the holder holds: the stacks of its
# thread, looked at over and over, the most frequent first (docs/bench.md).  In a guest:
#
#	harness boot --guest bench KERNEL --exec "FS=xfs HOLDER=truncate; $(cat docs/who-waits.sh)"
#
# Needs /proc/PID/stack (CONFIG_STACKTRACE, root).
disk=/dev/nullb0
case $FS in
ext4) mkfs.ext4 -q -F -E lazy_itable_init=0 $disk ;;
xfs) mkfs.xfs -q -f $disk ;;
*) echo "FS=$FS: not ext4 or xfs" >&2; exit 2 ;;
esac
mount -t "$FS" $disk /mnt || exit 3
/workloads/bench/beside --holder "$HOLDER" --trials 1 --seed 1 --slow 5 --dir /mnt >/tmp/said 2>&1 &
parent=$!
racer=
while [ -z "$racer" ] && kill -0 $parent 2>/dev/null; do
	for process in /proc/[0-9]*; do
		read -r name 2>/dev/null <"$process/comm" || continue
		[ "$name" = beside ] && [ "$process" != /proc/$parent ] && racer=$process
	done
done
while kill -0 $parent 2>/dev/null; do
	for thread in "$racer"/task/*; do
		stack=
		while read -r _ function; do
			stack="$stack ${function%%+*}"
		done 2>/dev/null <"$thread/stack"
		# The holder has none of it: it writes and cuts.
		case $stack in
		*filemap_fault*) echo "${stack%% filemap_fault*} filemap_fault" ;;
		esac
	done
done | sort | uniq -c | sort -rn
wait $parent || { cat /tmp/said >&2; exit 1; }
