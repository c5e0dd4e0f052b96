/* Preloaded into a process (LD_PRELOAD), shifts its wall clock by SKEWED_CLOCK_S seconds. The monotonic clocks, and with
   them intervals and timeouts, stay right, as on a host whose clock is wrong. libfaketime 0.9.10 cannot do that:
   clock_nanosleep of CPython 3.11 fails with EINVAL, or waits hang where it shifts the monotonic clock as well. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long skew_s(void)
{
    const char *text = getenv("SKEWED_CLOCK_S");
    return text ? atol(text) : 0;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(id, now);
    if (status == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += skew_s();
    return status;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    static int (*real)(struct timeval *, void *);
    if (!real)
        real = (int (*)(struct timeval *, void *))dlsym(RTLD_NEXT, "gettimeofday");
    int status = real(now, zone);
    if (status == 0)
        now->tv_sec += skew_s();
    return status;
}

time_t time(time_t *now)
{
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now)
        *now = found.tv_sec;
    return found.tv_sec;
}
