#include "worker/model/matryoshka.h"

#include <ctype.h>
#include <string.h>

/* Letters and digits alone, in lower case: converters spell names in many ways. From the models'
 * published cards. */
// clang-format off
static const struct {
    const char *name;
    uint32_t min;
} families[] = {
    {"nomicembedtextv15",         64},  /* 768, 512, 256, 128, 64 */
    {"nomicembedtextv2",         256},  /* 768, 256 */
    {"qwen3embedding",            32},  /* any from 32 on */
    {"mxbaiembedlargev1",         64},  /* 1024, 512, 256, 128, 64 */
    {"snowflakearcticembedmv15", 256},
    {"snowflakearcticembedmv2",  256},
    {"snowflakearcticembedlv2",  256},
};
// clang-format on

uint32_t matryoshka_min(struct str name)
{
    char plain[128];
    size_t n = 0;
    for (size_t i = 0; i < name.n && n < sizeof plain - 1; i++)
        if (isalnum((unsigned char)name.p[i]))
            plain[n++] = (char)tolower((unsigned char)name.p[i]);
    plain[n] = '\0';
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strstr(plain, families[i].name))
            return families[i].min;
    return 0;
}
