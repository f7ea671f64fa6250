/* Names, URLs and manifests of strangers. First byte: which. What is taken must keep its promises:
 * parts that are safe in paths, the same meaning when written and read again. */
#include "gateway/library/manifest.h"
#include <stdlib.h>

static void expect(bool ok)
{
    if (!ok)
        __builtin_trap();
}

static void check_name(struct str text)
{
    struct model_name n, again;
    struct buf b = {0};
    if (name_parse(&n, text, NULL) != ERR_OK)
        return;
    name_put_path(&b, &n);
    struct str path = {b.p, b.n};
    int slashes = 0;
    for (size_t i = 0; i < path.n; i++) {
        slashes += path.p[i] == '/';
        expect(path.p[i] > ' ' && path.p[i] < 0x7f && path.p[i] != '\\');
        expect(path.p[i] != '.' || (i > 0 && path.p[i - 1] != '/' && path.p[i - 1] != '.'));
    }
    expect(slashes == 3);
    buf_clear(&b);
    name_put(&b, &n);
    expect(name_parse(&again, (struct str){b.p, b.n}, NULL) == ERR_OK && name_eq(&n, &again));
    buf_fini(&b);
}

static void check_url(struct str text)
{
    struct gguf_url u, again;
    struct buf b = {0};
    if (gguf_url_parse(&u, text, NULL) != ERR_OK)
        return;
    expect(u.part >= 1 && u.part <= u.n_parts && u.n_parts <= SPLIT_MAX_PARTS);
    gguf_url_put_file(&b, &u, u.part);
    expect(str_eq((struct str){b.p, b.n}, u.file) && !memchr(b.p, '/', b.n));
    buf_clear(&b);
    gguf_url_put(&b, &u, u.part);
    expect(gguf_url_parse(&again, (struct str){b.p, b.n}, NULL) == ERR_OK);
    expect(str_eq(u.stem, again.stem) && u.n_parts == again.n_parts);
    buf_fini(&b);
}

static void check_manifest(struct str text)
{
    struct arena a, c;
    struct manifest m, again;
    struct buf b = {0};
    struct errmsg why = {0};
    arena_init(&a, 64 << 20);
    arena_init(&c, 64 << 20);
    if (manifest_parse(&m, &a, text.p, text.n, &why) == ERR_OK) {
        uint64_t sum = 0;
        expect(m.n_layers <= MANIFEST_MAX_LAYERS);
        for (size_t i = 0; i < m.n_layers; i++) {
            sum += m.layers[i].size;
            expect(strlen(m.layers[i].hex) == DIGEST_HEX);
            expect(m.layers[i].title.n == 0 ||
                   !memchr(m.layers[i].title.p, '/', m.layers[i].title.n));
        }
        expect(sum == m.total_bytes);
        manifest_put(&b, &m);
        if (!b.failed && b.n <= MANIFEST_MAX_BYTES) {
            expect(manifest_parse(&again, &c, b.p, b.n, NULL) == ERR_OK);
            expect(again.n_layers == m.n_layers && again.total_bytes == m.total_bytes);
            expect(manifest_check_model(&m, NULL) == manifest_check_model(&again, NULL));
        }
    } else {
        expect(why.text[0] && !strchr(why.text, '\n'));
    }
    buf_fini(&b);
    arena_fini(&a);
    arena_fini(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    if (n < 1)
        return 0;
    /* A copy of its own, so that a read past the end is seen. */
    char *p = malloc(n - 1 ? n - 1 : 1);
    if (!p)
        return 0;
    memcpy(p, data + 1, n - 1);
    struct str text = {p, n - 1};
    switch (data[0] % 3) {
    case 0:
        check_name(text);
        break;
    case 1:
        check_url(text);
        break;
    default:
        check_manifest(text);
        break;
    }
    free(p);
    return 0;
}
