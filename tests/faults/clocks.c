/*
 * A process whose clocks are set while it runs: loaded before libc (LD_PRELOAD), it adds to CLOCK_REALTIME and to
 * CLOCK_BOOTTIME what the file TENURE_TEST_CLOCKS holds, two numbers of nanoseconds. Programs that ask the kernel
 * without libc see the true time, the tests' own looks at the clock among them.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static struct clocks {
    _Atomic int64_t realtime_ns;
    _Atomic int64_t boottime_ns;
} *clocks;

static const struct clocks *get(void) {
    if (clocks == NULL) {
        int file = open(getenv("TENURE_TEST_CLOCKS"), O_RDONLY | O_CLOEXEC);
        void *map = mmap(NULL, sizeof *clocks, PROT_READ, MAP_SHARED, file, 0);
        if (file < 0 || map == MAP_FAILED) {
            perror("TENURE_TEST_CLOCKS");
            abort();
        }
        close(file);
        clocks = map;
    }
    return clocks;
}

static void add(struct timespec *time, int64_t ns) {
    int64_t sum = time->tv_sec * INT64_C(1000000000) + time->tv_nsec + ns;
    time->tv_sec = sum / 1000000000;
    time->tv_nsec = sum % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int failed = (int)syscall(SYS_clock_gettime, clock, time);
    if (failed == 0 && clock == CLOCK_REALTIME) {
        add(time, get()->realtime_ns);
    } else if (failed == 0 && clock == CLOCK_BOOTTIME) {
        add(time, get()->boottime_ns);
    }
    return failed;
}

/* The only timers here that are set to an instant are on CLOCK_BOOTTIME. */
int timerfd_settime(int timer, int flags, const struct itimerspec *to, struct itimerspec *old) {
    struct itimerspec true_time = *to;
    if ((flags & TFD_TIMER_ABSTIME) != 0 && (to->it_value.tv_sec != 0 || to->it_value.tv_nsec != 0)) {
        add(&true_time.it_value, -get()->boottime_ns);
    }
    return (int)syscall(SYS_timerfd_settime, timer, flags, &true_time, old);
}
