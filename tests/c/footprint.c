/*
 * What each of many elections costs the process that stands in it: bytes of heap for each, held or followed, and no
 * thread. Not under valgrind or the sanitizer, which have a heap of their own. Prints "ok".
 */
#include "testing.h"

#include <malloc.h>

#define ELECTIONS 800
/* The bound that `make bench-check` holds the resident memory against. */
#define BYTES 2048

static long heap_bytes(void) {
    struct mallinfo2 info = mallinfo2();
    return (long)(info.uordblks + info.hblkhd);
}

static void stand_in_all(tenure_service *service, tenure_campaign **campaigns) {
    for (int i = 0; i < ELECTIONS; i++) {
        char election[16];
        snprintf(election, sizeof election, "shard-%04d", i);
        WORKS(tenure_service_campaign(service, election, NULL, NULL, NULL, NULL, &campaigns[i], &err));
    }
}

static void free_all(tenure_campaign **campaigns) {
    for (int i = 0; i < ELECTIONS; i++) {
        tenure_campaign_free(campaigns[i]);
    }
}

static void check_cost(const char *of, long bytes) {
    fprintf(stderr, "%s: %ld bytes of heap each\n", of, bytes / ELECTIONS);
    CHECK(bytes > 0 && bytes / ELECTIONS <= BYTES);
}

static void many_elections_cost_little_each(const char *endpoints) {
    static tenure_campaign *held[ELECTIONS];
    tenure_service *service = open_service(endpoints, "ttl", "30s", NULL);
    int threads = entries("/proc/self/task");
    long before = heap_bytes();
    stand_in_all(service, held);
    for (int i = 0; i < ELECTIONS; i++) {
        WORKS(tenure_campaign_wait_leader(held[i], -1, &err));
    }
    check_cost("held", heap_bytes() - before);
    CHECK(entries("/proc/self/task") == threads);

    tenure_service *behind = open_service(endpoints, "ttl", "30s", NULL);
    static tenure_campaign *followed[ELECTIONS];
    before = heap_bytes();
    stand_in_all(behind, followed);
    tenure_candidates *candidates = NULL;
    for (int i = 0; i < ELECTIONS; i++) {
        char election[16];
        snprintf(election, sizeof election, "shard-%04d", i);
        do {
            tenure_candidates_free(candidates);
            WORKS(tenure_service_candidates(behind, election, -1, &candidates, &err));
        } while (candidates->count < 2);
        CHECK(!tenure_campaign_is_leader(followed[i]));
    }
    tenure_candidates_free(candidates);
    /* The holder knows its follower, too. */
    check_cost("followed, and known to the holder", heap_bytes() - before);
    free_all(held);
    for (int i = 0; i < ELECTIONS; i++) {
        WORKS(tenure_campaign_wait_leader(followed[i], -1, &err));
    }
    free_all(followed);
    close_and_free(behind);
    close_and_free(service);
}

int main(void) {
    RUN(many_elections_cost_little_each(etcd()));
    puts("ok");
    return 0;
}
