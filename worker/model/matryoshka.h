/* matryoshka.h - whose vectors may be shortened: Kusupati et al. 2022, "Matryoshka Representation
 * Learning". Model files do not say it, so published families stand in a table, by the name that
 * their files carry; for all others whoever serves the model says so. */
#ifndef MILLRACE_WORKER_MODEL_MATRYOSHKA_H
#define MILLRACE_WORKER_MODEL_MATRYOSHKA_H

#include "shared/base/str.h"
#include <stdint.h>

/* The least number of dimensions that a model of this general.name was trained for; 0: not known
 * to be a Matryoshka model. Case, blanks, points and underscores do not count. */
uint32_t matryoshka_min(struct str name);

#endif
