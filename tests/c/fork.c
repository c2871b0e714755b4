/*
 * A forked child owns nothing of its parent's and harms nothing of it: not by calls on inherited handles, not by ending
 * in any way, not by services of its own. And a child of a program whose threads are in the library never hangs.
 * Prints "ok".
 */
#define _GNU_SOURCE
#include "testing.h"

#include <spawn.h>

struct inherited {
    const char *endpoints;
    bool is_shared; /* whether a child's services meet the parent's */
    tenure_service *service;
    tenure_service *pulled;
    tenure_campaign *campaign;
    tenure_observer *observer;
    tenure_options *options;
    tenure_error *error;
    tenure_event *event;
    int64_t token;
};

static void ignore(void *user_data, const tenure_event *event) {
    (void)event;
    CHECK(user_data != &junk);
}

static atomic_int drops;

static void count_drop(void *user_data) {
    CHECK(user_data == &junk);
    atomic_fetch_add(&drops, 1);
}

/* Every call on what the parent made. */
static void everything_answers_forked(const struct inherited *of) {
    tenure_campaign *campaign = (tenure_campaign *)&junk;
    tenure_observer *observer = (tenure_observer *)&junk;
    tenure_service *service = (tenure_service *)&junk;
    tenure_candidate *leader = (tenure_candidate *)&junk;
    tenure_candidates *candidates = (tenure_candidates *)&junk;
    tenure_event *event = (tenure_event *)&junk;
    int fd = 7;
    int before = atomic_load(&drops);
    CHECK(!tenure_campaign_is_leader(of->campaign) && tenure_campaign_remaining_ms(of->campaign) == 0);
    CHECK(tenure_campaign_token(of->campaign) == 0);
    CHECK(tenure_campaign_state(of->campaign) == TENURE_STATE_NONE);
    FAILS(TENURE_FORKED, "`campaign`", tenure_campaign_wait_leader(of->campaign, -1, &err));
    FAILS(TENURE_FORKED, "`campaign`", tenure_campaign_proclaim(of->campaign, "x", 1, -1, &err));
    FAILS(TENURE_FORKED, "`campaign`", tenure_campaign_resign(of->campaign, -1, &err));
    FAILS(TENURE_FORKED, "`campaign`", tenure_campaign_resign_leader(of->campaign, -1, &err));
    FAILS(TENURE_FORKED, "`observer`", tenure_observer_close(of->observer, &err));
    FAILS(TENURE_FORKED, "`options`", tenure_options_set(of->options, "ttl", "5s", &err));
    FAILS(TENURE_FORKED, "`options`", tenure_service_open(of->options, &service, &err));
    FAILS(TENURE_FORKED, "`service`",
          tenure_service_campaign(of->service, "x", NULL, ignore, &junk, count_drop, &campaign, &err));
    FAILS(TENURE_FORKED, "`service`", tenure_service_observe(of->service, "x", ignore, &junk, count_drop, &observer, &err));
    FAILS(TENURE_FORKED, "`service`", tenure_service_set_log_callback(of->service, ignore, &junk, count_drop, &err));
    FAILS(TENURE_FORKED, "`service`", tenure_service_leader(of->service, "x", -1, &leader, &err));
    FAILS(TENURE_FORKED, "`service`", tenure_service_candidates(of->service, "x", -1, &candidates, &err));
    FAILS(TENURE_FORKED, "`service`", tenure_service_next_event(of->pulled, -1, &event, &err));
    FAILS(TENURE_FORKED, "`service`", tenure_service_event_fd(of->pulled, &fd, &err));
    FAILS(TENURE_FORKED, "`service`", tenure_service_close(of->service, -1, &err));
    CHECK(atomic_load(&drops) == before + 3);
    CHECK(campaign == NULL && observer == NULL && service == NULL && leader == NULL && candidates == NULL);
    CHECK(event == NULL && fd == -1);
}

static void free_all(const struct inherited *of) {
    tenure_campaign_free(of->campaign);
    tenure_observer_free(of->observer);
    tenure_service_free(of->service);
    tenure_service_free(of->pulled);
    tenure_options_free(of->options);
    tenure_error_free(of->error);
    tenure_event_free(of->event);
}

/* In a child it does nothing. */
static void free_inherited(const struct inherited *of) {
    free_all(of);
    /* The copies of what was read can still be read. */
    CHECK(of->error->code == TENURE_NOT_LEADER);
    check_event(of->event);
}

/* Takes part by itself: behind the parent where both meet, else as the only one. */
static void take_part(const struct inherited *of) {
    struct recorder recorder = RECORDER;
    tenure_service *service = open_service(of->endpoints, NULL);
    tenure_campaign *campaign = campaign_in(service, "forked", &recorder);
    tenure_campaign *own = lead(service, "forked-own");
    if (of->is_shared) {
        tenure_candidate *leader = NULL;
        FAILS(TENURE_TIMEOUT, "", tenure_campaign_wait_leader(campaign, 50, &err));
        WORKS(tenure_service_leader(service, "forked", -1, &leader, &err));
        CHECK(leader->token == of->token);
        tenure_candidate_free(leader);
    } else {
        WORKS(tenure_campaign_wait_leader(campaign, -1, &err));
    }
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    CHECK(tenure_campaign_is_leader(own));
    close_and_free(service);
    CHECK(recorder.closed && recorder.drops == 1);
    tenure_campaign_free(campaign);
    tenure_campaign_free(own);
}

static void child(void *inherited) {
    everything_answers_forked(inherited);
    take_part(inherited);
    free_inherited(inherited);
    everything_answers_forked(inherited);
}

static void child_that_leaves_it_alone(void *inherited) {
    (void)inherited;
}

static void child_that_exits(void *inherited) {
    child(inherited);
    exit(0);
}

static void child_that_exits_with_services_open(void *inherited) {
    const struct inherited *of = inherited;
    lead(open_service(of->endpoints, NULL), "forked-open");
    exit(0);
}

static void *use(void *inherited) {
    child(inherited);
    return NULL;
}

static void child_with_threads(void *inherited) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_create(&threads[i], NULL, use, inherited) == 0);
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

static void child_with_a_child(void *inherited) {
    struct inherited own = *(struct inherited *)inherited;
    own.service = open_service(own.endpoints, NULL);
    own.campaign = lead(own.service, "forked-generations");
    in_child(child, inherited);
    in_child(child, &own);
    CHECK(tenure_campaign_is_leader(own.campaign));
    close_and_free(own.service);
    tenure_campaign_free(own.campaign);
    everything_answers_forked(inherited);
}

static int64_t lease_of(tenure_service *service) {
    tenure_candidate *leader = NULL;
    WORKS(tenure_service_leader(service, "forked", -1, &leader, &err));
    int64_t lease = leader->lease;
    tenure_candidate_free(leader);
    return lease;
}

/* Everything that a child can inherit, but for the campaign. */
static void make(struct inherited *of, struct recorder *observed) {
    of->options = new_options();
    of->service = open_service(of->endpoints, "ttl", "8s", NULL);
    of->pulled = open_service(of->endpoints, "events", "pull", NULL);
    tenure_campaign *pulled = lead(of->pulled, "forked-pulled");
    WORKS(tenure_service_next_event(of->pulled, -1, &of->event, &err));
    WORKS(tenure_campaign_resign(pulled, -1, &err));
    CHECK(tenure_campaign_resign_leader(pulled, -1, &of->error) == TENURE_NOT_LEADER);
    tenure_campaign_free(pulled);
    WORKS(tenure_service_observe(of->service, "unled", record, observed, record_drop, &of->observer, &err));
    WAIT_FOR(observed, observed->events == 1);
}

static void end(struct inherited *of) {
    WORKS(tenure_observer_close(of->observer, &err));
    WORKS(tenure_service_close(of->service, -1, &err));
    WORKS(tenure_service_close(of->pulled, -1, &err));
    free_all(of);
}

static int64_t certain_until_ms(tenure_campaign *campaign) {
    return tenure_boottime_ns() / 1000000 + tenure_campaign_remaining_ms(campaign);
}

/* Fault 31. */
static void a_child_owns_nothing_and_harms_nothing(const char *endpoints, bool is_shared) {
    static void (*const children[])(void *) = {
        child_that_leaves_it_alone,           child,              child_that_exits,
        child_that_exits_with_services_open, child_with_threads, child_with_a_child,
    };
    struct inherited of = {.endpoints = endpoints, .is_shared = is_shared};
    struct recorder recorder = RECORDER, observed = RECORDER;
    make(&of, &observed);
    of.campaign = campaign_in(of.service, "forked", &recorder);
    WAIT_FOR(&recorder, recorder.seen[TENURE_STATE_LEADER] == 1);
    of.token = tenure_campaign_token(of.campaign);
    int64_t lease = lease_of(of.service);
    for (size_t i = 0; i < sizeof children / sizeof *children; i++) {
        in_child(children[i], &of);
        CHECK(tenure_campaign_is_leader(of.campaign) && tenure_campaign_token(of.campaign) == of.token);
        CHECK(lease_of(of.service) == lease);
    }
    /* And the lease is still renewed. */
    for (int64_t until = certain_until_ms(of.campaign); certain_until_ms(of.campaign) < until + 500;) {
        CHECK(tenure_campaign_is_leader(of.campaign));
        usleep(10000);
    }
    CHECK(recorder.events == 2 && recorder.drops == 0 && observed.drops == 0 && atomic_load(&drops) == 0);
    CHECK(tenure_campaign_token(of.campaign) == of.token);
    WORKS(tenure_campaign_resign(of.campaign, -1, &err));
    end(&of);
    CHECK(recorder.closed && recorder.drops == 1 && observed.closed && observed.drops == 1);
}

/* On the library's own thread. */
static void fork_as_leader(struct recorder *recorder, const tenure_event *event) {
    struct inherited *of = recorder->argument;
    if (event->state == TENURE_STATE_LEADER) {
        of->campaign = event->campaign;
        of->token = event->token;
        in_child(child, of);
        in_child(child_that_exits, of);
        CHECK(tenure_campaign_is_leader(event->campaign));
    }
}

/* Fault 31. */
static void a_callback_may_fork(const char *endpoints, bool is_shared) {
    struct inherited of = {.endpoints = endpoints, .is_shared = is_shared};
    struct recorder recorder = RECORDER, observed = RECORDER;
    make(&of, &observed);
    recorder.also = fork_as_leader;
    recorder.argument = &of;
    CHECK(campaign_in(of.service, "forked", &recorder) != NULL);
    WAIT_FOR(&recorder, recorder.seen[TENURE_STATE_LEADER] == 1);
    CHECK(tenure_campaign_is_leader(of.campaign));
    end(&of);
    CHECK(recorder.closed && recorder.drops == 1);
}

static atomic_bool stop;

/* A thread of the parent that is somewhere in the library at every moment, but for what fork_safely says. */
static void *keep_calling(void *argument) {
    struct inherited *of = argument;
    for (; !atomic_load(&stop); let_fork()) {
        struct recorder recorder = RECORDER;
        tenure_candidate *leader = NULL;
        tenure_observer *observer = NULL;
        tenure_event *event = NULL;
        tenure_error *error = NULL;
        WORKS(tenure_service_leader(of->service, "forked", -1, &leader, &err));
        CHECK(leader->token == of->token && tenure_campaign_is_leader(of->campaign));
        WORKS(tenure_service_observe(of->service, "forked", record, &recorder, record_drop, &observer, &err));
        tenure_observer_free(observer);
        CHECK(tenure_service_next_event(of->pulled, 0, &event, &error) == TENURE_TIMEOUT);
        tenure_error_free(error);
        tenure_candidate_free(leader);
        WAIT_FOR(&recorder, recorder.drops == 1);
    }
    return NULL;
}

static void child_of_a_busy_program(void *inherited) {
    const struct inherited *of = inherited;
    tenure_candidate *leader = NULL;
    CHECK(!tenure_campaign_is_leader(of->campaign));
    FAILS(TENURE_FORKED, "`service`", tenure_service_leader(of->service, "forked", -1, &leader, &err));
    tenure_service *own = open_service("memory://busy", NULL);
    tenure_campaign *campaign = lead(own, "forked");
    close_and_free(own);
    tenure_campaign_free(campaign);
    tenure_service_free(of->service);
}

/* Fault 31. */
static void a_program_may_fork_while_its_threads_are_in_the_library(void) {
    struct inherited of = {.endpoints = "memory://busy"};
    struct recorder observed = RECORDER;
    pthread_t threads[3];
    make(&of, &observed);
    tenure_event *event;
    while (tenure_service_next_event(of.pulled, 100, &event, NULL) == TENURE_OK) {
        tenure_event_free(event);
    }
    of.campaign = lead(of.service, "forked");
    of.token = tenure_campaign_token(of.campaign);
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, keep_calling, &of) == 0);
    }
    for (int i = 0; i < rounds(200); i++) {
        in_child(child_of_a_busy_program, &of);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    end(&of);
}

static int64_t lease_of_a_new_service(void) {
    tenure_service *service = open_service("memory://fresh", NULL);
    tenure_campaign *campaign = lead(service, "forked");
    int64_t lease = lease_of(service);
    close_and_free(service);
    tenure_campaign_free(campaign);
    return lease;
}

static void tell_lease(void *pipe) {
    int64_t lease = lease_of_a_new_service();
    CHECK(write(*(int *)pipe, &lease, sizeof lease) == sizeof lease);
}

/* Fault 31. Processes that asked for the same lease would take each other's keys for their own. */
static void processes_forked_from_one_choose_other_leases(void) {
    int64_t leases[4] = {lease_of_a_new_service()};
    int pipes[2];
    CHECK(pipe(pipes) == 0);
    for (int i = 1; i < 3; i++) {
        in_child(tell_lease, &pipes[1]);
        CHECK(read(pipes[0], &leases[i], sizeof leases[i]) == sizeof leases[i]);
    }
    leases[3] = lease_of_a_new_service();
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < i; j++) {
            CHECK(leases[i] != leases[j]);
        }
    }
    CHECK(close(pipes[0]) == 0 && close(pipes[1]) == 0);
}

extern char **environ;

static void starting_programs_is_no_fork(void) {
    tenure_service *service = open_service("memory://spawn", NULL);
    tenure_campaign *campaign = lead(service, "e");
    char *const arguments[] = {"true", NULL};
    pid_t pid = -1;
    int status = -1;
    CHECK(posix_spawnp(&pid, "true", NULL, NULL, arguments, environ) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    pid = vfork();
    if (pid == 0) {
        execvp("true", arguments);
        _exit(1);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(system("true") == 0);
    CHECK(tenure_campaign_is_leader(campaign));
    WORKS(tenure_campaign_resign_leader(campaign, -1, &err));
    close_and_free(service);
    tenure_campaign_free(campaign);
}

int main(void) {
    RUN(a_child_owns_nothing_and_harms_nothing("memory://fork", false));
    RUN(a_child_owns_nothing_and_harms_nothing(etcd(), true));
    RUN(a_callback_may_fork("memory://fork", false));
    RUN(a_callback_may_fork(etcd(), true));
    RUN(a_program_may_fork_while_its_threads_are_in_the_library());
    RUN(processes_forked_from_one_choose_other_leases());
    RUN(starting_programs_is_no_fork());
    puts("ok");
    return 0;
}
