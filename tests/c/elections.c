/*
 * Elections as a C program holds them, on etcd and on the in-process store alike: standing, leading, announcing, asking,
 * handing over, and what is refused. Prints "ok".
 */
#include "testing.h"

/* The leader, who must be there. */
static tenure_candidate *leader_of(tenure_service *service, const char *election) {
    tenure_candidate *leader = (tenure_candidate *)&junk;
    WORKS(tenure_service_leader(service, election, -1, &leader, &err));
    CHECK(leader->struct_size == sizeof *leader && leader->token > 0 && leader->lease != 0);
    CHECK(leader->value[leader->value_len] == '\0' && leader->key[leader->key_len] == '\0' && leader->key_len > 0);
    return leader;
}

static void check_not_leading(tenure_campaign *campaign) {
    CHECK(!tenure_campaign_is_leader(campaign) && tenure_campaign_remaining_ms(campaign) == 0);
    CHECK(tenure_campaign_token(campaign) == 0 && tenure_campaign_state(campaign) != TENURE_STATE_LEADER);
}

static void one_candidate_leads_and_resigns(const char *endpoints) {
    tenure_service *service = open_service(endpoints, "ttl", "7s", NULL);
    tenure_candidate *none = (tenure_candidate *)&junk;
    tenure_candidates *candidates = (tenure_candidates *)&junk;
    FAILS(TENURE_NO_LEADER, "", tenure_service_leader(service, "one", -1, &none, &err));
    WORKS(tenure_service_candidates(service, "one", -1, &candidates, &err));
    CHECK(none == NULL && candidates->struct_size == sizeof *candidates && candidates->count == 0);
    tenure_candidates_free(candidates);

    struct recorder recorder = RECORDER;
    tenure_campaign *campaign = campaign_in(service, "one", &recorder);
    WORKS(tenure_campaign_wait_leader(campaign, -1, &err));
    WORKS(tenure_campaign_wait_leader(campaign, 0, &err));
    int64_t remaining = tenure_campaign_remaining_ms(campaign), token = tenure_campaign_token(campaign);
    CHECK(tenure_campaign_is_leader(campaign) && tenure_campaign_state(campaign) == TENURE_STATE_LEADER);
    CHECK(remaining > 0 && remaining <= 7000 && token > 0);
    tenure_candidate *leader = leader_of(service, "one");
    CHECK(leader->token == token);

    WORKS(tenure_campaign_resign_leader(campaign, -1, &err));
    check_not_leading(campaign);
    FAILS(TENURE_NO_LEADER, "", tenure_service_leader(service, "one", -1, &none, &err));
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    FAILS(TENURE_NOT_LEADER, "", tenure_campaign_resign_leader(campaign, -1, &err));
    FAILS(TENURE_NOT_LEADER, "", tenure_campaign_proclaim(campaign, "x", 1, -1, &err));
    FAILS(TENURE_CLOSED, "", tenure_campaign_wait_leader(campaign, -1, &err));
    WAIT_FOR(&recorder, recorder.drops == 1);
    CHECK(recorder.closed && recorder.seen[TENURE_STATE_ERROR] == 0 && tenure_campaign_state(campaign) == TENURE_STATE_CLOSED);
    /* What was read is the program's, and outlives its source. */
    tenure_campaign_free(campaign);
    close_and_free(service);
    CHECK(leader->token == token);
    tenure_candidate_free(leader);
    tenure_candidate_free(leader);
}

static void leadership_is_handed_over(const char *endpoints) {
    tenure_service *first = open_service(endpoints, "value", "first", NULL);
    tenure_service *second = open_service(endpoints, "value", "second", NULL);
    struct recorder observed = RECORDER;
    tenure_observer *observer = NULL;
    tenure_candidates *candidates = NULL;
    WORKS(tenure_service_observe(second, "two", record, &observed, record_drop, &observer, &err));
    tenure_campaign *leading = lead(first, "two"), *waiting = NULL;
    int64_t token = tenure_campaign_token(leading);
    WAIT_FOR(&observed, strcmp(observed.last_value, "first") == 0);
    WORKS(tenure_service_campaign(second, "two", NULL, NULL, NULL, NULL, &waiting, &err));
    do {
        tenure_candidates_free(candidates);
        WORKS(tenure_service_candidates(first, "two", -1, &candidates, &err));
    } while (candidates->count < 2);
    CHECK(candidates->count == 2 && candidates->items[0]->token < candidates->items[1]->token);
    CHECK(strcmp(candidates->items[0]->value, "first") == 0 && strcmp(candidates->items[1]->value, "second") == 0);
    /* One of several isn't freed by itself. */
    tenure_candidate_free((tenure_candidate *)(uintptr_t)candidates->items[0]);
    CHECK(candidates->items[0]->token == token);
    tenure_candidates_free(candidates);

    FAILS(TENURE_TIMEOUT, "", tenure_campaign_wait_leader(waiting, 0, &err));
    FAILS(TENURE_TIMEOUT, "", tenure_campaign_wait_leader(waiting, 50, &err));
    FAILS(TENURE_NOT_LEADER, "", tenure_campaign_resign_leader(waiting, -1, &err));
    FAILS(TENURE_NOT_LEADER, "", tenure_campaign_proclaim(waiting, "x", 1, -1, &err));
    check_not_leading(waiting);
    CHECK(tenure_campaign_state(waiting) == TENURE_STATE_FOLLOWER);

    WORKS(tenure_campaign_resign(leading, -1, &err));
    WORKS(tenure_campaign_wait_leader(waiting, -1, &err));
    CHECK(tenure_campaign_token(waiting) > token);
    check_not_leading(leading);
    WAIT_FOR(&observed, strcmp(observed.last_value, "second") == 0);
    close_and_free(second);
    CHECK(observed.closed && observed.drops == 1);
    tenure_candidate *none = NULL;
    FAILS(TENURE_NO_LEADER, "", tenure_service_leader(first, "two", -1, &none, &err));
    close_and_free(first);
    tenure_campaign_free(leading);
    tenure_campaign_free(waiting);
    tenure_observer_free(observer);
}

static void values_are_bytes_of_any_kind_up_to_a_mebibyte(const char *endpoints) {
    tenure_service *service = open_service(endpoints, NULL);
    tenure_campaign *campaign = lead(service, "value");
    int64_t token = tenure_campaign_token(campaign);
    tenure_candidate *leader = NULL;
    WORKS(tenure_campaign_proclaim(campaign, "\0\xff\0", 3, -1, &err));
    leader = leader_of(service, "value");
    CHECK(leader->token == token && leader->value_len == 3 && memcmp(leader->value, "\0\xff\0", 4) == 0);
    tenure_candidate_free(leader);
    WORKS(tenure_campaign_proclaim(campaign, NULL, 0, -1, &err));
    leader = leader_of(service, "value");
    CHECK(leader->value_len == 0);
    tenure_candidate_free(leader);

    size_t limit = 1024 * 1024;
    char *large = malloc(limit + 1);
    CHECK(large != NULL);
    memset(large, 'v', limit + 1);
    FAILS(TENURE_VALUE_TOO_LARGE, "`len`", tenure_campaign_proclaim(campaign, large, limit + 1, -1, &err));
    FAILS(TENURE_VALUE_TOO_LARGE, "`len`", tenure_campaign_proclaim(campaign, NULL, SIZE_MAX, -1, &err));
    FAILS(TENURE_NULL_POINTER, "`value`", tenure_campaign_proclaim(campaign, NULL, 1, -1, &err));
    WORKS(tenure_campaign_proclaim(campaign, large, limit, -1, &err));
    leader = leader_of(service, "value");
    CHECK(leader->token == token && leader->value_len == limit && memcmp(leader->value, large, limit) == 0);
    tenure_candidate_free(leader);
    CHECK(tenure_campaign_token(campaign) == token);
    free(large);
    tenure_campaign_free(campaign);
    close_and_free(service);
}

static void no_name_is_the_default_election(const char *endpoints) {
    tenure_service *service = open_service(endpoints, NULL);
    tenure_campaign *campaign = lead(service, NULL), *second = NULL;
    FAILS(TENURE_CAMPAIGN_IN_PROGRESS, "",
          tenure_service_campaign(service, "", NULL, NULL, NULL, NULL, &second, &err));
    FAILS(TENURE_CAMPAIGN_IN_PROGRESS, "",
          tenure_service_campaign(service, "default", NULL, NULL, NULL, NULL, &second, &err));
    static const char *const names[] = {NULL, "", "default"};
    for (int i = 0; i < 3; i++) {
        tenure_candidate *leader = leader_of(service, names[i]);
        tenure_candidates *candidates = NULL;
        CHECK(leader->token == tenure_campaign_token(campaign));
        WORKS(tenure_service_candidates(service, names[i], -1, &candidates, &err));
        CHECK(candidates->count == 1);
        tenure_candidate_free(leader);
        tenure_candidates_free(candidates);
    }
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    /* Over, so it may stand again. */
    tenure_campaign_free(campaign);
    tenure_campaign_free(lead(service, "default"));
    close_and_free(service);
}

/* Every call that takes an election's name refuses this one. */
static void refuses_name(tenure_service *service, const char *name, const char *why) {
    tenure_campaign *campaign = NULL;
    tenure_observer *observer = NULL;
    tenure_candidate *leader = NULL;
    tenure_candidates *candidates = NULL;
    FAILS(TENURE_INVALID_NAME, why, tenure_service_campaign(service, name, NULL, NULL, NULL, NULL, &campaign, &err));
    FAILS(TENURE_INVALID_NAME, why, tenure_service_observe(service, name, NULL, NULL, NULL, &observer, &err));
    FAILS(TENURE_INVALID_NAME, why, tenure_service_leader(service, name, -1, &leader, &err));
    FAILS(TENURE_INVALID_NAME, why, tenure_service_candidates(service, name, -1, &candidates, &err));
    CHECK(campaign == NULL && observer == NULL && leader == NULL && candidates == NULL);
}

static void bad_names_and_timeouts_are_refused(const char *endpoints) {
    tenure_service *service = open_service(endpoints, NULL);
    char name[1024 + 2];
    memset(name, 'n', sizeof name);
    name[1025] = '\0';
    refuses_name(service, name, "1024");
    refuses_name(service, "n\xc3(", "byte 1");
    name[1024] = '\0';
    tenure_campaign *campaign = lead(service, name);

    tenure_candidate *leader = (tenure_candidate *)&junk;
    tenure_candidates *candidates = (tenure_candidates *)&junk;
    static const int32_t timeouts[] = {-2, INT32_MIN};
    for (int i = 0; i < 2; i++) {
        FAILS(TENURE_INVALID_ARGUMENT, "`timeout_ms`", tenure_service_leader(service, name, timeouts[i], &leader, &err));
        FAILS(TENURE_INVALID_ARGUMENT, "`timeout_ms`",
              tenure_service_candidates(service, name, timeouts[i], &candidates, &err));
        FAILS(TENURE_INVALID_ARGUMENT, "`timeout_ms`", tenure_campaign_wait_leader(campaign, timeouts[i], &err));
        FAILS(TENURE_INVALID_ARGUMENT, "`timeout_ms`", tenure_campaign_proclaim(campaign, "x", 1, timeouts[i], &err));
        FAILS(TENURE_INVALID_ARGUMENT, "`timeout_ms`", tenure_campaign_resign(campaign, timeouts[i], &err));
        FAILS(TENURE_INVALID_ARGUMENT, "`timeout_ms`", tenure_campaign_resign_leader(campaign, timeouts[i], &err));
        FAILS(TENURE_INVALID_ARGUMENT, "`timeout_ms`", tenure_service_close(service, timeouts[i], &err));
        CHECK(leader == NULL && candidates == NULL);
    }
    CHECK(tenure_campaign_is_leader(campaign));
    close_and_free(service);
    tenure_campaign_free(campaign);
}

static void a_call_that_must_not_wait_answers_pending_and_goes_on(const char *endpoints) {
    tenure_service *service = open_service(endpoints, NULL);
    tenure_campaign *campaign = lead(service, "pending");
    tenure_code code = tenure_campaign_proclaim(campaign, "later", 5, 0, NULL);
    CHECK(code == TENURE_PENDING || code == TENURE_OK);
    tenure_candidate *leader = NULL;
    do {
        tenure_candidate_free(leader);
        leader = leader_of(service, "pending");
    } while (strcmp(leader->value, "later") != 0);
    tenure_candidate_free(leader);

    code = tenure_campaign_resign(campaign, 0, NULL);
    CHECK(code == TENURE_PENDING || code == TENURE_OK);
    check_not_leading(campaign);
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    code = tenure_service_close(service, 0, NULL);
    CHECK(code == TENURE_PENDING || code == TENURE_OK);
    FAILS(TENURE_CLOSED, "", tenure_service_leader(service, "pending", -1, &leader, &err));
    close_and_free(service);
    tenure_campaign_free(campaign);
}

static void options_are_held_against_each_other(const char *endpoints) {
    tenure_service *service = open_service(endpoints, "ttl", "3s", NULL), *none = (tenure_service *)&junk;
    tenure_campaign_options *options = new_campaign_options();
    tenure_campaign *campaign = NULL;
    WORKS(tenure_campaign_options_set(options, "step_down_margin", "2s", &err));
    FAILS(TENURE_INVALID_VALUE, "`step_down_margin`",
          tenure_service_campaign(service, "x", options, NULL, NULL, NULL, &campaign, &err));
    tenure_campaign_options_free(options);
    close_and_free(service);
    tenure_options *neither = new_options();
    WORKS(tenure_options_set(neither, "endpoints", endpoints, &err));
    FAILS(TENURE_INVALID_VALUE, "`service`", tenure_service_open(neither, &none, &err));
    tenure_options_free(neither);
    CHECK(none == NULL && campaign == NULL);
}

int main(void) {
    const char *const stores[] = {"memory://elections", etcd()};
    for (int i = 0; i < 2; i++) {
        RUN(one_candidate_leads_and_resigns(stores[i]));
        RUN(leadership_is_handed_over(stores[i]));
        RUN(values_are_bytes_of_any_kind_up_to_a_mebibyte(stores[i]));
        RUN(no_name_is_the_default_election(stores[i]));
        RUN(bad_names_and_timeouts_are_refused(stores[i]));
        RUN(a_call_that_must_not_wait_answers_pending_and_goes_on(stores[i]));
        RUN(options_are_held_against_each_other(stores[i]));
    }
    puts("ok");
    return 0;
}
