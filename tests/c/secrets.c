/*
 * A password is in nothing that the library says: not in its log, its events or its errors. On any store: the variable
 * ETCD_ENDPOINTS names an etcd that asks for no user, and is not told the password's fate. Prints "ok".
 */
#include "testing.h"

#define PASSWORD "open-sesame-71"

static atomic_int looked_at;

static void look(const char *text) {
    if (text != NULL) {
        atomic_fetch_add(&looked_at, 1);
        CHECK(strstr(text, "sesame") == NULL);
    }
}

static void look_at_event(struct recorder *recorder, const tenure_event *event) {
    (void)recorder;
    look(event->message);
    look(event->reason_name);
    look(event->election);
    look(event->value);
}

static void look_at_error(tenure_code code, tenure_error *err) {
    CHECK(code != TENURE_OK && err != NULL);
    look(err->message);
    look(err->name);
    tenure_error_free(err);
}

static void errors_hold_no_password(void) {
    static const char *const settings[][2] = {
        {"passwrod", PASSWORD},
        {"PASSWORD", PASSWORD},
        {"endpoints", "http://ann:" PASSWORD "@127.0.0.1:2379"},
        {"endpoints", "ftp://ann:" PASSWORD "@127.0.0.1"},
        {"password", PASSWORD "\xff"},
    };
    tenure_options *options;
    tenure_service *service;
    tenure_code code;
    tenure_error *err = NULL;
    WORKS(tenure_options_new(&options, &err));
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        code = tenure_options_set(options, settings[i][0], settings[i][1], &err);
        look_at_error(code, err);
    }
    WORKS(tenure_options_set(options, "service", "secrets", &err));
    WORKS(tenure_options_set(options, "password", PASSWORD, &err));
    code = tenure_service_open(options, &service, &err);
    look_at_error(code, err);
    WORKS(tenure_options_set(options, "username", "ann", &err));
    WORKS(tenure_options_set(options, "endpoints", "http://127.0.0.1:1", &err));
    WORKS(tenure_options_set(options, "dial_timeout", "50ms", &err));
    code = tenure_service_open(options, &service, &err);
    look_at_error(code, err);
    tenure_options_free(options);
}

static void events_and_log_hold_no_password(void) {
    const char *endpoints = getenv("ETCD_ENDPOINTS");
    struct recorder log = RECORDER, recorder = RECORDER;
    tenure_service *service;
    tenure_campaign *campaign;
    CHECK(endpoints != NULL);
    service = open_service(endpoints, "log_level", "debug", "username", "ann", "password", PASSWORD, NULL);
    log.also = recorder.also = look_at_event;
    WORKS(tenure_service_set_log_callback(service, record, &log, record_drop, &err));
    campaign = campaign_in(service, "secret", &recorder);
    WAIT_FOR(&recorder, recorder.seen[TENURE_STATE_LEADER] == 1);
    WORKS(tenure_service_close(service, -1, &err));
    CHECK(log.events > 0 && recorder.events > 0);
    tenure_campaign_free(campaign);
    tenure_service_free(service);
}

int main(void) {
    RUN(errors_hold_no_password());
    RUN(events_and_log_hold_no_password());
    CHECK(atomic_load(&looked_at) > 10);
    puts("ok");
    return 0;
}
