/* fuzz_wk_template.c - a template of arbitrary source, rendered with a fixed conversation, or with
 * the JSON that stands behind the first NUL byte of the input. What it renders must be valid UTF-8.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "shared/base/json.h"
#include "shared/base/utf8.h"
#include "worker/text/template.h"

static const char fixed[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":"
    "[{\"type\":\"text\",\"text\":\"Gr\\u00fc\\u00dfe "
    "\\ud83d\\ude00\"}]},{\"role\":\"assistant\",\"content\":null,"
    "\"tool_calls\":[{\"id\":\"1\",\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1,2.5,true,"
    "null]}}}]},"
    "{\"role\":\"tool\",\"content\":\"42\"}],\"tools\":[{\"type\":\"function\",\"function\":{"
    "\"name\":\"f\"}}],"
    "\"add_generation_prompt\":true,\"bos_token\":\"<s>\",\"eos_token\":\"</"
    "s>\",\"s\":\"a,b\\nc\",\"n\":7,"
    "\"l\":[3,1,2],\"d\":{\"k\":1,\"j\":[{}]},\"big\":123456789012345678901234567890}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - data) : size;
    struct chat_template *t;
    struct errmsg why;
    struct arena a;
    struct json *vars;
    struct buf out;
    if (template_compile(&t, (const char *)data, n, &why))
        return 0;
    arena_init(&a, 16 << 20);
    buf_init(&out);
    const char *json = nul ? (const char *)nul + 1 : fixed;
    size_t json_n = nul ? size - n - 1 : sizeof(fixed) - 1;
    if (!json_parse(&vars, &a, json, json_n, NULL, &why)) {
        struct template_env env = {.vars = vars, .now_unix = 1738845296, .max_steps = 200000};
        if (template_render(t, &env, &out, &why))
            out.n = 0;
        if (out.n && !utf8_valid(out.p, out.n))
            abort();
    }
    buf_fini(&out);
    arena_fini(&a);
    template_free(t);
    return 0;
}
