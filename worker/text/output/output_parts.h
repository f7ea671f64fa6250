/* output_parts.h - the parser's own structure, shared by the files of this folder only.
 *
 * A machine over bytes: each state is a function that looks at the bytes not yet read and takes
 * some of them, or says that it needs more. It may say so only while more bytes could change its
 * mind (a marker may be unfolding), and what it does may not depend on how many it sees beyond what
 * it takes: that is all that independence of the cut into tokens rests on.
 *
 *   TEXT ──open──▶ REASON ──close──▶ TEXT          the answer, and reasoning before it
 *   TEXT ──open──▶ SECTION ──open──▶ BODY or NAME   calls: `raw` keeps what was read since, until
 *   BODY ──{──▶ JSON ──}──▶ AFTER ──, or open──▶ BODY      commit(); before, fall_back() gives it
 *   NAME ──separator──▶ LATE ──▶ ARGS ──{──▶ JSON          back as content
 *   NAME ──separator──▶ KEYS ⇄ KEY, VALUE ──close──▶ AFTER
 *   HEAD ──<|message|>──▶ MESSAGE ──<|end|>──▶ HEAD         gpt-oss
 */
#ifndef MILLRACE_WORKER_TEXT_OUTPUT_PARTS_H
#define MILLRACE_WORKER_TEXT_OUTPUT_PARTS_H

#include "shared/base/buf.h"
#include "worker/text/output/output.h"
#include "worker/text/output/tools.h"

enum { MAX_NAME = 256, MAX_SEED = 128 };

struct output_job {
    struct output_format format;
    struct output_wants wants;
    struct tool_list tools;
    char seed[MAX_SEED]; /* the markers that the prompt ends with: read first, silently */
    size_t n_seed;
};

enum state {
    S_TEXT,
    S_REASON,
    S_SECTION, /* calls are opened, none has begun */
    S_BODY,    /* where a call's JSON begins */
    S_JSON,
    S_AFTER, /* between calls, or after the last */
    S_NAME,  /* header: NAME separator */
    S_LATE,  /* after the separator, where the name may stand */
    S_ARGS,  /* where the arguments' JSON begins */
    S_KEYS,  /* tags: between arguments */
    S_KEY,
    S_VALUE_OPEN,
    S_VALUE,
    S_CODE,    /* <|python_tag|>: code, all of it one argument */
    S_BUILTIN, /* <|python_tag|>: name.call(key="value") */
    S_HEAD,
    S_MESSAGE,
    S_OVER, /* single_call: nothing counts any more */
    N_STATES
};

/* The JSON of a call, byte by byte. */
enum json_state {
    J_KEY_OR_END,
    J_KEY_START, /* after a comma */
    J_KEY,
    J_COLON,
    J_VALUE,
    J_NAME,
    J_ARGS_TREE, /* an object or array, as it stands */
    J_ARGS_STRING,
    J_ARGS_WORD,
    J_SKIP_TREE, /* a value of no meaning here */
    J_SKIP_STRING,
    J_SKIP_WORD,
    J_NEXT, /* after a value */
};

struct unescape { /* of a JSON string, byte by byte; units of \u join across bytes */
    bool esc;
    int hex; /* digits still to come */
    uint32_t unit, high;
};

struct json_call {
    enum json_state state;
    bool alone;  /* only arguments are read; they end the call */
    bool nested; /* inside "function": {...} */
    bool has_name, has_args;
    bool in_string, esc, any;
    uint32_t depth;
    struct unescape u;
};

struct event {
    enum delta_kind kind;
    uint32_t tool_index;
    size_t at, n; /* in struct output.text */
};

struct token_end {
    uint64_t at; /* first byte after the token */
    bool reasoning;
};

struct output {
    const struct output_job *job; /* borrowed */
    enum state state;
    struct buf pend;                  /* not yet read */
    struct buf ws;                    /* white space before what comes */
    struct buf raw;                   /* read since the start of a call that is not committed */
    struct buf name, key, word, held; /* a call's name; a key; a value; arguments before the name */
    struct json_call json;
    bool fresh;        /* no content yet */
    bool after_marker; /* white space here is the marker's, not the text's */
    bool seeding;      /* nothing is told */
    bool committed;    /* the call at hand has its event */
    bool close_due;    /* a call's end marker may still come */
    bool wrapped;      /* wrap_open was read */
    bool in_list, fence;
    bool in_id;   /* name: a call id is being passed over */
    bool in_args; /* builtin: the parenthesis is open */
    bool no_args; /* message, value: nothing of it yet */
    bool newline; /* value: a line end that may be its last */
    uint32_t n_keys;
    enum arg_type arg;
    enum delta_kind message; /* of the message at hand */
    uint32_t n_calls;
    bool failed;
    bool stops[256]; /* bytes at which a run of text must pause: markers may begin there */

    struct event *events; /* owned */
    size_t n_events, next_event, cap_events;
    struct buf text;

    /* Counting reasoning tokens: every byte that is read is told apart; a token is popped when its
     * last byte was. */
    struct token_end *tokens; /* owned; a queue */
    size_t n_tokens, first_token, cap_tokens;
    uint64_t fed, counted, deferred;
    bool label; /* set by a step: its bytes are reasoning */
    bool defer; /* set by a step: told later */
    uint32_t reasoning_tokens;
};

/* 0: needs more; never when `end`. OUT_AGAIN: took nothing, the state has changed. */
#define OUT_AGAIN ((size_t)-1)
typedef size_t step_fn(struct output *o, const char *s, size_t n, bool end);

/* output.c */
void out_emit(struct output *o, enum delta_kind kind, const char *p, size_t n);
void out_content(struct output *o, const char *p, size_t n); /* with the white space before it */
void out_state(struct output *o, enum state state);
enum { MATCH_NONE = -1, MATCH_MORE = -2 };
/* Which of the markers (NULL: not one) the bytes start with, the longest of several. */
int out_match(const char *s, size_t n, bool end, const char *const *list, int count, size_t *len);
bool out_is_space(char c);
static inline const struct call_form *out_form(const struct output *o)
{
    return o->job->wants.tools ? o->job->format.calls : NULL;
}

/* calls.c */
void call_open(struct output *o, const char *s, size_t n, enum state state);
bool call_commit(struct output *o); /* false: no such tool; fall back */
void call_args(struct output *o, const char *p, size_t n);
void call_finish(struct output *o);
void call_fall_back(struct output *o); /* what was read of this call is content; or ends it */
void out_keep(struct output *o, const char *s, size_t n); /* raw, of a call not committed */
step_fn step_section, step_body, step_json, step_after;

/* json_call.c */
enum json_verdict { JSON_GO, JSON_DONE, JSON_BAD }; /* BAD: the byte is not taken */
void json_call_start(struct json_call *j, bool alone);
enum json_verdict json_call_byte(struct output *o, char c);
bool unescape_byte(struct unescape *u, char c, struct buf *out); /* false: the string is over */
void unescape_end(struct unescape *u, struct buf *out);

/* header_call.c */
step_fn step_name, step_late, step_args;
/* tag_call.c */
step_fn step_keys, step_key, step_value_open, step_value;
void tag_start(struct output *o); /* the name is known and told */
void tag_value_end(struct output *o, bool whole);
/* code_call.c */
step_fn step_code, step_builtin;
void code_start(struct output *o);
void builtin_end(struct output *o);
/* channel.c */
step_fn step_head, step_message;
void message_end(struct output *o);
void head_end(struct output *o);

#endif
