/*
 * Events, the three ways of getting them, what they hold, and that user_data ends exactly once on every path. In-process
 * stores only. Prints "ok".
 */
#define _GNU_SOURCE
#include "testing.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <time.h>

#define MANY 3

static int64_t now_ms(void) {
    return tenure_boottime_ns() / 1000000;
}

/* One thread gets all callbacks of a service. */
static pthread_t host_thread;
static pthread_t callback_thread;
static atomic_int inside;
static atomic_int callbacks;

static void check_thread(struct recorder *recorder, const tenure_event *event) {
    sigset_t blocked;
    (void)recorder;
    (void)event;
    CHECK(atomic_fetch_add(&inside, 1) == 0);
    if (atomic_fetch_add(&callbacks, 1) == 0) {
        callback_thread = pthread_self();
    }
    CHECK(pthread_equal(callback_thread, pthread_self()) && !pthread_equal(host_thread, pthread_self()));
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &blocked) == 0);
    for (int number = 1; number <= SIGRTMAX; number++) {
        bool cannot_be = number == SIGKILL || number == SIGSTOP || (number > SIGSYS && number < SIGRTMIN);
        CHECK(cannot_be || sigismember(&blocked, number) == 1);
    }
    CHECK(atomic_fetch_sub(&inside, 1) == 1);
}

static void callbacks_come_one_at_a_time_in_order_on_one_thread(void) {
    tenure_service *service = open_service("memory://callbacks", "log_level", "debug", NULL);
    static const char *const names[MANY] = {"a", "b", "c"};
    struct recorder recorders[MANY], observers[MANY], log = RECORDER;
    tenure_campaign *campaigns[MANY];
    tenure_observer *handles[MANY];
    int before;
    host_thread = pthread_self();
    log.also = check_thread;
    WORKS(tenure_service_set_log_callback(service, record, &log, record_drop, &err));
    for (int i = 0; i < MANY; i++) {
        recorders[i] = observers[i] = (struct recorder)RECORDER;
        recorders[i].also = observers[i].also = check_thread;
        campaigns[i] = campaign_in(service, names[i], &recorders[i]);
        WORKS(tenure_service_observe(service, names[i], record, &observers[i], record_drop, &handles[i], &err));
        WAIT_FOR(&recorders[i], recorders[i].seen[TENURE_STATE_LEADER] == 1);
    }
    for (int i = 0; i < MANY; i++) {
        WORKS(tenure_campaign_proclaim(campaigns[i], "new", 3, -1, &err));
        WAIT_FOR(&observers[i], strcmp(observers[i].last_value, "new") == 0);
    }
    WORKS(tenure_service_close(service, -1, &err));
    before = atomic_load(&callbacks);
    for (int i = 0; i < MANY; i++) {
        CHECK(recorders[i].closed && recorders[i].drops == 1 && recorders[i].seen[TENURE_STATE_FOLLOWER] == 1);
        CHECK(recorders[i].events == 3 && recorders[i].sequence == 3);
        CHECK(observers[i].closed && observers[i].drops == 1);
        tenure_campaign_free(campaigns[i]);
        tenure_observer_free(handles[i]);
    }
    CHECK(log.events > 0 && log.drops == 1);
    tenure_service_free(service);
    CHECK(atomic_load(&callbacks) == before && before > 4 * MANY);
}

static tenure_event *pull(tenure_service *service) {
    tenure_event *event = (tenure_event *)&junk;
    WORKS(tenure_service_next_event(service, -1, &event, &err));
    check_event(event);
    return event;
}

/* Pulls events up to the one that enters this state. */
static void pull_until(tenure_service *service, tenure_state state) {
    for (bool found = false; !found;) {
        tenure_event *event = pull(service);
        found = event->state == state;
        tenure_event_free(event);
    }
}

static void next_event_waits_as_long_as_it_is_told(void) {
    tenure_service *service = open_service("memory://next", "events", "pull", NULL);
    tenure_event *event = (tenure_event *)&junk;
    int64_t start = now_ms();
    FAILS(TENURE_TIMEOUT, "0 ms", tenure_service_next_event(service, 0, &event, &err));
    FAILS(TENURE_TIMEOUT, "70 ms", tenure_service_next_event(service, 70, &event, &err));
    CHECK(now_ms() - start >= 70 && event == NULL);
    FAILS(TENURE_INVALID_ARGUMENT, "-2", tenure_service_next_event(service, -2, &event, &err));
    FAILS(TENURE_NULL_POINTER, "out_event", tenure_service_next_event(service, 0, NULL, &err));
    tenure_campaign *campaign = lead(service, "e");
    pull_until(service, TENURE_STATE_LEADER);
    FAILS(TENURE_TIMEOUT, "", tenure_service_next_event(service, 0, &event, &err));
    WORKS(tenure_service_close(service, -1, &err));
    WORKS(tenure_service_next_event(service, 0, &event, &err));
    CHECK(event->closed && event->sequence == 3 && event->campaign == campaign);
    tenure_event_free(event);
    FAILS(TENURE_CLOSED, "", tenure_service_next_event(service, 0, &event, &err));
    FAILS(TENURE_CLOSED, "", tenure_service_next_event(service, -1, &event, &err));
    CHECK(event == NULL);
    tenure_service_free(service);
    tenure_campaign_free(campaign);
}

#define ELECTIONS 40
#define PULLERS 4

struct pulled {
    tenure_service *service;
    atomic_int seen[ELECTIONS][4]; /* by sequence number */
    atomic_int leaders;
};

static void *keep_pulling(void *argument) {
    struct pulled *pulled = argument;
    for (;;) {
        tenure_event *event = NULL;
        tenure_code code = tenure_service_next_event(pulled->service, -1, &event, NULL);
        if (code == TENURE_CLOSED) {
            return NULL;
        }
        CHECK(code == TENURE_OK);
        check_event(event);
        CHECK(event->user_data == pulled);
        CHECK(event->sequence <= 3 && atomic_fetch_add(&pulled->seen[atoi(event->election)][event->sequence], 1) == 0);
        if (event->state == TENURE_STATE_LEADER) {
            atomic_fetch_add(&pulled->leaders, 1);
        }
        tenure_event_free(event);
    }
}

static void each_event_goes_to_one_of_many_threads_and_closing_wakes_all(void) {
    static struct pulled pulled;
    tenure_campaign *campaigns[ELECTIONS];
    pthread_t pullers[PULLERS];
    char name[8];
    pulled.service = open_service("memory://pullers", "events", "pull", NULL);
    for (int i = 0; i < PULLERS; i++) {
        CHECK(pthread_create(&pullers[i], NULL, keep_pulling, &pulled) == 0);
    }
    for (int i = 0; i < ELECTIONS; i++) {
        snprintf(name, sizeof name, "%d", i);
        WORKS(tenure_service_campaign(pulled.service, name, NULL, NULL, &pulled, NULL, &campaigns[i], &err));
    }
    while (atomic_load(&pulled.leaders) < ELECTIONS) {
        usleep(1000);
    }
    WORKS(tenure_service_close(pulled.service, -1, &err));
    for (int i = 0; i < PULLERS; i++) {
        CHECK(pthread_join(pullers[i], NULL) == 0);
    }
    for (int i = 0; i < ELECTIONS; i++) {
        CHECK(pulled.seen[i][1] == 1 && pulled.seen[i][2] == 1 && pulled.seen[i][3] == 1);
        tenure_campaign_free(campaigns[i]);
    }
    tenure_service_free(pulled.service);
}

static int readable(int epoll, int timeout_ms) {
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, timeout_ms);
}

static void the_descriptor_is_readable_while_there_is_something_to_read(void) {
    tenure_service *service = open_service("memory://fd", "events", "pull", NULL);
    struct epoll_event interest = {.events = EPOLLIN};
    int epoll = epoll_create1(EPOLL_CLOEXEC), fd = -1, again = -1;
    tenure_event *event;
    WORKS(tenure_service_event_fd(service, &fd, &err));
    WORKS(tenure_service_event_fd(service, &again, &err));
    CHECK(fd >= 0 && again == fd && (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0 && (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &interest) == 0 && readable(epoll, 0) == 0);

    tenure_campaign *campaign = lead(service, "e");
    CHECK(readable(epoll, -1) == 1 && readable(epoll, 0) == 1);
    /* Two events are unread: FOLLOWER and LEADER. */
    tenure_event_free(pull(service));
    CHECK(readable(epoll, -1) == 1);
    pull_until(service, TENURE_STATE_LEADER);
    CHECK(readable(epoll, 0) == 0);
    FAILS(TENURE_TIMEOUT, "", tenure_service_next_event(service, 0, &event, &err));
    CHECK(readable(epoll, 0) == 0);

    WORKS(tenure_service_close(service, -1, &err));
    CHECK(readable(epoll, 0) == 1);
    pull_until(service, TENURE_STATE_CLOSED);
    CHECK(readable(epoll, 0) == 1);
    FAILS(TENURE_CLOSED, "", tenure_service_next_event(service, 0, &event, &err));
    CHECK(readable(epoll, 0) == 1);
    tenure_service_free(service);
    tenure_campaign_free(campaign);
    CHECK(close(epoll) == 0);
}

static void the_ways_exclude_each_other(void) {
    struct recorder recorder = RECORDER;
    tenure_campaign *campaign = (tenure_campaign *)&junk;
    tenure_observer *observer = (tenure_observer *)&junk;
    tenure_event *event = (tenure_event *)&junk;
    int fd = 7;
    tenure_service *service = open_service("memory://ways", "events", "pull", NULL);
    FAILS(TENURE_WRONG_MODE, "`on_event`",
          tenure_service_campaign(service, "e", NULL, record, &recorder, record_drop, &campaign, &err));
    CHECK(recorder.drops == 1 && campaign == NULL);
    recorder.drops = 0;
    FAILS(TENURE_WRONG_MODE, "`on_event`",
          tenure_service_observe(service, "e", record, &recorder, record_drop, &observer, &err));
    CHECK(recorder.drops == 1 && observer == NULL);
    recorder.drops = 0;
    FAILS(TENURE_WRONG_MODE, "`on_log`",
          tenure_service_set_log_callback(service, record, &recorder, record_drop, &err));
    CHECK(recorder.drops == 1);
    close_and_free(service);

    service = open_service("memory://ways", NULL);
    FAILS(TENURE_WRONG_MODE, "`events`", tenure_service_next_event(service, -1, &event, &err));
    FAILS(TENURE_WRONG_MODE, "`events`", tenure_service_event_fd(service, &fd, &err));
    CHECK(event == NULL && fd == -1 && recorder.events == 0);
    close_and_free(service);
}

/* Calls that fail drop user_data before they return; `service` is live, `stale` was freed. */
static void failing_calls_drop(tenure_service *service, tenure_service *stale) {
    struct recorder recorders[8];
    tenure_campaign *campaign = NULL;
    tenure_observer *observer = NULL;
    for (int i = 0; i < 8; i++) {
        recorders[i] = (struct recorder)RECORDER;
    }
    struct recorder *next = recorders;
    FAILS(TENURE_INVALID_NAME, "UTF-8",
          tenure_service_campaign(service, "\xff", NULL, NULL, next++, record_drop, &campaign, &err));
    FAILS(TENURE_INVALID_HANDLE, "`options`",
          tenure_service_campaign(service, "x", (tenure_campaign_options *)(void *)service, NULL, next++, record_drop,
                                  &campaign, &err));
    FAILS(TENURE_NULL_POINTER, "`out_campaign`",
          tenure_service_campaign(service, "x", NULL, NULL, next++, record_drop, NULL, &err));
    FAILS(TENURE_INVALID_HANDLE, "`service`",
          tenure_service_campaign(stale, "x", NULL, NULL, next++, record_drop, &campaign, &err));
    FAILS(TENURE_CAMPAIGN_IN_PROGRESS, "taken",
          tenure_service_campaign(service, "taken", NULL, NULL, next++, record_drop, &campaign, &err));
    FAILS(TENURE_INVALID_NAME, "UTF-8",
          tenure_service_observe(service, "\xff", NULL, next++, record_drop, &observer, &err));
    FAILS(TENURE_NULL_POINTER, "`out_observer`",
          tenure_service_observe(service, "x", NULL, next++, record_drop, NULL, &err));
    FAILS(TENURE_INVALID_HANDLE, "`service`",
          tenure_service_observe(stale, "x", NULL, next++, record_drop, &observer, &err));
    CHECK(next == recorders + 8 && campaign == NULL && observer == NULL);
    for (int i = 0; i < 8; i++) {
        CHECK(recorders[i].drops == 1 && recorders[i].events == 0);
    }
}

static void user_data_ends_once_in_callback_mode(void) {
    tenure_service *stale = open_service("memory://drops", NULL);
    tenure_service *service = open_service("memory://drops", NULL);
    struct recorder heard = RECORDER, unheard = RECORDER, first = RECORDER, second = RECORDER, null = RECORDER;
    tenure_campaign *campaign = NULL;
    tenure_observer *observer = NULL;
    close_and_free(stale);
    tenure_campaign *taken = lead(service, "taken");
    failing_calls_drop(service, stale);

    /* Freed: events go on to the last one. */
    campaign = campaign_in(service, "freed", &heard);
    tenure_campaign_free(campaign);
    WAIT_FOR(&heard, heard.drops == 1);
    CHECK(heard.closed);
    /* With nothing to call but the end. */
    WORKS(tenure_service_observe(service, "freed", NULL, &unheard, record_drop, &observer, &err));
    CHECK(unheard.drops == 0);
    WORKS(tenure_observer_close(observer, &err));
    WAIT_FOR(&unheard, unheard.drops == 1);
    tenure_observer_free(observer);

    FAILS(TENURE_NULL_POINTER, "`on_log`", tenure_service_set_log_callback(service, NULL, &null, record_drop, &err));
    CHECK(null.drops == 1);
    WORKS(tenure_service_set_log_callback(service, record, &first, record_drop, &err));
    WORKS(tenure_service_set_log_callback(service, record, &second, record_drop, &err));
    WAIT_FOR(&first, first.drops == 1);
    CHECK(second.drops == 0);
    WORKS(tenure_service_close(service, -1, &err));
    CHECK(second.drops == 1);
    null = (struct recorder)RECORDER;
    FAILS(TENURE_CLOSED, "", tenure_service_set_log_callback(service, record, &null, record_drop, &err));
    CHECK(null.drops == 1);
    FAILS(TENURE_CLOSED, "",
          tenure_service_campaign(service, "late", NULL, record, &unheard, NULL, &campaign, &err));
    FAILS(TENURE_CLOSED, "", tenure_service_observe(service, "late", record, &unheard, NULL, &observer, &err));
    CHECK(unheard.events == 0 && null.events == 0);
    tenure_service_free(service);
    tenure_campaign_free(taken);
}

static void user_data_ends_once_in_pull_mode(void) {
    tenure_service *stale = open_service("memory://pulled-drops", NULL);
    tenure_service *service = open_service("memory://pulled-drops", "events", "pull", NULL);
    struct recorder read = RECORDER, unread = RECORDER;
    tenure_campaign *campaign = NULL;
    tenure_observer *observer = NULL;
    close_and_free(stale);
    tenure_campaign *taken = lead(service, "taken");
    failing_calls_drop(service, stale);
    pull_until(service, TENURE_STATE_LEADER);

    /* The last event shows user_data, so that ends with the event. */
    WORKS(tenure_service_campaign(service, "read", NULL, NULL, &read, record_drop, &campaign, &err));
    tenure_campaign_free(campaign);
    for (bool is_last = false; !is_last;) {
        tenure_event *event = pull(service);
        is_last = event->closed;
        CHECK(event->user_data == &read && event->campaign == NULL && read.drops == 0);
        tenure_event_free(event);
        CHECK(read.drops == (is_last ? 1 : 0));
        tenure_event_free(event);
    }
    /* Never read: ends with the service. */
    WORKS(tenure_service_observe(service, "unread", NULL, &unread, record_drop, &observer, &err));
    WORKS(tenure_service_close(service, -1, &err));
    CHECK(unread.drops == 0);
    tenure_service_free(service);
    CHECK(unread.drops == 1 && read.drops == 1);
    tenure_observer_free(observer);
    tenure_campaign_free(taken);
}

/* The fields that a library has are those that lie below struct_size. */
#define HAS(of, field) ((size_t)((const char *)&(of)->field - (const char *)(of)) + sizeof (of)->field <= (of)->struct_size)

static void events_tell_all_there_is_to_know(void) {
    tenure_service *service = open_service("memory://fields", "events", "pull", "ttl", "5s", NULL);
    tenure_campaign_options *options = new_campaign_options();
    tenure_campaign *campaign = NULL;
    tenure_observer *observer = NULL;
    WORKS(tenure_campaign_options_set_value(options, "a\0b", 3, &err));
    WORKS(tenure_service_campaign(service, "shard/7", options, NULL, &junk, NULL, &campaign, &err));
    tenure_campaign_options_free(options);
    tenure_event *follower = pull(service);
    CHECK(follower->kind == TENURE_EVENT_CAMPAIGN && follower->state == TENURE_STATE_FOLLOWER);
    CHECK(follower->sequence == 1 && follower->campaign == campaign && follower->user_data == &junk);
    CHECK(strcmp(follower->election, "shard/7") == 0 && follower->reason == TENURE_OK);
    CHECK(follower->value_len == 3 && memcmp(follower->value, "a\0b", 4) == 0);

    tenure_event *leader = pull(service);
    int64_t left = leader->deadline_ns - tenure_boottime_ns();
    CHECK(leader->state == TENURE_STATE_LEADER && leader->sequence == 2 && !leader->at_risk);
    CHECK(left > 0 && left <= 5000000000 && leader->cluster_id != 0);
    CHECK(leader->token == tenure_campaign_token(campaign) && leader->campaign == campaign);
    CHECK(HAS(leader, kind) && HAS(leader, closed) && HAS(leader, level) && leader->struct_size >= sizeof *leader);

    WORKS(tenure_service_observe(service, "shard/7", NULL, NULL, NULL, &observer, &err));
    tenure_event *observed = pull(service);
    CHECK(observed->kind == TENURE_EVENT_OBSERVER && observed->observer == observer && observed->sequence == 1);
    CHECK(observed->has_leader && observed->connected && !observed->closed && observed->user_data == NULL);
    CHECK(observed->token == leader->token && observed->cluster_id == leader->cluster_id && observed->lease != 0);
    CHECK(observed->value_len == 3 && memcmp(observed->value, "a\0b", 4) == 0 && observed->revision >= observed->token);
    CHECK(strstr(observed->key, "c-tests/shard/7/") != NULL && strlen(observed->key) == observed->key_len);

    tenure_campaign_free(campaign);
    tenure_observer_free(observer);
    for (int last = 0; last < 2;) {
        tenure_event *event = pull(service);
        CHECK(event->campaign == NULL && event->observer == NULL);
        last += event->closed;
        tenure_event_free(event);
    }
    /* Events that were read stay as they are, whatever becomes of their campaign and service. */
    close_and_free(service);
    CHECK(leader->campaign == campaign && strcmp(leader->election, "shard/7") == 0);
    tenure_event_free(follower);
    tenure_event_free(leader);
    tenure_event_free(observed);
}

static void only_events_of_the_program_can_be_freed(struct recorder *recorder, const tenure_event *event) {
    (void)recorder;
    tenure_event_free((tenure_event *)(uintptr_t)event);
    check_event(event);
}

static void the_event_of_a_callback_is_not_the_programs(void) {
    tenure_service *service = open_service("memory://callback-event", NULL);
    struct recorder recorder = RECORDER;
    recorder.also = only_events_of_the_program_can_be_freed;
    tenure_campaign *campaign = campaign_in(service, "e", &recorder);
    WAIT_FOR(&recorder, recorder.seen[TENURE_STATE_LEADER] == 1);
    close_and_free(service);
    tenure_campaign_free(campaign);
}

static void log_lines_come_when_asked_for(void) {
    static const char *const levels[] = {"off", "error", "debug"};
    for (int i = 0; i < 3; i++) {
        tenure_service *service = open_service("memory://log", "events", "pull", "log_level", levels[i], NULL);
        tenure_event *event = NULL;
        tenure_campaign *campaign = lead(service, "e");
        int lines = 0;
        WORKS(tenure_service_close(service, -1, &err));
        while (tenure_service_next_event(service, 0, &event, NULL) == TENURE_OK) {
            check_event(event);
            if (event->kind == TENURE_EVENT_LOG) {
                CHECK(event->level <= (i == 1 ? TENURE_LEVEL_ERROR : TENURE_LEVEL_DEBUG) && event->user_data == NULL);
                lines++;
            }
            tenure_event_free(event);
        }
        CHECK((lines > 0) == (i == 2));
        tenure_service_free(service);
        tenure_campaign_free(campaign);
    }
}

int main(void) {
    RUN(callbacks_come_one_at_a_time_in_order_on_one_thread());
    RUN(next_event_waits_as_long_as_it_is_told());
    RUN(each_event_goes_to_one_of_many_threads_and_closing_wakes_all());
    RUN(the_descriptor_is_readable_while_there_is_something_to_read());
    RUN(the_ways_exclude_each_other());
    RUN(user_data_ends_once_in_callback_mode());
    RUN(user_data_ends_once_in_pull_mode());
    RUN(events_tell_all_there_is_to_know());
    RUN(the_event_of_a_callback_is_not_the_programs());
    RUN(log_lines_come_when_asked_for());
    puts("ok");
    return 0;
}
