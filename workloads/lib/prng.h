/* SPDX-License-Identifier: GPL-2.0 */
/* Seeded pseudo random numbers: the same seed gives the same trials. */
#ifndef WORKLOADS_PRNG_H
#define WORKLOADS_PRNG_H

#include <stdint.h>

/* splitmix64: one step; also a good hash of its argument. Never fails. */
static inline uint64_t prng_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return x ^ (x >> 31);
}

/* Next number of the stream held in *state. */
static inline uint64_t prng_next(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ull;
	return prng_mix(*state);
}

/* A number in [0, below); below must not be 0. */
static inline uint64_t prng_below(uint64_t *state, uint64_t below)
{
	return prng_next(state) % below;
}

#endif
