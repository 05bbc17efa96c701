/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A file that one thread changes in every way there is, with a model of it in
 * memory: what the file must read as. Others may read it meanwhile.
 */
#ifndef WORKLOADS_MODEL_H
#define WORKLOADS_MODEL_H

#include "lib/race.h"

#define MODEL_MAX (1ul << 20)

struct model {
	char		name[24];
	int		fd, direct;	/* buffered and O_DIRECT */
	char		*map;		/* MODEL_MAX bytes, shared */
	bool		use_direct;	/* also write with O_DIRECT: nobody else may fault then */
	bool		use_clone;	/* the file system can share blocks */
	size_t		size;
	unsigned char	*want;		/* 0 beyond size */
	bool		*unknown;	/* bytes that a failed call left in doubt */
	unsigned char	*scratch;
	long long	steps, full;	/* done; of these, ended by ENOSPC */
};

/* All data of models: bytes below 0x80. Fills @buf with it. */
void model_fill(void *buf, size_t len, uint64_t *rng);

/* Creates the file, empty. Invalid trial on failure. */
void model_create(struct model *m, struct trial *t, const char *name);

/* Opens it again, after model_close() or a new mount. Exposed if it is not there. */
bool model_open(struct model *m, struct trial *t);
void model_close(struct model *m);

/* One random change or check. False if the trial is lost: exposed, and why is said. */
bool model_step(struct model *m, struct trial *t, uint64_t *rng);

/*
 * Reads the whole file and compares. @when completes the sentence "wrong ...".
 * Returns false, and says exposed, if a byte is not what it must be.
 */
bool model_verify(struct model *m, struct trial *t, const char *when);

#endif
