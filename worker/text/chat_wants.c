#include "worker/text/chat_wants.h"

#include "worker/text/chat_prompt.h"
#include <string.h>

/* A template on trial: real ones take some ten thousand steps for these conversations. */
enum { TRIAL_STEPS = 1 << 22 };

#define ASK "{\"role\":\"user\",\"content\":\"q\"}"
#define CALL(id)                                                                                   \
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"" id "\",\"type\":"        \
    "\"function\",\"function\":{\"name\":\"probe_call\",\"arguments\":\"{\\\"probe\\\": 1}\"}}]}"
#define RESULT(id, content)                                                                        \
    "{\"role\":\"tool\",\"tool_call_id\":\"" id "\",\"name\":\"probe\",\"content\":" content "}"
#define TOOLS                                                                                      \
    ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"probe\",\"description\":\"p\","   \
    "\"parameters\":{\"type\":\"object\",\"properties\":{}}}}]"
#define CHAT(messages, more) "{\"messages\":[" messages "]" more "}"
#define CALLED(id)           CHAT(ASK "," CALL(id) "," RESULT(id, "\"r\""), TOOLS)
#define PARTS                "[{\"type\":\"text\",\"text\":\"trial part\"}]"
#define NINE                 "abcdefghi"

struct trial {
    const struct chat_template *t;
    struct chat_prompt_env env;
    struct buf out;
};

static enum err render(struct trial *t, const struct chat_wants *wants, const char *request)
{
    struct errmsg why = {0};
    buf_clear(&t->out);
    t->env.wants = *wants;
    t->env.max_steps = TRIAL_STEPS;
    return chat_prompt_build(t->t, str_of(request), &t->env, &t->out, &why);
}

static bool wrote(const struct trial *t, const char *text)
{
    return t->out.n && memmem(t->out.p, t->out.n, text, strlen(text));
}

/* Its text is there, and it did not get there by printing the list. */
static bool takes_parts(struct trial *t, const struct chat_wants *others, enum chat_role role)
{
    static const char *const chats[CHAT_ROLES] = {
        [CHAT_SYSTEM] = CHAT("{\"role\":\"system\",\"content\":" PARTS "}," ASK, ""),
        [CHAT_USER] = CHAT("{\"role\":\"user\",\"content\":" PARTS "}", ""),
        [CHAT_ASSISTANT] = CHAT(ASK ",{\"role\":\"assistant\",\"content\":" PARTS "}," ASK, ""),
        [CHAT_TOOL] = CHAT(ASK "," CALL(NINE) "," RESULT(NINE, PARTS), TOOLS),
    };
    struct chat_wants wants = *others;
    wants.parts[role] = true;
    return render(t, &wants, chats[role]) == ERR_OK && wrote(t, "trial part") &&
           !wrote(t, "'trial part'") && !wrote(t, "\"trial part\"");
}

/* Qwen3's looks for a tag in it, GLM's writes "None". Others ask whether it is none. */
static bool empty_content(struct trial *t, const struct chat_wants *wants)
{
    struct chat_wants empty = *wants;
    if (render(t, wants, CALLED(NINE)) == ERR_OK && !wrote(t, "None"))
        return false;
    empty.empty_content = true;
    return render(t, &empty, CALLED(NINE)) == ERR_OK && !wrote(t, "None");
}

/* The form that is written as the JSON that it is. */
static bool text_arguments(struct trial *t, bool no_null)
{
    const struct chat_wants object = {.empty_content = no_null};
    const struct chat_wants text = {.text_arguments = true, .empty_content = no_null};
    if (render(t, &object, CALLED(NINE)) == ERR_OK && wrote(t, "{\"probe\": 1}"))
        return false;
    return render(t, &text, CALLED(NINE)) == ERR_OK && wrote(t, "{\"probe\": 1}");
}

static bool short_ids(struct trial *t, const struct chat_wants *wants)
{
    return render(t, wants, CALLED("call_0123456789abcdef")) == ERR_TEMPLATE &&
           render(t, wants, CALLED(NINE)) == ERR_OK;
}

/* Its name is nowhere else: the tool has another. */
static bool no_calls(struct trial *t, const struct chat_wants *wants)
{
    return render(t, wants, CALLED(NINE)) == ERR_OK && !wrote(t, "probe_call");
}

static bool no_tools(struct trial *t)
{
    static const struct chat_wants none;
    if (render(t, &none, CHAT(ASK, TOOLS)) != ERR_OK)
        return false;
    struct buf with = t->out;
    buf_init(&t->out);
    const bool same = render(t, &none, CHAT(ASK, "")) == ERR_OK && t->out.n == with.n &&
                      (with.n == 0 || memcmp(t->out.p, with.p, with.n) == 0);
    buf_fini(&with);
    return same;
}

struct chat_wants chat_wants_of(const struct chat_template *t, const struct chat_prompt_env *env)
{
    struct trial trial = {.t = t, .env = *env};
    struct chat_wants w = {.text_arguments = false};
    buf_init(&trial.out);
    /* Arguments in the wrong form can fail the whole conversation, and so can null. */
    w.text_arguments = text_arguments(&trial, false) || text_arguments(&trial, true);
    w.empty_content = empty_content(&trial, &w);
    w.short_ids = short_ids(&trial, &w);
    w.no_tools = no_tools(&trial);
    w.no_calls = no_calls(&trial, &w);
    for (int role = 0; role < CHAT_ROLES; role++)
        w.parts[role] = takes_parts(&trial, &w, (enum chat_role)role);
    buf_fini(&trial.out);
    return w;
}
