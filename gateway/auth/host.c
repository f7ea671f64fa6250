#include "gateway/auth/host.h"
#include <arpa/inet.h>
#include <strings.h>

bool host_is_loopback_address(const char *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address, &v4) == 1)
        return (ntohl(v4.s_addr) >> 24) == 127;
    return inet_pton(AF_INET6, address, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

/* "name:port", "[v6]:port", with or without port. */
static struct str without_port(struct str h)
{
    if (h.n && h.p[0] == '[') {
        const char *close = memchr(h.p, ']', h.n);
        return close ? (struct str){h.p + 1, (size_t)(close - h.p) - 1} : (struct str){0};
    }
    const char *colon = memchr(h.p, ':', h.n);
    return colon ? (struct str){h.p, (size_t)(colon - h.p)} : h;
}

static bool same_name(struct str a, struct str b)
{
    return a.n == b.n && a.n && strncasecmp(a.p, b.p, a.n) == 0;
}

bool host_allowed(struct str host, const char *extra)
{
    struct str name = host.n ? without_port(host) : host;
    char z[64];
    if (name.n && name.p[name.n - 1] == '.') /* "localhost." is the same name, fully qualified */
        name.n--;
    if (name.n == 0)
        return false;
    struct str tail = {name.p + (name.n > 10 ? name.n - 10 : 0), 10};
    if (same_name(name, STR("localhost")) || (name.n > 10 && same_name(tail, STR(".localhost"))))
        return true; /* RFC 6761 6.3: never leaves the machine */
    if (name.n < sizeof(z)) {
        memcpy(z, name.p, name.n);
        z[name.n] = '\0';
        if (host_is_loopback_address(z))
            return true;
    }
    for (const char *p = extra; p && *p;) {
        size_t n = strcspn(p, ",");
        if ((n == 1 && *p == '*') || same_name(name, (struct str){p, n}))
            return true;
        p += n + (p[n] == ',');
    }
    return false;
}
