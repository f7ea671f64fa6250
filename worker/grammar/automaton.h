/* automaton.h - a program, run on all its choices at once, with what was seen remembered.
 *
 * A state is the set of configurations that the text so far allows. States are numbered, and the
 * step of a state by a class of bytes is computed once: after a while matching is a table look-up.
 * Frames and states are shared (hash-consed) by all sequences that follow the same grammar.
 *
 * Limits: nesting of FRAMES_DEEP; a state of more than CONFIGS_MAX configurations, or more than
 * AUTOMATON_BYTES of tables in all, ends in ERR_RANGE: the job fails with a clear error.
 * Thread: one at a time (a step may add to the tables). */
#ifndef MILLRACE_WORKER_GRAMMAR_AUTOMATON_H
#define MILLRACE_WORKER_GRAMMAR_AUTOMATON_H

#include "worker/grammar/program.h"

enum {
    STATE_DEAD = 0, /* no text goes on from here */
    FRAMES_DEEP = 200,
    CONFIGS_MAX = 4096,
    AUTOMATON_BYTES = 256 << 20,
};

struct automaton; /* opaque */

enum err automaton_open(struct automaton **out, struct expr_grammar *g, uint32_t start,
                        struct errmsg *why) MUST_CHECK;
void automaton_close(struct automaton *a); /* NULL is fine */

uint32_t automaton_start(const struct automaton *a);
/* The state after one byte; STATE_DEAD: the byte is refused, or the tables are full: then
 * automaton_failed() says so, and the refusal means nothing. */
uint32_t automaton_step(struct automaton *a, uint32_t state, uint8_t byte);
bool automaton_failed(const struct automaton *a);
bool automaton_accepts(const struct automaton *a, uint32_t state);  /* the text may end here */
bool automaton_finished(const struct automaton *a, uint32_t state); /* and nothing can follow */
/* Any text of whole UTF-8 characters without controls, quotes and backslashes leads from `state`
 * back to it: the body of an unlimited string. */
bool automaton_takes_text(struct automaton *a, uint32_t state);
size_t automaton_bytes(const struct automaton *a);
uint32_t automaton_n_states(const struct automaton *a);

/* All of the text, from start to an accepting state. */
bool automaton_matches(struct automaton *a, const char *p, size_t n);

#endif
