/* lexer.h - template source to tokens, one at a time, with Jinja2's white space rules applied:
 * trim_blocks (the newline after a block goes), lstrip_blocks (spaces before a block that starts
 * its line go), "-" and "+" next to a delimiter, one newline at the end of the source goes, \r\n
 * and \r become \n. */
#ifndef MILLRACE_WORKER_TEXT_JINJA_LEXER_H
#define MILLRACE_WORKER_TEXT_JINJA_LEXER_H

#include "shared/base/arena.h"
#include "shared/base/err.h"
#include "shared/base/str.h"

/* X(name, how messages call it) */
#define JJ_TOKENS(X)                                                                               \
    X(EOF, "end of template")                                                                      \
    X(DATA, "template text")                                                                       \
    X(PRINT_BEGIN, "'{{'")                                                                         \
    X(PRINT_END, "'}}'")                                                                           \
    X(BLOCK_BEGIN, "'{%'")                                                                         \
    X(BLOCK_END, "'%}'")                                                                           \
    X(NAME, "name")                                                                                \
    X(STRING, "string")                                                                            \
    X(INT, "integer")                                                                              \
    X(FLOAT, "float")                                                                              \
    X(ADD, "'+'")                                                                                  \
    X(SUB, "'-'")                                                                                  \
    X(DIV, "'/'")                                                                                  \
    X(FLOORDIV, "'//'")                                                                            \
    X(MUL, "'*'")                                                                                  \
    X(MOD, "'%'")                                                                                  \
    X(POW, "'**'")                                                                                 \
    X(TILDE, "'~'")                                                                                \
    X(LBRACKET, "'['")                                                                             \
    X(RBRACKET, "']'")                                                                             \
    X(LPAREN, "'('")                                                                               \
    X(RPAREN, "')'")                                                                               \
    X(LBRACE, "'{'")                                                                               \
    X(RBRACE, "'}'")                                                                               \
    X(EQ, "'=='")                                                                                  \
    X(NE, "'!='")                                                                                  \
    X(GT, "'>'")                                                                                   \
    X(GE, "'>='")                                                                                  \
    X(LT, "'<'")                                                                                   \
    X(LE, "'<='")                                                                                  \
    X(ASSIGN, "'='")                                                                               \
    X(DOT, "'.'")                                                                                  \
    X(COLON, "':'")                                                                                \
    X(PIPE, "'|'")                                                                                 \
    X(COMMA, "','")                                                                                \
    X(SEMICOLON, "';'")

enum jj_tok {
#define X(name, text) T_##name,
    JJ_TOKENS(X)
#undef X
};

struct jj_token {
    enum jj_tok type;
    uint32_t line;
    size_t at;       /* offset in the normalized source */
    struct str text; /* DATA, NAME: in the source; STRING: unescaped, in the arena */
    int64_t i;
    double f;
};

enum { JJ_MAX_BRACKETS = 256 };

struct jj_lexer {
    struct arena *arena; /* borrowed: unescaped strings go there */
    const char *src;     /* normalized */
    size_t n, at;
    uint32_t line;
    enum { LEX_TEXT, LEX_PRINT, LEX_BLOCK } state;
    bool line_starting; /* the last tag ended with a newline, or nothing was read yet */
    enum jj_tok begin;  /* the delimiter found after the text; T_EOF: none pending */
    size_t begin_at;
    char brackets[JJ_MAX_BRACKETS]; /* the closing ones that are expected */
    int n_brackets;
    enum err err; /* sticky; then every token is T_EOF */
    struct errmsg why;
};

/* Normalizes `src` into the arena. ERR_INVALID for invalid UTF-8, ERR_NOMEM. */
enum err jj_lexer_init(struct jj_lexer *lx, struct arena *arena, const char *src, size_t n,
                       struct errmsg *why) MUST_CHECK;
struct jj_token jj_lexer_next(struct jj_lexer *lx);
/* Records an error at an offset of the source: "line 3, column 7: ...". */
void jj_lexer_fail(struct jj_lexer *lx, enum err code, size_t at, const char *fmt, ...)
    PRINTF_LIKE(4, 5);
const char *jj_tok_name(enum jj_tok t);

#endif
