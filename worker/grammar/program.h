/* program.h - an expression as instructions of a pushdown automaton over bytes.
 *
 * A configuration is a program counter and a stack of frames. BYTES consumes one byte; the others
 * are steps without one:
 *     SPLIT  goes on at each of its targets
 *     CALL   pushes {return to next} and goes to the rule; RET pops. A call in tail position is a
 *            jump, so that right recursion needs no stack
 *     LOOP   pushes {this loop, count 0}; NEXT, at the end of its body, counts and goes round or
 * on. Counts are kept in the frame: maxLength 1000 is one loop, not 1000 copies A rule's body ends
 * in RET; RET on the empty stack is the end of the text. */
#ifndef MILLRACE_WORKER_GRAMMAR_PROGRAM_H
#define MILLRACE_WORKER_GRAMMAR_PROGRAM_H

#include "shared/base/err.h"
#include "worker/grammar/expr.h"

enum op { OP_NEVER, OP_BYTES, OP_SPLIT, OP_CALL, OP_RET, OP_LOOP, OP_NEXT };

struct instr {
    uint8_t op;
    bool tail;     /* CALL: next is a RET */
    uint32_t next; /* BYTES, CALL, LOOP (the exit), NEXT (its LOOP) */
    uint32_t a;    /* BYTES: set; SPLIT: first target; CALL: rule; LOOP: body */
    uint32_t b;    /* SPLIT: number of targets */
    uint32_t min, max;
};

struct program {
    struct instr *code; /* owned, as all below */
    uint32_t n_code, cap_code;
    uint32_t *targets;
    uint32_t n_targets, cap_targets;
    struct byte_set *sets;
    uint32_t n_sets, cap_sets;
    uint32_t *entry;         /* [n_rules] */
    uint32_t n_rules, start; /* start: where matching begins */
    uint8_t byte_class[256]; /* bytes that no set tells apart share a class */
    uint8_t class_byte[256]; /* [n_classes] one byte of each */
    uint32_t n_classes;
};

/* Compiles the rules that `start` reaches. ERR_UNSUPPORTED: a rule that begins with itself;
 * ERR_INVALID: no text satisfies it;
 * ERR_RANGE: too large. The grammar may be freed afterwards. */
enum err program_compile(struct program *p, struct expr_grammar *g, uint32_t start,
                         struct errmsg *why) MUST_CHECK;
void program_fini(struct program *p);

#endif
