/* commands.h - the subcommands of millrace-worker, one function and one file (cmd_NAME.c) each.
 * argv[0] is the subcommand's name. They return the exit status: 0 done, 1 the work failed, 2
 * unusable arguments. */
#ifndef MILLRACE_WORKER_COMMANDS_H
#define MILLRACE_WORKER_COMMANDS_H

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* X(name, arguments, what it does) -> int cmd_NAME(int argc, char **argv); add a row, then write
 * cmd_NAME.c. */
// clang-format off
#define WORKER_COMMANDS(X)                                                                         \
    X(serve,  "MODEL --shm-fd N ...",                "what the gateway starts")                    \
    X(inspect, "MODEL [--context N] [--slots N] [--json]", "what it is, needs, would run")          \
    X(plan, "MODEL|NAME|SIZE [--gpu G --count N] ...", "what fits, how many GPUs, estimates")       \
    X(render, "TEMPLATE.jinja < case.json",          "the prompt text of a conversation")          \
    X(logits, "MODEL --tokens 1,2,3 [--context N]",  "float32 [n_tokens, n_vocab]")                \
    X(greedy, "MODEL --tokens 1,2,3 -n 32",          "the most likely continuation, JSON")         \
    X(embed,  "MODEL --tokens 1,2,3 [--pooling P]",  "float32 embedding")                          \
    X(bench,  "MODEL [-p 512] [-n 128] [-b 1,8,32]", "tokens per second, JSON")                    \
    X(kernelbench, "[--type T,..] [--tokens N,..] [--in N] [--out N] [--mem MIB] [-t N]",          \
      "speed of one matrix product") \
    X(match, "[--gbnf|--regex] SCHEMA.json < instance", "0: the grammar admits it")               \
    X(dequantize, "TYPE < blocks",                   "blocks of a type to float32")                \
    X(synthesize, "OUT.gguf --preset P --quant Q ...", "a model of random weights; --help")         \
    X(tokenize, "MODEL [--no-add-special] [--parse-special]", "text to ids, JSON")                 \
    X(detokenize, "MODEL",                           "ids, JSON, to text")
// clang-format on

#define X(name, args, help) int cmd_##name(int argc, char **argv);
WORKER_COMMANDS(X)
#undef X

#endif
