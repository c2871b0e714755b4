/*
 * A program that loads the library by itself, as a plugin does, and closes it with a service alive: the library stays in
 * memory. The one program of this folder that isn't linked with it. Prints "ok".
 */
#define _GNU_SOURCE
#include "testing.h"

#include <dlfcn.h>

#define LIBRARY "libtenure.so.0"

/* The library's function of this name, with its type. */
#define LOADED(function) ((__typeof__(&function))loaded(#function))

static void *loaded(const char *name) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_NOLOAD), *function;
    CHECK(library != NULL && (function = dlsym(library, name)) != NULL);
    CHECK(dlclose(library) == 0);
    return function;
}

static bool is_loaded(void) {
    void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_NOLOAD);
    return library != NULL && dlclose(library) == 0;
}

static void load_and_close(void) {
    void *library = dlopen(LIBRARY, RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
    }
    CHECK(library != NULL && dlclose(library) == 0);
}

static void before_a_thread_was_started_it_stays_as_well(void) {
    tenure_options *options = NULL;
    CHECK(!is_loaded());
    load_and_close();
    CHECK(is_loaded());
    CHECK(LOADED(tenure_options_new)(&options, NULL) == TENURE_OK);
    LOADED(tenure_options_free)(options);
}

static atomic_int events;
static atomic_bool is_closed;

static void count(void *user_data, const tenure_event *event) {
    CHECK(user_data == &junk);
    atomic_fetch_add(&events, 1);
    atomic_store(&is_closed, event->closed);
}

static void leave(void *unused) {
    (void)unused;
}

/* Fault 32. */
static void a_service_goes_on_after_dlclose(void) {
    tenure_options *options = NULL;
    tenure_service *service = NULL;
    tenure_campaign *campaign = NULL;
    CHECK(LOADED(tenure_options_new)(&options, NULL) == TENURE_OK);
    CHECK(LOADED(tenure_options_set)(options, "endpoints", "memory://unload", NULL) == TENURE_OK);
    CHECK(LOADED(tenure_options_set)(options, "service", "c-tests", NULL) == TENURE_OK);
    CHECK(LOADED(tenure_service_open)(options, &service, NULL) == TENURE_OK);
    LOADED(tenure_options_free)(options);
    load_and_close();
    load_and_close();
    CHECK(LOADED(tenure_service_campaign)(service, NULL, NULL, count, &junk, NULL, &campaign, NULL) == TENURE_OK);
    CHECK(LOADED(tenure_campaign_wait_leader)(campaign, -1, NULL) == TENURE_OK);
    in_child(leave, NULL);
    CHECK(LOADED(tenure_service_close)(service, -1, NULL) == TENURE_OK);
    CHECK(atomic_load(&is_closed) && atomic_load(&events) >= 2);
    LOADED(tenure_campaign_free)(campaign);
    LOADED(tenure_service_free)(service);
}

int main(void) {
    RUN(before_a_thread_was_started_it_stays_as_well());
    RUN(a_service_goes_on_after_dlclose());
    puts("ok");
    return 0;
}
