/*
 * Elections inside an event loop: one thread, one epoll, and in it the library's events, a timer and signals.
 *
 *     epoll http://127.0.0.1:2379       until SIGINT or SIGTERM
 *     epoll memory://trial 3            for 3 seconds, without a server
 *
 * It stands for election in two shards. On every tick of the timer it does a job for each shard that it leads.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "tenure.h"

#define SHARDS 2
#define TICK_MS 100

struct shard {
    const char *name;
    tenure_campaign *campaign;
    int64_t jobs;
};

struct loop {
    tenure_service *service;
    struct shard shards[SHARDS];
    int epoll_fd;
    int events_fd; /* the library's */
    int timer_fd;
    int signals_fd;
    int64_t ticks_left; /* -1: for ever */
    bool is_closing;
    bool is_done;
};

static int complain(const char *what, tenure_code code, tenure_error *error)
{
    fprintf(stderr, "epoll: %s: %s: %s\n", what, tenure_code_name(code),
            error ? error->message : tenure_code_text(code));
    tenure_error_free(error);
    return -1;
}

static int complain_errno(const char *what)
{
    fprintf(stderr, "epoll: %s: %s\n", what, strerror(errno));
    return -1;
}

static void show(const tenure_event *event)
{
    const struct shard *shard = event->user_data;
    switch (event->state) {
    case TENURE_STATE_FOLLOWER: printf("%s: following\n", shard->name); break;
    case TENURE_STATE_LEADER: printf("%s: leading, token %" PRId64 "\n", shard->name, event->token); break;
    case TENURE_STATE_ERROR: printf("%s: lost, %s: %s\n", shard->name, event->reason_name, event->message); break;
    case TENURE_STATE_CLOSED: printf("%s: closed after %" PRId64 " jobs\n", shard->name, shard->jobs); break;
    default: break; /* of a later version */
    }
}

/* The library has events: reads them all, without waiting. */
static int on_events(struct loop *loop)
{
    for (;;) {
        tenure_event *event = NULL;
        tenure_error *error = NULL;
        tenure_code code = tenure_service_next_event(loop->service, 0, &event, &error);
        if (code == TENURE_TIMEOUT || code == TENURE_CLOSED) {
            loop->is_done = code == TENURE_CLOSED;
            tenure_error_free(error);
            return 0;
        }
        if (code != TENURE_OK)
            return complain("next event", code, error);
        if (event->kind == TENURE_EVENT_CAMPAIGN)
            show(event);
        tenure_event_free(event);
    }
}

/* Begins to close and doesn't wait: the loop goes on until the library has told the last event. */
static int begin_to_close(struct loop *loop)
{
    tenure_error *error = NULL;
    if (loop->is_closing)
        return 0;
    loop->is_closing = true;
    tenure_code code = tenure_service_close(loop->service, 0, &error);
    if (code != TENURE_OK && code != TENURE_PENDING)
        return complain("close", code, error);
    tenure_error_free(error);
    return 0;
}

static int on_timer(struct loop *loop)
{
    uint64_t ticks = 0;
    if (read(loop->timer_fd, &ticks, sizeof ticks) < 0)
        return errno == EAGAIN ? 0 : complain_errno("timer");
    for (int i = 0; i < SHARDS; i++) {
        /* Asked anew for each job: an event that said LEADER may be from before the loop was held up. */
        if (tenure_campaign_is_leader(loop->shards[i].campaign))
            loop->shards[i].jobs++;
    }
    if (loop->ticks_left < 0)
        return 0;
    loop->ticks_left -= (int64_t)ticks < loop->ticks_left ? (int64_t)ticks : loop->ticks_left;
    return loop->ticks_left == 0 ? begin_to_close(loop) : 0;
}

static int on_signal(struct loop *loop)
{
    struct signalfd_siginfo signal;
    if (read(loop->signals_fd, &signal, sizeof signal) < 0)
        return errno == EAGAIN ? 0 : complain_errno("signals");
    printf("%s, closing\n", strsignal((int)signal.ssi_signo));
    return begin_to_close(loop);
}

static int watch(struct loop *loop, int fd)
{
    struct epoll_event interest = { .events = EPOLLIN, .data = { .fd = fd } };
    return epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &interest) < 0 ? complain_errno("epoll_ctl") : 0;
}

static int run(struct loop *loop)
{
    while (!loop->is_done) {
        struct epoll_event ready[8];
        int count = epoll_wait(loop->epoll_fd, ready, 8, -1);
        if (count < 0 && errno != EINTR)
            return complain_errno("epoll_wait");
        for (int i = 0; i < count; i++) {
            int fd = ready[i].data.fd;
            int result = fd == loop->events_fd ? on_events(loop) : fd == loop->timer_fd ? on_timer(loop) : on_signal(loop);
            if (result != 0)
                return result;
        }
    }
    /* All events are read; now that etcd has confirmed it, too, the next leader may be elected. */
    tenure_error *error = NULL;
    tenure_code code = tenure_service_close(loop->service, -1, &error);
    return code == TENURE_OK ? 0 : complain("close", code, error);
}

static int open_service(struct loop *loop, const char *endpoints)
{
    const char *const settings[][2] = {
        { "endpoints", endpoints }, { "service", "epoll-example" }, { "ttl", "5s" }, { "events", "pull" },
    };
    tenure_options *options = NULL;
    tenure_error *error = NULL;
    tenure_code code = tenure_options_new(&options, &error);
    for (size_t i = 0; code == TENURE_OK && i < sizeof settings / sizeof *settings; i++)
        code = tenure_options_set(options, settings[i][0], settings[i][1], &error);
    if (code == TENURE_OK)
        code = tenure_service_open(options, &loop->service, &error);
    tenure_options_free(options);
    if (code == TENURE_OK)
        code = tenure_service_event_fd(loop->service, &loop->events_fd, &error);
    return code == TENURE_OK ? watch(loop, loop->events_fd) : complain("open", code, error);
}

static int campaign(struct loop *loop)
{
    tenure_campaign_options *options = NULL;
    tenure_error *error = NULL;
    tenure_code code = tenure_campaign_options_new(&options, &error);
    if (code == TENURE_OK)
        code = tenure_campaign_options_set(options, "rejoin", "true", &error);
    for (int i = 0; code == TENURE_OK && i < SHARDS; i++) {
        struct shard *shard = &loop->shards[i];
        code = tenure_service_campaign(loop->service, shard->name, options, NULL, shard, NULL, &shard->campaign, &error);
    }
    tenure_campaign_options_free(options);
    return code == TENURE_OK ? 0 : complain("campaign", code, error);
}

static int start_timer(struct loop *loop)
{
    const struct timespec tick = { TICK_MS / 1000, TICK_MS % 1000 * 1000000 };
    const struct itimerspec ticks = { tick, tick };
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (loop->timer_fd < 0 || timerfd_settime(loop->timer_fd, 0, &ticks, NULL) < 0)
        return complain_errno("timerfd");
    return watch(loop, loop->timer_fd);
}

/* Before there are threads, so that none of them is interrupted by these signals. */
static int catch_signals(struct loop *loop)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
        return complain_errno("sigprocmask");
    loop->signals_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    return loop->signals_fd < 0 ? complain_errno("signalfd") : watch(loop, loop->signals_fd);
}

int main(int argc, char **argv)
{
    struct loop loop = {
        .shards = { { "red", NULL, 0 }, { "blue", NULL, 0 } },
        .epoll_fd = -1, .events_fd = -1, .timer_fd = -1, .signals_fd = -1, .ticks_left = -1,
    };
    char *end = NULL;
    long seconds = argc == 3 ? strtol(argv[2], &end, 10) : 0;
    if (argc < 2 || argc > 3 || (argc == 3 && (*end != '\0' || seconds < 1 || seconds > 1000000))) {
        fputs("usage: epoll ENDPOINTS [SECONDS]\n", stderr);
        return 2;
    }
    if (argc == 3)
        loop.ticks_left = (int64_t)seconds * 1000 / TICK_MS;
    setvbuf(stdout, NULL, _IOLBF, 0);

    int result = -1;
    loop.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop.epoll_fd < 0)
        complain_errno("epoll_create1");
    else if (catch_signals(&loop) == 0 && start_timer(&loop) == 0 && open_service(&loop, argv[1]) == 0 &&
             campaign(&loop) == 0)
        result = run(&loop);

    for (int i = 0; i < SHARDS; i++)
        tenure_campaign_free(loop.shards[i].campaign);
    tenure_service_free(loop.service); /* and with it events_fd */
    const int own[] = { loop.epoll_fd, loop.timer_fd, loop.signals_fd };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (own[i] >= 0)
            close(own[i]);
    }
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
