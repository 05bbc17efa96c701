# SPDX-License-Identifier: GPL-2.0
# What Kconfig does with a .config: the last value of a name wins, and unknown
# names and unmet dependencies vanish without a word.
/^config / { symbol = $2; order[++n] = symbol; next }
/^\tdepends on / { needs[symbol] = $3; next }
/^CONFIG_[A-Z0-9_]+=/ {
	name = $0; sub(/^CONFIG_/, "", name); sub(/=.*/, "", name)
	text = $0; sub(/^[^=]*=/, "", text)
	value[name] = text
}
/^# CONFIG_[A-Z0-9_]+ is not set$/ { name = $2; sub(/^CONFIG_/, "", name); value[name] = "n" }
END {
	print "# Fake kernel configuration"
	for (i = 1; i <= n; i++) {
		name = order[i]
		if (name in needs && value[needs[name]] != "y") continue
		if (value[name] == "" || value[name] == "n") print "# CONFIG_" name " is not set"
		else print "CONFIG_" name "=" value[name]
	}
}
