/*
 * Tenure under measurement, through its C functions. bench.py writes a command on a line and reads a line: "ok" and numbers,
 * nanoseconds unless said otherwise, or "error" and why.
 *
 *   campaign            to the LEADER event, without rivals; resign to confirmed
 *   handover MS         resign to the LEADER event of a follower that has waited so long
 *   chain N             mean of N hand-overs from one candidate to the next
 *   join ELECTIONS [FROM]  stands in so many elections, the first of them number FROM; to the last LEADER event
 *   follow ELECTIONS    stands behind others in so many elections, and leaves it at that
 *   elected COUNT       when (CLOCK_BOOTTIME) the COUNTth LEADER event since `follow` came
 *   resign              withdraws from all those elections; to the last CLOSED event
 *   is_leader           1000 calls; 1000 readings of the clock
 *   events N            from the telling to the callback, N times
 *   lead TTL            leads the election "killed", and goes on doing so
 *   stand               waits behind that leader; when (CLOCK_BOOTTIME) the LEADER event came; withdraws
 *   status              resident bytes, threads, processor time
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tenure.h>

#define LIMIT_MS 60000
#define CHAIN_MAX 128

static const char *endpoints;

static int64_t now(void) { return tenure_boottime_ns(); }

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
}

static void must(tenure_code code, tenure_error *err, const char *what)
{
    if (code == TENURE_OK)
        return;
    printf("error %s: %s\n", what, err ? err->message : tenure_code_name(code));
    fflush(stdout);
    exit(1);
}

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        tenure_error *err = NULL;                                                                                      \
        must((call), err, #call);                                                                                      \
    } while (0)

/* Counts the events of one state, and when the last of them came. */
struct count {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    long leaders, closed, lost;
    int64_t at;
};

#define COUNT {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, 0, 0}

static void on_event(void *user_data, const tenure_event *event)
{
    struct count *count = user_data;
    int64_t at = now();
    pthread_mutex_lock(&count->lock);
    count->leaders += event->state == TENURE_STATE_LEADER;
    count->closed += event->state == TENURE_STATE_CLOSED;
    count->lost += event->state == TENURE_STATE_ERROR;
    count->at = at;
    pthread_cond_signal(&count->changed);
    pthread_mutex_unlock(&count->lock);
}

/* Waits until a number has been reached, and tells when that was. */
static int64_t reached(struct count *count, const long *number, long wanted)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LIMIT_MS / 1000;
    pthread_mutex_lock(&count->lock);
    while (*number < wanted && count->lost == 0)
        if (pthread_cond_timedwait(&count->changed, &count->lock, &until) != 0)
            break;
    if (*number < wanted) {
        printf("error %ld of %ld events, %ld losses\n", *number, wanted, count->lost);
        fflush(stdout);
        exit(1);
    }
    int64_t at = count->at;
    pthread_mutex_unlock(&count->lock);
    return at;
}

static tenure_service *open_service(const char *ttl)
{
    tenure_options *options = NULL;
    tenure_service *service = NULL;
    MUST(tenure_options_new(&options, &err));
    MUST(tenure_options_set(options, "endpoints", endpoints, &err));
    MUST(tenure_options_set(options, "service", "bench", &err));
    MUST(tenure_options_set(options, "ttl", ttl, &err));
    MUST(tenure_service_open(options, &service, &err));
    tenure_options_free(options);
    return service;
}

static tenure_campaign *stand(tenure_service *service, const char *election, tenure_event_fn on, void *user_data)
{
    tenure_campaign *campaign = NULL;
    MUST(tenure_service_campaign(service, election, NULL, on, user_data, NULL, &campaign, &err));
    return campaign;
}

static void resign(tenure_campaign *campaign)
{
    MUST(tenure_campaign_resign(campaign, LIMIT_MS, &err));
    tenure_campaign_free(campaign);
}

/* Two candidates with a connection each. */
static tenure_service *first, *second;

static void measure_campaign(void)
{
    struct count count = COUNT;
    pause_ms(10);
    int64_t start = now();
    tenure_campaign *campaign = stand(first, "lone", on_event, &count);
    int64_t elected = reached(&count, &count.leaders, 1) - start;
    pause_ms(10);
    start = now();
    MUST(tenure_campaign_resign(campaign, LIMIT_MS, &err));
    printf("ok %lld %lld\n", (long long)elected, (long long)(now() - start));
    reached(&count, &count.closed, 1);
    tenure_campaign_free(campaign);
}

static void measure_handover(long wait_ms)
{
    struct count leader_count = COUNT, follower_count = COUNT;
    tenure_campaign *leader = stand(first, "pair", on_event, &leader_count);
    reached(&leader_count, &leader_count.leaders, 1);
    tenure_campaign *follower = stand(second, "pair", on_event, &follower_count);
    pause_ms(wait_ms);
    int64_t start = now();
    MUST(tenure_campaign_resign(leader, LIMIT_MS, &err));
    int64_t end = reached(&follower_count, &follower_count.leaders, 1);
    if (tenure_campaign_is_leader(leader) || !tenure_campaign_is_leader(follower))
        printf("error two leaders, or none\n");
    else
        printf("ok %lld\n", (long long)(end - start));
    tenure_campaign_free(leader);
    resign(follower);
    reached(&leader_count, &leader_count.closed, 1);
    reached(&follower_count, &follower_count.closed, 1);
}

/* Each candidate of the chain has a service, so a session, of its own. */
static void measure_chain(long length)
{
    static tenure_service *services[CHAIN_MAX];
    static struct count counts[CHAIN_MAX];
    tenure_campaign *campaigns[CHAIN_MAX];
    if (length > CHAIN_MAX)
        length = CHAIN_MAX;
    for (long i = 0; i < length; i++) {
        counts[i] = (struct count)COUNT;
        if (services[i] == NULL)
            services[i] = open_service("60s");
        campaigns[i] = stand(services[i], "chain", on_event, &counts[i]);
        /* In this order, since the key is there when this returns. */
        tenure_candidates *candidates = NULL;
        do {
            tenure_candidates_free(candidates);
            MUST(tenure_service_candidates(services[i], "chain", LIMIT_MS, &candidates, &err));
        } while ((long)candidates->count < i + 1);
        tenure_candidates_free(candidates);
    }
    reached(&counts[0], &counts[0].leaders, 1);
    pause_ms(50);
    int64_t start = now(), end = start;
    for (long i = 0; i + 1 < length; i++) {
        MUST(tenure_campaign_resign(campaigns[i], LIMIT_MS, &err));
        end = reached(&counts[i + 1], &counts[i + 1].leaders, 1);
    }
    printf("ok %lld\n", (long long)((end - start) / (length - 1)));
    MUST(tenure_campaign_resign(campaigns[length - 1], LIMIT_MS, &err));
    for (long i = 0; i < length; i++) {
        reached(&counts[i], &counts[i].closed, 1);
        tenure_campaign_free(campaigns[i]);
    }
}

static tenure_campaign **many;
static long elections;
static struct count many_count = COUNT;
static tenure_service *many_service;

static int64_t stand_in_many(long count, long from)
{
    if (many_service == NULL)
        many_service = open_service("60s");
    many = malloc(count * sizeof *many);
    elections = count;
    many_count.leaders = many_count.closed = many_count.lost = 0;
    int64_t start = now();
    for (long i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "shard-%05ld", from + i);
        many[i] = stand(many_service, name, on_event, &many_count);
    }
    return start;
}

static void measure_join(long count, long from)
{
    int64_t start = stand_in_many(count, from);
    printf("ok %lld\n", (long long)(reached(&many_count, &many_count.leaders, count) - start));
}

static void measure_resign_all(void)
{
    int64_t start = now();
    for (long i = 0; i < elections; i++) {
        /* Begins, and does not wait. */
        tenure_code code = tenure_campaign_resign(many[i], 0, NULL);
        if (code != TENURE_OK && code != TENURE_PENDING)
            must(code, NULL, "resign");
    }
    printf("ok %lld\n", (long long)(reached(&many_count, &many_count.closed, elections) - start));
    for (long i = 0; i < elections; i++)
        tenure_campaign_free(many[i]);
    free(many);
    many = NULL;
}

static void measure_is_leader(void)
{
    struct count count = COUNT;
    tenure_campaign *campaign = stand(first, "polled", on_event, &count);
    reached(&count, &count.leaders, 1);
    long led = 0;
    int64_t start = now();
    for (int i = 0; i < 1000; i++)
        led += tenure_campaign_is_leader(campaign);
    int64_t calls = now() - start;
    struct timespec time;
    start = now();
    for (int i = 0; i < 1000; i++)
        clock_gettime(CLOCK_BOOTTIME, &time);
    int64_t readings = now() - start;
    if (led != 1000)
        printf("error %ld of 1000 calls answered true\n", led);
    else
        printf("ok %lld %lld\n", (long long)calls, (long long)readings);
    resign(campaign);
    reached(&count, &count.closed, 1);
}

struct lateness {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t late;
};

static void on_observed(void *user_data, const tenure_event *event)
{
    struct lateness *lateness = user_data;
    int64_t late = now() - event->time_ns;
    pthread_mutex_lock(&lateness->lock);
    lateness->late = late;
    pthread_cond_signal(&lateness->changed);
    pthread_mutex_unlock(&lateness->lock);
}

/* One event at a time, each to a thread that sleeps: the worst case, and what an election is like. */
static void measure_events(long count)
{
    struct lateness lateness = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    printf("ok");
    for (long i = 0; i < count; i++) {
        tenure_observer *observer = NULL;
        lateness.late = 0;
        MUST(tenure_service_observe(first, "nobody", on_observed, &lateness, NULL, &observer, &err));
        pthread_mutex_lock(&lateness.lock);
        while (lateness.late == 0)
            pthread_cond_wait(&lateness.changed, &lateness.lock);
        printf(" %lld", (long long)lateness.late);
        lateness.late = 0;
        pthread_mutex_unlock(&lateness.lock);
        MUST(tenure_observer_close(observer, &err));
        pthread_mutex_lock(&lateness.lock);
        while (lateness.late == 0)
            pthread_cond_wait(&lateness.changed, &lateness.lock);
        pthread_mutex_unlock(&lateness.lock);
        tenure_observer_free(observer);
    }
    printf("\n");
}

static void lead(const char *ttl)
{
    static struct count count = COUNT;
    stand(open_service(ttl), "killed", on_event, &count);
    reached(&count, &count.leaders, 1);
    printf("ok\n");
}

static void stand_behind(void)
{
    struct count count = COUNT;
    tenure_campaign *campaign = stand(first, "killed", on_event, &count);
    printf("ok %lld\n", (long long)reached(&count, &count.leaders, 1));
    resign(campaign);
    reached(&count, &count.closed, 1);
}

static void status(void)
{
    char line[256];
    long resident_kb = 0, threads = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file)) {
        sscanf(line, "VmRSS: %ld", &resident_kb);
        sscanf(line, "Threads: %ld", &threads);
    }
    if (file)
        fclose(file);
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    printf("ok %ld %ld %lld\n", resident_kb * 1024, threads, (long long)used.tv_sec * 1000000000 + used.tv_nsec);
}

int main(int argc, char **argv)
{
    char line[128], command[32], argument[32], second_argument[32];
    if (argc != 2)
        return fprintf(stderr, "usage: tenure ENDPOINTS\n"), 2;
    endpoints = argv[1];
    while (fgets(line, sizeof line, stdin)) {
        argument[0] = second_argument[0] = '\0';
        if (sscanf(line, "%31s %31s %31s", command, argument, second_argument) < 1)
            continue;
        long number = atol(argument);
        int pair = strcmp(command, "campaign") == 0 || strcmp(command, "handover") == 0 ||
                   strcmp(command, "is_leader") == 0 || strcmp(command, "stand") == 0 || strcmp(command, "events") == 0;
        if (pair && first == NULL) {
            first = open_service("60s");
            second = open_service("60s");
        }
        if (strcmp(command, "campaign") == 0)
            measure_campaign();
        else if (strcmp(command, "handover") == 0)
            measure_handover(number);
        else if (strcmp(command, "chain") == 0)
            measure_chain(number);
        else if (strcmp(command, "join") == 0)
            measure_join(number, atol(second_argument));
        else if (strcmp(command, "follow") == 0)
            stand_in_many(number, 0), printf("ok\n");
        else if (strcmp(command, "elected") == 0)
            printf("ok %lld\n", (long long)reached(&many_count, &many_count.leaders, number));
        else if (strcmp(command, "resign") == 0)
            measure_resign_all();
        else if (strcmp(command, "is_leader") == 0)
            measure_is_leader();
        else if (strcmp(command, "events") == 0)
            measure_events(number);
        else if (strcmp(command, "lead") == 0)
            lead(argument);
        else if (strcmp(command, "stand") == 0)
            stand_behind();
        else if (strcmp(command, "status") == 0)
            status();
        else
            printf("error no such command: %s", line);
        fflush(stdout);
    }
    return 0;
}
