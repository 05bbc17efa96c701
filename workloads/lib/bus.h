/* SPDX-License-Identifier: GPL-2.0 */
/* SIGBUS for race_touch(), race_store() and race_copy(), see race.h. */
#ifndef WORKLOADS_BUS_H
#define WORKLOADS_BUS_H

/* Installs the handler for the whole program, once. Never fails. */
void bus_catch(void);

#endif
