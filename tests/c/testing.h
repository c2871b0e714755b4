/*
 * What the programs of this folder share: checks that say where they failed, a watchdog, services on any store, and a
 * recorder of events that holds each event to what the header promises.
 */
#ifndef TESTING_H
#define TESTING_H

#include <tenure.h>

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child has not the stacks of its parent's threads, so what they held looks lost there: leaks are looked for in the
 * program itself only, by valgrind and by the sanitizer. */
static bool is_child;

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define NO_LEAK_CHECK VALGRIND_CLO_CHANGE("--leak-check=no")
#else
#define NO_LEAK_CHECK (void)0
#define RUNNING_ON_VALGRIND 0
#endif

int __lsan_is_turned_off(void);

int __lsan_is_turned_off(void) {
    return is_child;
}

#define UNUSED __attribute__((unused))

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)

/* The call answers this code, with an error that says the same and names this. */
#define FAILS(code_wanted, part, call)                                                                                 \
    do {                                                                                                               \
        tenure_error *err = (tenure_error *)&junk;                                                                     \
        tenure_code answer = (call);                                                                                   \
        check_error(__FILE__, __LINE__, answer, (code_wanted), err, (part));                                           \
        tenure_error_free(err);                                                                                        \
        tenure_error_free(err);                                                                                        \
    } while (0)

/* The call succeeds and empties the error. */
#define WORKS(call)                                                                                                    \
    do {                                                                                                               \
        tenure_error *err = (tenure_error *)&junk;                                                                     \
        tenure_code answer = (call);                                                                                   \
        if (answer != TENURE_OK) {                                                                                     \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, tenure_code_name(answer), err->message);            \
            _exit(1);                                                                                                  \
        }                                                                                                              \
        CHECK(err == NULL);                                                                                            \
    } while (0)

/* Runs one test, which must end in time: nothing in these programs waits with a timeout of its own for what must
 * happen. */
#define RUN(test)                                                                                                      \
    do {                                                                                                               \
        watched(#test);                                                                                                \
        test;                                                                                                          \
        alarm(0);                                                                                                      \
    } while (0)

/* What outputs point to before a call. */
static int junk UNUSED;

static const char *running;

/* Under valgrind things take thirty times as long. */
static int slowness(void) {
    const char *slowness = getenv("TENURE_TEST_SLOWNESS");
    return slowness != NULL ? atoi(slowness) : 1;
}

/* How often to do what is done `often` at full speed. */
static inline int rounds(int often) {
    return (often + slowness() - 1) / slowness();
}

static void late(int number) {
    static const char said[] = " did not end in time\n";
    (void)number;
    if (write(STDERR_FILENO, running, strlen(running)) >= 0 && write(STDERR_FILENO, said, sizeof said - 1) >= 0) {
        _exit(1);
    }
    _exit(2);
}

static inline void watched(const char *test) {
    struct sigaction action = {.sa_handler = late};
    running = test;
    CHECK(sigaction(SIGALRM, &action, NULL) == 0);
    alarm(slowness() > 1 ? 400 : 120);
}

static inline void check_error(const char *file, int line, tenure_code answer, tenure_code wanted,
                               const tenure_error *err, const char *part) {
    if (answer != wanted) {
        fprintf(stderr, "%s:%d: %s instead of %s\n", file, line, tenure_code_name(answer), tenure_code_name(wanted));
        _exit(1);
    }
    CHECK(err != NULL && err != (tenure_error *)&junk);
    CHECK(err->struct_size == sizeof *err && err->code == answer);
    CHECK(strcmp(err->name, tenure_code_name(answer)) == 0);
    CHECK(err->is_retriable == tenure_code_is_retriable(answer));
    if (strstr(err->message, part) == NULL) {
        fprintf(stderr, "%s:%d: no `%s` in `%s`\n", file, line, part, err->message);
        _exit(1);
    }
}

/* The address sanitizer's own locks don't survive every fork (LLVM 22): one that a thread of the parent is just trying to
 * get, to start or to allocate, wakes nobody any more in the child, and threads there wait for it for ever. So under the
 * sanitizer a child is made while all other threads sleep, and those that never do so by themselves stand still for it. */
#ifdef __SANITIZE_ADDRESS__
static atomic_bool standing_still;

/* How many threads are running or about to, the one that asks included. */
static inline int threads_awake(void) {
    DIR *threads = opendir("/proc/self/task");
    struct dirent *thread;
    int awake = 0;
    CHECK(threads != NULL);
    while ((thread = readdir(threads)) != NULL) {
        char path[sizeof "/proc/self/task//stat" + sizeof thread->d_name];
        char state;
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", thread->d_name);
        FILE *stat = *thread->d_name == '.' ? NULL : fopen(path, "r");
        if (stat != NULL) {
            awake += fscanf(stat, "%*d (%*[^)]) %c", &state) == 1 && (state == 'R' || state == 'D');
            CHECK(fclose(stat) == 0);
        }
    }
    CHECK(closedir(threads) == 0);
    return awake;
}

/* What a thread that never sleeps does between its calls. */
static inline void let_fork(void) {
    while (atomic_load(&standing_still)) {
        poll(NULL, 0, 1);
    }
}

static inline pid_t fork_safely(void) {
    atomic_store(&standing_still, true);
    while (threads_awake() > 1) {
        poll(NULL, 0, 1);
    }
    pid_t pid = fork();
    atomic_store(&standing_still, false);
    return pid;
}
#else
static inline void let_fork(void) {
}

static inline pid_t fork_safely(void) {
    return fork();
}
#endif

/* How many entries a folder has, `.` and `..` among them. */
static inline int entries(const char *folder) {
    DIR *open = opendir(folder);
    int count = 0;
    CHECK(open != NULL);
    while (readdir(open) != NULL) {
        count++;
    }
    CHECK(closedir(open) == 0);
    return count;
}

/* Runs `child` in a child process, which must end with 0 well within a minute. */
static inline void in_child(void (*child)(void *), void *argument) {
    pid_t pid = fork_safely();
    CHECK(pid >= 0);
    if (pid == 0) {
        is_child = true;
        NO_LEAK_CHECK;
        alarm(slowness() > 1 ? 300 : 60);
        child(argument);
        _exit(0);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static inline tenure_options *new_options(void) {
    tenure_options *options = NULL;
    WORKS(tenure_options_new(&options, &err));
    CHECK(options != NULL);
    return options;
}

static inline tenure_campaign_options *new_campaign_options(void) {
    tenure_campaign_options *options = NULL;
    WORKS(tenure_campaign_options_new(&options, &err));
    CHECK(options != NULL);
    return options;
}

/* The etcd that tests/tools/with_etcd.py started. */
static inline const char *etcd(void) {
    const char *endpoints = getenv("ETCD_ENDPOINTS");
    CHECK(endpoints != NULL);
    return endpoints;
}

/* A service; then names and values of further options, and NULL. */
static inline tenure_service *open_service(const char *endpoints, ...) {
    tenure_options *options = new_options();
    tenure_service *service = NULL;
    const char *name;
    va_list more;
    WORKS(tenure_options_set(options, "endpoints", endpoints, &err));
    WORKS(tenure_options_set(options, "service", "c-tests", &err));
    WORKS(tenure_options_set(options, "dial_timeout", "30s", &err));
    WORKS(tenure_options_set(options, "call_timeout", "30s", &err));
    va_start(more, endpoints);
    while ((name = va_arg(more, const char *)) != NULL) {
        WORKS(tenure_options_set(options, name, va_arg(more, const char *), &err));
    }
    va_end(more);
    WORKS(tenure_service_open(options, &service, &err));
    tenure_options_free(options);
    CHECK(service != NULL);
    return service;
}

static inline void close_and_free(tenure_service *service) {
    WORKS(tenure_service_close(service, -1, &err));
    tenure_service_free(service);
}

/* An event is as the header says, whatever it is about. */
static inline void check_event(const tenure_event *event) {
    CHECK(event->struct_size == sizeof *event);
    CHECK(event->time_ns > 0 && event->time_ns <= tenure_boottime_ns());
    CHECK(event->election != NULL && event->message != NULL && event->value != NULL && event->key != NULL);
    CHECK(event->value[event->value_len] == '\0' && event->key[event->key_len] == '\0');
    CHECK(strcmp(event->reason_name, tenure_code_name(event->reason)) == 0);
    CHECK((event->reason == TENURE_OK) == (*event->message == '\0') || event->kind == TENURE_EVENT_LOG);
    switch (event->kind) {
    case TENURE_EVENT_CAMPAIGN:
        CHECK(event->sequence > 0 && *event->election != '\0' && event->observer == NULL && event->key_len == 0);
        CHECK(event->lease == 0 && event->level == 0 && !event->has_leader && !event->connected);
        CHECK(event->state >= TENURE_STATE_FOLLOWER && event->state <= TENURE_STATE_CLOSED);
        CHECK((event->state == TENURE_STATE_LEADER) == (event->deadline_ns != 0));
        CHECK(event->state != TENURE_STATE_LEADER || (event->token > 0 && event->revision >= event->token));
        CHECK((event->state == TENURE_STATE_CLOSED) == event->closed);
        break;
    case TENURE_EVENT_OBSERVER:
        CHECK(event->sequence > 0 && *event->election != '\0' && event->campaign == NULL && event->state == 0);
        CHECK(event->deadline_ns == 0 && event->level == 0 && !event->at_risk);
        CHECK(event->has_leader == (event->token > 0) && event->has_leader == (event->key_len > 0));
        CHECK(event->has_leader || (event->value_len == 0 && event->lease == 0));
        break;
    case TENURE_EVENT_LOG:
        CHECK(event->level >= TENURE_LEVEL_ERROR && event->level <= TENURE_LEVEL_DEBUG && *event->message != '\0');
        CHECK(event->campaign == NULL && event->observer == NULL && event->state == 0 && event->sequence == 0);
        CHECK(*event->election == '\0' && event->value_len == 0 && event->key_len == 0 && event->token == 0);
        break;
    default: CHECK(!"an event of a kind that this header doesn't know");
    }
}

/* What a callback was told; make it with RECORDER. */
struct recorder {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int seen[TENURE_STATE_CLOSED + 1]; /* events of a campaign, by state */
    int events;
    int drops;
    bool closed;
    uint64_t sequence;
    char last_value[64];
    void (*also)(struct recorder *, const tenure_event *); /* called before the event counts */
    void *argument;                                        /* for `also` */
};

#define RECORDER {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER}

static inline void lock(struct recorder *recorder) {
    CHECK(pthread_mutex_lock(&recorder->lock) == 0);
}

static inline void unlock(struct recorder *recorder) {
    CHECK(pthread_mutex_unlock(&recorder->lock) == 0);
}

static inline void record(void *user_data, const tenure_event *event) {
    struct recorder *recorder = user_data;
    check_event(event);
    CHECK(event->user_data == user_data);
    if (recorder->also != NULL) {
        recorder->also(recorder, event);
    }
    lock(recorder);
    CHECK(recorder->drops == 0 && !recorder->closed);
    CHECK(event->kind == TENURE_EVENT_LOG || event->sequence > recorder->sequence);
    recorder->sequence = event->sequence;
    recorder->closed = event->closed;
    recorder->events++;
    recorder->seen[event->state]++;
    snprintf(recorder->last_value, sizeof recorder->last_value, "%s", event->value);
    CHECK(pthread_cond_broadcast(&recorder->changed) == 0);
    unlock(recorder);
}

static inline void record_drop(void *user_data) {
    struct recorder *recorder = user_data;
    lock(recorder);
    CHECK(++recorder->drops == 1);
    CHECK(pthread_cond_broadcast(&recorder->changed) == 0);
    unlock(recorder);
}

/* Waits until this is so; the watchdog sees to it that it becomes so. */
#define WAIT_FOR(recorder, condition)                                                                                  \
    do {                                                                                                               \
        lock(recorder);                                                                                                \
        while (!(condition)) {                                                                                         \
            CHECK(pthread_cond_wait(&(recorder)->changed, &(recorder)->lock) == 0);                                    \
        }                                                                                                              \
        unlock(recorder);                                                                                              \
    } while (0)

static inline tenure_campaign *campaign_in(tenure_service *service, const char *election, struct recorder *recorder) {
    tenure_campaign *campaign = NULL;
    WORKS(tenure_service_campaign(service, election, NULL, record, recorder, record_drop, &campaign, &err));
    CHECK(campaign != NULL);
    return campaign;
}

/* A campaign that leads, and whose events nobody hears. */
static inline tenure_campaign *lead(tenure_service *service, const char *election) {
    tenure_campaign *campaign = NULL;
    WORKS(tenure_service_campaign(service, election, NULL, NULL, NULL, NULL, &campaign, &err));
    WORKS(tenure_campaign_wait_leader(campaign, -1, &err));
    return campaign;
}

#endif
