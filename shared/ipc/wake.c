#include "shared/ipc/wake.h"
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum err wake_open(int *fd)
{
    int made = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (made < 0)
        return ERR_IO;
    *fd = made;
    return ERR_OK;
}

void wake_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void wake_send(int fd)
{
    int saved = errno;
    uint64_t one = 1;
    /* EAGAIN: the counter is at its end because the peer does not look; it is readable all the
     * same. */
    while (write(fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    errno = saved;
}

void wake_clear(int fd)
{
    uint64_t count;
    while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
}

enum err wake_wait(int fd, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int n = poll(&p, 1, timeout_ms);
    if (n < 0)
        return errno == EINTR ? ERR_AGAIN : ERR_IO;
    if (n == 0)
        return ERR_TIMEOUT;
    if (!(p.revents & POLLIN))
        return ERR_IO;
    wake_clear(fd);
    return ERR_OK;
}
