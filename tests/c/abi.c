/*
 * Whatever a C program passes, the library answers a code and changes nothing: NULL, freed, foreign and inherited
 * handles, bad strings, double frees. Needs no etcd. Prints "ok".
 */
#include "testing.h"

static void versions_and_codes(void) {
    CHECK(strcmp(tenure_version_string(), TENURE_VERSION_STRING) == 0);
    CHECK(tenure_version_number() == TENURE_VERSION_NUMBER && tenure_abi_version() == TENURE_ABI_VERSION);
    CHECK(strcmp(tenure_code_name(TENURE_NO_LEADER), "NO_LEADER") == 0);
    CHECK(strcmp(tenure_code_text(TENURE_OK), "success") == 0);
    CHECK(strcmp(tenure_code_name(-5), "UNKNOWN") == 0 && strcmp(tenure_code_name(100000), "UNKNOWN") == 0);
    CHECK(tenure_code_is_retriable(TENURE_TIMEOUT) && !tenure_code_is_retriable(TENURE_TLS));
    CHECK(!tenure_code_is_retriable(INT32_MIN) && tenure_boottime_ns() > 0);
}

static void options_say_what_is_wrong(void) {
    tenure_options *options = new_options();
    WORKS(tenure_options_set(options, "ttl", "5s", &err));
    CHECK(tenure_options_set(options, "ttl", "6s", NULL) == TENURE_OK);
    FAILS(TENURE_UNKNOWN_OPTION, "`tll`", tenure_options_set(options, "tll", "5s", &err));
    FAILS(TENURE_INVALID_VALUE, "`ttl`", tenure_options_set(options, "ttl", "0", &err));
    FAILS(TENURE_NULL_POINTER, "`name`", tenure_options_set(options, NULL, "5s", &err));
    FAILS(TENURE_NULL_POINTER, "`value`", tenure_options_set(options, "ttl", NULL, &err));
    FAILS(TENURE_NULL_POINTER, "`options`", tenure_options_set(NULL, "ttl", "5s", &err));
    FAILS(TENURE_UNKNOWN_OPTION, "`name`", tenure_options_set(options, "\xc3(", "5s", &err));
    FAILS(TENURE_INVALID_VALUE, "byte 2", tenure_options_set(options, "service", "ab\xff", &err));
    FAILS(TENURE_NULL_POINTER, "`out_options`", tenure_options_new(NULL, &err));
    CHECK(tenure_options_new(NULL, NULL) == TENURE_NULL_POINTER);

    size_t too_long = 1024 * 1024 + 1;
    char *text = malloc(too_long + 1);
    CHECK(text != NULL);
    memset(text, 'a', too_long);
    text[too_long] = '\0';
    FAILS(TENURE_INVALID_VALUE, "1 MiB", tenure_options_set(options, "value", text, &err));
    FAILS(TENURE_UNKNOWN_OPTION, "`name`", tenure_options_set(options, text, "x", &err));

    tenure_campaign_options *campaign = new_campaign_options();
    WORKS(tenure_campaign_options_set(campaign, "rejoin", "true", &err));
    WORKS(tenure_campaign_options_set_value(campaign, "a\0b", 3, &err));
    WORKS(tenure_campaign_options_set_value(campaign, NULL, 0, &err));
    WORKS(tenure_campaign_options_set_value(campaign, text, too_long - 1, &err));
    FAILS(TENURE_VALUE_TOO_LARGE, "`len`", tenure_campaign_options_set_value(campaign, text, too_long, &err));
    FAILS(TENURE_VALUE_TOO_LARGE, "`len`", tenure_campaign_options_set_value(campaign, text, SIZE_MAX, &err));
    FAILS(TENURE_NULL_POINTER, "`value`", tenure_campaign_options_set_value(campaign, NULL, 1, &err));
    FAILS(TENURE_UNKNOWN_OPTION, "`ttl`", tenure_campaign_options_set(campaign, "ttl", "5s", &err));
    tenure_campaign_options_free(campaign);
    tenure_options_free(options);
    free(text);
}

static int drops;

static void count_drop(void *user_data) {
    CHECK(user_data == &junk);
    drops++;
}

static void never(void *user_data, const tenure_event *event) {
    (void)user_data;
    (void)event;
    CHECK(!"called without a campaign");
}

/* Every function that takes a handle refuses this one, empties its outputs and drops user_data once. */
static void refused(void *bad, tenure_code code) {
    tenure_service *service = bad;
    tenure_campaign *campaign = bad;
    tenure_observer *observer = bad;
    tenure_campaign *out_campaign = (tenure_campaign *)&junk;
    tenure_observer *out_observer = (tenure_observer *)&junk;
    tenure_service *out_service = (tenure_service *)&junk;
    tenure_candidate *out_leader = (tenure_candidate *)&junk;
    tenure_candidates *out_candidates = (tenure_candidates *)&junk;
    tenure_event *out_event = (tenure_event *)&junk;
    int fd = 7;

    FAILS(code, "`options`", tenure_service_open(bad, &out_service, &err));
    FAILS(code, "`options`", tenure_options_set(bad, "ttl", "5s", &err));
    FAILS(code, "`options`", tenure_campaign_options_set(bad, "rejoin", "true", &err));
    FAILS(code, "`options`", tenure_campaign_options_set_value(bad, "x", 1, &err));
    drops = 0;
    FAILS(code, "`service`", tenure_service_set_log_callback(service, never, &junk, count_drop, &err));
    CHECK(drops == 1);
    FAILS(code, "`service`",
          tenure_service_campaign(service, "e", NULL, never, &junk, count_drop, &out_campaign, &err));
    CHECK(drops == 2);
    FAILS(code, "`service`", tenure_service_observe(service, "e", never, &junk, count_drop, &out_observer, &err));
    CHECK(drops == 3);
    FAILS(TENURE_NULL_POINTER, "`out_campaign`",
          tenure_service_campaign(service, "e", NULL, never, &junk, count_drop, NULL, &err));
    FAILS(TENURE_NULL_POINTER, "`out_observer`",
          tenure_service_observe(service, "e", never, &junk, count_drop, NULL, &err));
    CHECK(drops == 5);
    FAILS(code, "`service`", tenure_service_leader(service, "e", 0, &out_leader, &err));
    FAILS(code, "`service`", tenure_service_candidates(service, "e", 0, &out_candidates, &err));
    FAILS(code, "`service`", tenure_service_next_event(service, -1, &out_event, &err));
    FAILS(code, "`service`", tenure_service_event_fd(service, &fd, &err));
    FAILS(code, "`service`", tenure_service_close(service, -1, &err));
    CHECK(out_service == NULL && out_campaign == NULL && out_observer == NULL && out_leader == NULL);
    CHECK(out_candidates == NULL && out_event == NULL && fd == -1);

    CHECK(!tenure_campaign_is_leader(campaign) && tenure_campaign_remaining_ms(campaign) == 0);
    CHECK(tenure_campaign_token(campaign) == 0 && tenure_campaign_state(campaign) == TENURE_STATE_NONE);
    FAILS(code, "`campaign`", tenure_campaign_wait_leader(campaign, -1, &err));
    FAILS(code, "`campaign`", tenure_campaign_proclaim(campaign, "x", 1, -1, &err));
    FAILS(code, "`campaign`", tenure_campaign_resign(campaign, -1, &err));
    FAILS(code, "`campaign`", tenure_campaign_resign_leader(campaign, -1, &err));
    FAILS(code, "`observer`", tenure_observer_close(observer, &err));
    CHECK(tenure_observer_close(observer, NULL) == code);

    tenure_service_free(service);
    tenure_campaign_free(campaign);
    tenure_observer_free(observer);
    tenure_options_free(bad);
    tenure_campaign_options_free(bad);
    tenure_event_free(bad);
    tenure_candidate_free(bad);
    tenure_candidates_free(bad);
    tenure_error_free(bad);
}

static void bad_handles_are_refused(void) {
    refused(NULL, TENURE_NULL_POINTER);
    refused(&junk, TENURE_INVALID_HANDLE);
    refused((char *)&junk + 1, TENURE_INVALID_HANDLE);
    refused((void *)(uintptr_t)1, TENURE_INVALID_HANDLE);
    refused((void *)UINTPTR_MAX, TENURE_INVALID_HANDLE);

    tenure_options *options = new_options();
    tenure_options_free(options);
    refused(options, TENURE_INVALID_HANDLE);
    tenure_options_free(options);

    tenure_options *next = new_options();
    CHECK(next != options);
    FAILS(TENURE_INVALID_HANDLE, "freed", tenure_options_set(options, "ttl", "5s", &err));
    WORKS(tenure_options_set(next, "ttl", "5s", &err));
    FAILS(TENURE_INVALID_HANDLE, "is a tenure_options, not a tenure_campaign",
          tenure_campaign_resign((tenure_campaign *)(void *)next, 0, &err));
    tenure_campaign_free((tenure_campaign *)(void *)next);
    WORKS(tenure_options_set(next, "ttl", "5s", &err));
    tenure_options_free(next);
}

static void use_own(void *unused) {
    (void)unused;
    tenure_options *own = new_options();
    WORKS(tenure_options_set(own, "ttl", "5s", &err));
    FAILS(TENURE_UNKNOWN_OPTION, "`x`", tenure_options_set(own, "x", "5s", &err));
    tenure_options_free(own);
    refused(own, TENURE_INVALID_HANDLE);
}

static void use_inherited(void *inherited) {
    refused(inherited, TENURE_FORKED);
    use_own(NULL);
    in_child(use_own, NULL);
}

static void a_child_owns_nothing_of_its_parent(void) {
    tenure_options *options = new_options();
    in_child(use_inherited, options);
    WORKS(tenure_options_set(options, "ttl", "5s", &err));
    tenure_options_free(options);
}

static atomic_bool stop;

static void *keep_busy(void *unused) {
    for (; !atomic_load(&stop); let_fork()) {
        tenure_options *options = new_options();
        FAILS(TENURE_UNKNOWN_OPTION, "`x`", tenure_options_set(options, "x", "5s", &err));
        tenure_options_free(options);
    }
    return unused;
}

static void forking_while_threads_hold_locks(void) {
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, keep_busy, NULL) == 0);
    }
    for (int i = 0; i < rounds(100); i++) {
        in_child(use_own, NULL);
    }
    atomic_store(&stop, true);
    for (size_t i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

int main(void) {
    RUN(versions_and_codes());
    RUN(options_say_what_is_wrong());
    RUN(bad_handles_are_refused());
    RUN(a_child_owns_nothing_of_its_parent());
    RUN(forking_while_threads_hold_locks());
    puts("ok");
    return 0;
}
