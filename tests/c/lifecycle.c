/*
 * Handles end in any order, on any thread, inside callbacks, with others using them, and with the process; nothing is
 * left over, and a callback that hangs harms nobody else. Prints "ok".
 */
#define _GNU_SOURCE
#include "testing.h"

#include <semaphore.h>
#include <sys/resource.h>

struct inside {
    tenure_service *service;
    tenure_campaign *other;
    const char *election;
    bool frees;
};

/* In the LEADER event of a campaign: everything may be called but what would wait for this very thread. */
static void use_everything(struct recorder *recorder, const tenure_event *event) {
    struct inside *inside = recorder->argument;
    tenure_service *service = inside->service;
    tenure_candidate *leader = NULL;
    tenure_candidates *candidates = NULL;
    tenure_campaign *campaign = NULL;
    tenure_observer *observer = NULL;
    if (event->state != TENURE_STATE_LEADER) {
        return;
    }
    FAILS(TENURE_WRONG_THREAD, "callback", tenure_service_close(service, -1, &err));
    FAILS(TENURE_WRONG_THREAD, "callback", tenure_service_close(service, 0, &err));
    CHECK(tenure_campaign_is_leader(event->campaign));
    WORKS(tenure_campaign_proclaim(event->campaign, "inside", 6, -1, &err));
    WORKS(tenure_service_leader(service, event->election, -1, &leader, &err));
    WORKS(tenure_service_candidates(service, event->election, -1, &candidates, &err));
    CHECK(strcmp(leader->value, "inside") == 0 && candidates->count == 1);
    WORKS(tenure_service_campaign(service, "from-inside", NULL, NULL, NULL, NULL, &campaign, &err));
    WORKS(tenure_campaign_wait_leader(campaign, -1, &err));
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    WORKS(tenure_service_observe(service, "from-inside", NULL, NULL, NULL, &observer, &err));
    WORKS(tenure_campaign_resign(inside->other, -1, &err));
    tenure_campaign_free(campaign);
    tenure_observer_free(observer);
    tenure_candidate_free(leader);
    tenure_candidates_free(candidates);
    if (inside->frees) {
        tenure_campaign_free(event->campaign);
        CHECK(!tenure_campaign_is_leader(event->campaign));
        tenure_service_free(service);
        FAILS(TENURE_INVALID_HANDLE, "`service`", tenure_service_close(service, -1, &err));
    } else {
        WORKS(tenure_campaign_resign(event->campaign, -1, &err));
    }
}

static void callbacks_may_call_everything_but_the_end_of_their_service(const char *endpoints) {
    for (int frees = 0; frees < 2; frees++) {
        struct inside inside = {.service = open_service(endpoints, NULL), .election = "inside", .frees = frees};
        struct recorder recorder = RECORDER;
        recorder.also = use_everything;
        recorder.argument = &inside;
        inside.other = lead(inside.service, "other");
        tenure_campaign *campaign = campaign_in(inside.service, inside.election, &recorder);
        WAIT_FOR(&recorder, recorder.drops == 1);
        CHECK(recorder.closed && recorder.seen[TENURE_STATE_LEADER] == 1);
        tenure_campaign_free(campaign);
        tenure_campaign_free(inside.other);
        tenure_service_free(inside.service);
    }
}

static void close_another(struct recorder *recorder, const tenure_event *event) {
    if (event->state == TENURE_STATE_LEADER) {
        WORKS(tenure_service_close(recorder->argument, -1, &err));
        tenure_service_free(recorder->argument);
    }
}

static void a_callback_may_end_another_service(void) {
    struct recorder recorder = RECORDER, other = RECORDER;
    tenure_service *service = open_service("memory://ends", NULL);
    recorder.argument = open_service("memory://ends", NULL);
    recorder.also = close_another;
    tenure_campaign *first = campaign_in(recorder.argument, "other", &other);
    tenure_campaign *second = campaign_in(service, "e", &recorder);
    WAIT_FOR(&recorder, recorder.seen[TENURE_STATE_LEADER] == 1);
    CHECK(other.closed && other.drops == 1);
    close_and_free(service);
    tenure_campaign_free(first);
    tenure_campaign_free(second);
}

static void handles_outlive_their_service(const char *endpoints) {
    tenure_service *service = open_service(endpoints, NULL);
    tenure_campaign *campaign = lead(service, "outlives");
    tenure_observer *observer = NULL;
    WORKS(tenure_service_observe(service, "outlives", NULL, NULL, NULL, &observer, &err));
    tenure_service_free(service);
    tenure_service_free(service);
    CHECK(!tenure_campaign_is_leader(campaign) && tenure_campaign_remaining_ms(campaign) == 0);
    CHECK(tenure_campaign_state(campaign) == TENURE_STATE_CLOSED && tenure_campaign_token(campaign) == 0);
    FAILS(TENURE_CLOSED, "", tenure_campaign_wait_leader(campaign, -1, &err));
    FAILS(TENURE_NOT_LEADER, "", tenure_campaign_proclaim(campaign, "x", 1, -1, &err));
    FAILS(TENURE_NOT_LEADER, "", tenure_campaign_resign_leader(campaign, -1, &err));
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    WORKS(tenure_observer_close(observer, &err));
    WORKS(tenure_observer_close(observer, &err));
    tenure_campaign_free(campaign);
    tenure_observer_free(observer);
    FAILS(TENURE_INVALID_HANDLE, "`campaign`", tenure_campaign_resign(campaign, -1, &err));
    FAILS(TENURE_INVALID_HANDLE, "`observer`", tenure_observer_close(observer, &err));
}

/* One service and its handles, with everything that ends them called at the same time. */
struct race {
    pthread_barrier_t start;
    tenure_service *service;
    tenure_campaign *campaign;
    tenure_observer *observer;
    atomic_int next;
};

static void only_these(tenure_code code) {
    bool is_expected = code == TENURE_OK || code == TENURE_CLOSED || code == TENURE_INVALID_HANDLE ||
                       code == TENURE_NOT_LEADER || code == TENURE_TIMEOUT || code == TENURE_CAMPAIGN_IN_PROGRESS ||
                       code == TENURE_PENDING || code == TENURE_NO_LEADER;
    if (!is_expected) {
        fprintf(stderr, "an end in a race answers %s\n", tenure_code_name(code));
        _exit(1);
    }
}

#define RACERS 8

static void *take_part(void *argument) {
    struct race *race = argument;
    int wait = pthread_barrier_wait(&race->start);
    tenure_campaign *campaign = NULL;
    tenure_observer *observer = NULL;
    tenure_candidate *leader = NULL;
    CHECK(wait == 0 || wait == PTHREAD_BARRIER_SERIAL_THREAD);
    switch (atomic_fetch_add(&race->next, 1)) {
    case 0: only_these(tenure_service_close(race->service, -1, NULL)); break;
    case 1: tenure_service_free(race->service); break;
    case 2: only_these(tenure_campaign_resign(race->campaign, -1, NULL)); break;
    case 3: tenure_campaign_free(race->campaign); break;
    case 4: only_these(tenure_service_campaign(race->service, "f", NULL, NULL, NULL, NULL, &campaign, NULL)); break;
    case 5: only_these(tenure_service_observe(race->service, "e", NULL, NULL, NULL, &observer, NULL)); break;
    case 6: only_these(tenure_service_leader(race->service, "e", -1, &leader, NULL)); break;
    default:
        only_these(tenure_campaign_wait_leader(race->campaign, -1, NULL));
        only_these(tenure_observer_close(race->observer, NULL));
        tenure_observer_free(race->observer);
    }
    tenure_campaign_free(campaign);
    tenure_observer_free(observer);
    tenure_candidate_free(leader);
    return NULL;
}

/* Fault 34. */
static void everything_may_end_at_once(const char *endpoints, int often) {
    for (int i = 0; i < often; i++) {
        struct race race = {.service = open_service(endpoints, NULL)};
        struct recorder recorder = RECORDER, observed = RECORDER;
        pthread_t racers[RACERS];
        CHECK(pthread_barrier_init(&race.start, NULL, RACERS) == 0);
        race.campaign = campaign_in(race.service, "e", &recorder);
        WORKS(tenure_service_observe(race.service, "e", record, &observed, record_drop, &race.observer, &err));
        for (int k = 0; k < RACERS; k++) {
            CHECK(pthread_create(&racers[k], NULL, take_part, &race) == 0);
        }
        for (int k = 0; k < RACERS; k++) {
            CHECK(pthread_join(racers[k], NULL) == 0);
        }
        WAIT_FOR(&recorder, recorder.drops == 1);
        WAIT_FOR(&observed, observed.drops == 1);
        CHECK(recorder.closed && observed.closed);
        FAILS(TENURE_INVALID_HANDLE, "", tenure_service_close(race.service, -1, &err));
        FAILS(TENURE_INVALID_HANDLE, "", tenure_campaign_resign(race.campaign, -1, &err));
        CHECK(pthread_barrier_destroy(&race.start) == 0);
    }
}

/* Observers made while the service closes: each is refused, or gets its last event. */
static void *keep_observing(void *argument) {
    struct race *race = argument;
    for (;;) {
        struct recorder recorder = RECORDER;
        tenure_observer *observer = NULL;
        tenure_code code = tenure_service_observe(race->service, "e", record, &recorder, record_drop, &observer, NULL);
        atomic_fetch_add(&race->next, 1);
        if (code != TENURE_OK) {
            CHECK(code == TENURE_CLOSED && recorder.drops == 1 && recorder.events == 0);
            return NULL;
        }
        if (atomic_fetch_add(&race->next, 0) % 2 == 0) {
            WORKS(tenure_observer_close(observer, &err));
        } else {
            while (tenure_service_close(race->service, -1, NULL) != TENURE_OK) {
            }
        }
        WAIT_FOR(&recorder, recorder.drops == 1);
        CHECK(recorder.closed);
        tenure_observer_free(observer);
    }
}

static void observers_end_with_a_service_that_closes_meanwhile(void) {
    for (int i = 0; i < rounds(200); i++) {
        struct race race = {.service = open_service("memory://meanwhile", NULL)};
        pthread_t threads[3];
        for (int k = 0; k < 3; k++) {
            CHECK(pthread_create(&threads[k], NULL, keep_observing, &race) == 0);
        }
        for (int k = 0; k < 3; k++) {
            CHECK(pthread_join(threads[k], NULL) == 0);
        }
        tenure_service_free(race.service);
    }
}

static atomic_bool over;

static void *keep_using(void *argument) {
    struct race *race = argument;
    while (!atomic_load(&over)) {
        tenure_event *event = NULL;
        (void)tenure_campaign_is_leader(race->campaign);
        (void)tenure_campaign_remaining_ms(race->campaign);
        CHECK(tenure_campaign_state(race->campaign) <= TENURE_STATE_CLOSED);
        only_these(tenure_campaign_wait_leader(race->campaign, 0, NULL));
        only_these(tenure_campaign_proclaim(race->campaign, "x", 1, 0, NULL));
        only_these(tenure_service_next_event(race->service, 0, &event, NULL));
        only_these(tenure_service_next_event(race->service, 1, &event, NULL));
        tenure_event_free(event);
        tenure_event_free(event);
        atomic_fetch_add(&race->next, 1);
    }
    CHECK(!tenure_campaign_is_leader(race->campaign));
    CHECK(tenure_campaign_state(race->campaign) == TENURE_STATE_NONE);
    FAILS(TENURE_INVALID_HANDLE, "", tenure_campaign_wait_leader(race->campaign, 0, &err));
    FAILS(TENURE_INVALID_HANDLE, "", tenure_campaign_proclaim(race->campaign, "x", 1, 0, &err));
    return NULL;
}

static void what_is_used_may_be_freed(void) {
    for (int i = 0; i < rounds(200); i++) {
        struct race race = {.service = open_service("memory://used", "events", "pull", NULL)};
        pthread_t users[2];
        atomic_store(&over, false);
        race.campaign = lead(race.service, "e");
        for (int k = 0; k < 2; k++) {
            CHECK(pthread_create(&users[k], NULL, keep_using, &race) == 0);
        }
        while (atomic_load(&race.next) < 4) {
            sched_yield();
        }
        tenure_campaign_free(race.campaign);
        tenure_service_free(race.service);
        atomic_store(&over, true);
        for (int k = 0; k < 2; k++) {
            CHECK(pthread_join(users[k], NULL) == 0);
        }
    }
}

/* A service lacks a descriptor when it opens, or never. */
static void a_service_that_opens_works_however_few_descriptors_are_left(void) {
    static const char *const ways[] = {"callback", "pull"};
    struct rlimit before, few;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    for (int i = 0; i < 10; i++) {
        tenure_options *options = new_options();
        tenure_service *service = NULL;
        tenure_error *why = NULL;
        int free_one = dup(STDIN_FILENO);
        CHECK(free_one >= 0 && close(free_one) == 0);
        WORKS(tenure_options_set(options, "endpoints", "memory://descriptors", &err));
        WORKS(tenure_options_set(options, "service", "c-tests", &err));
        WORKS(tenure_options_set(options, "events", ways[i % 2], &err));
        few = before;
        few.rlim_cur = (rlim_t)(free_one + i / 2);
        CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
        tenure_code code = tenure_service_open(options, &service, &why);
        if (code == TENURE_OK) {
            tenure_campaign_free(lead(service, "descriptors"));
            close_and_free(service);
        }
        CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
        CHECK(i < 2 ? code == TENURE_SYSTEM : i < 8 || code == TENURE_OK);
        tenure_error_free(why);
        tenure_options_free(options);
    }
}

/* Waits until no more threads and descriptors are there than before: a thread's own end may lag behind. */
static void settles_at(int threads, int descriptors) {
    while (entries("/proc/self/task") > threads || entries("/proc/self/fd") > descriptors) {
        usleep(1000);
    }
}

static void nothing_is_left_over(const char *endpoints, int often) {
    static const char *const ways[] = {"callback", "pull"};
    int threads = 0, descriptors = 0;
    for (int i = 0; i < often; i++) {
        tenure_service *service = open_service(endpoints, "events", ways[i % 2], NULL);
        tenure_campaign *campaign = lead(service, "leftover");
        tenure_observer *observer = NULL;
        WORKS(tenure_service_observe(service, "leftover", NULL, NULL, NULL, &observer, &err));
        if (i % 3 == 0) {
            tenure_service_free(service);
        } else {
            close_and_free(service);
        }
        tenure_campaign_free(campaign);
        tenure_observer_free(observer);
        if (i == 1) {
            threads = entries("/proc/self/task");
            descriptors = entries("/proc/self/fd");
        }
    }
    settles_at(threads, descriptors);
}

struct hang {
    sem_t entered;
    sem_t released;
};

static void hang_as_leader(struct recorder *recorder, const tenure_event *event) {
    struct hang *hang = recorder->argument;
    if (event->state == TENURE_STATE_LEADER) {
        CHECK(sem_post(&hang->entered) == 0);
        while (sem_wait(&hang->released) != 0) {
        }
    }
}

/* Faults 9 and 36. */
static void a_callback_that_hangs_holds_up_nothing_but_its_services_events(void) {
    struct hang hang;
    struct recorder recorder = RECORDER, other = RECORDER;
    CHECK(sem_init(&hang.entered, 0, 0) == 0 && sem_init(&hang.released, 0, 0) == 0);
    recorder.also = hang_as_leader;
    recorder.argument = &hang;
    tenure_service *service = open_service(etcd(), "ttl", "6s", NULL), *second = open_service(etcd(), NULL);
    tenure_campaign *campaign = campaign_in(service, "hang", &recorder);
    CHECK(sem_wait(&hang.entered) == 0);
    int64_t token = tenure_campaign_token(campaign), start = tenure_boottime_ns();
    tenure_campaign *others = campaign_in(second, "hang-other", &other);
    WAIT_FOR(&other, other.seen[TENURE_STATE_LEADER] == 1);
    /* Well past the lease's time to live: it is renewed meanwhile. */
    while (tenure_boottime_ns() - start < 8500000000) {
        CHECK(tenure_campaign_is_leader(campaign) && tenure_campaign_token(campaign) == token);
        usleep(50000);
    }
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    /* Until etcd has confirmed it; then the callback is all that is missing. */
    tenure_error *pending = NULL;
    do {
        tenure_error_free(pending);
        pending = NULL;
        CHECK(tenure_service_close(service, 100, &pending) == TENURE_PENDING);
    } while (strstr(pending->message, "callback") == NULL);
    tenure_error_free(pending);
    CHECK(!recorder.closed && recorder.drops == 0);
    CHECK(sem_post(&hang.released) == 0);
    close_and_free(service);
    CHECK(recorder.closed && recorder.drops == 1);
    close_and_free(second);
    tenure_campaign_free(campaign);
    tenure_campaign_free(others);
}

static void *keep_proclaiming(void *campaign) {
    for (int i = 0;; i++) {
        tenure_campaign_proclaim(campaign, &i, sizeof i, -1, NULL);
    }
    return NULL;
}

/* Ends the child in the midst of callbacks, with nothing closed. */
static void exit_without_closing(void *endpoints) {
    static struct recorder observed = RECORDER;
    pthread_t thread;
    tenure_observer *observer = NULL;
    tenure_service *service = open_service(endpoints, "log_level", "debug", NULL);
    char election[32];
    /* One of its own: nobody gives up what a child before led. */
    snprintf(election, sizeof election, "exit-%d", (int)getpid());
    tenure_campaign *campaign = lead(service, election);
    WORKS(tenure_service_observe(service, election, record, &observed, record_drop, &observer, &err));
    CHECK(pthread_create(&thread, NULL, keep_proclaiming, campaign) == 0);
    WAIT_FOR(&observed, observed.events > 5);
    exit(0);
}

/* Fault 32. */
static void a_process_may_just_exit(const char *endpoints) {
    for (int i = 0; i < rounds(20); i++) {
        in_child(exit_without_closing, (void *)(uintptr_t)endpoints);
    }
}

/* With an argument: everything may end at once, so often, and a tenth of it on etcd. */
int main(int count, char **arguments) {
    const char *const stores[] = {"memory://lifecycle", etcd()};
    if (count > 1) {
        int often = atoi(arguments[1]);
        CHECK(often >= 10);
        everything_may_end_at_once("memory://races", often);
        everything_may_end_at_once(etcd(), often / 10);
        printf("%d rounds and %d on etcd\n", often, often / 10);
        return 0;
    }
    RUN(a_process_may_just_exit("memory://exit"));
    RUN(a_process_may_just_exit(etcd()));
    for (int i = 0; i < 2; i++) {
        RUN(callbacks_may_call_everything_but_the_end_of_their_service(stores[i]));
        RUN(handles_outlive_their_service(stores[i]));
        RUN(everything_may_end_at_once(stores[i], rounds(i == 0 ? 200 : 20)));
        RUN(nothing_is_left_over(stores[i], rounds(i == 0 ? 1000 : 50)));
    }
    RUN(a_callback_may_end_another_service());
    RUN(a_service_that_opens_works_however_few_descriptors_are_left());
    RUN(observers_end_with_a_service_that_closes_meanwhile());
    RUN(what_is_used_may_be_freed());
    RUN(a_callback_that_hangs_holds_up_nothing_but_its_services_events());
    puts("ok");
    return 0;
}
