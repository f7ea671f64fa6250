/* pooling.h - the last states of an input's tokens to the one vector that stands for it.
 *
 * An input may come in pieces (chunked prefill): rows are added in order, and the result does not
 * depend on where it was cut, because sums are taken in double, row by row.
 * Memory: all borrowed. Thread: no shared state. */
#ifndef MILLRACE_WORKER_MODEL_POOLING_H
#define MILLRACE_WORKER_MODEL_POOLING_H

#include <stdbool.h>
#include <stdint.h>

/* Values 0 to 4 as `pooling_type` in files. */
enum pooling {
    POOL_MODEL = -1, /* what the file says */
    POOL_NONE = 0,   /* every token's own */
    POOL_MEAN = 1,
    POOL_CLS = 2,
    POOL_LAST = 3,
    POOL_RANK = 4 /* a reranker's score, of the first token's state */
};

/* "none", "mean", "cls", "last", "rank"; false: no such word. */
bool pooling_by_name(const char *name, enum pooling *out);
const char *pooling_name(enum pooling kind);

struct pooled {
    enum pooling kind;
    uint32_t n;      /* values of a row */
    uint32_t n_rows; /* of the input so far, wanted or not */
    double *sums;    /* borrowed [n]; of MEAN */
    float *vector;   /* borrowed [n]; [rows, n] for NONE: the result */
};

/* Which of the next n_tok rows pooled_add() needs: *first and the count; 0: none of them. `last`:
 * the input ends with them. */
uint32_t pooled_wants(const struct pooled *p, uint32_t n_tok, bool last, uint32_t *first);
/* The next n_tok rows are computed; `rows` holds those that were wanted, [wanted, n]. */
void pooled_add(struct pooled *p, const float *rows, uint32_t n_tok, bool last);

/* Scales x to length 1 (zeros stay zeros). */
void pooled_normalize(float *x, uint32_t n);

#endif
