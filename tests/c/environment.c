/*
 * The library never looks at the program's environment by itself: a thread of the program may be changing it, and in C
 * that is a race. The getenv() of this program stands in for the C library's. Prints "ok".
 */
#define _GNU_SOURCE
#include "testing.h"

#include <dlfcn.h>

extern char **environ;

static atomic_bool is_watched;

char *getenv(const char *name) {
    size_t length = strlen(name);
    if (atomic_load(&is_watched)) {
        fprintf(stderr, "the library asked for %s\n", name);
        _exit(1);
    }
    for (char **entry = environ; *entry != NULL; entry++) {
        if (strncmp(*entry, name, length) == 0 && (*entry)[length] == '=') {
            return *entry + length + 1;
        }
    }
    return NULL;
}

static void nothing_is_asked_of_the_environment(const char *endpoints) {
    atomic_store(&is_watched, true);
    tenure_service *service = open_service(endpoints, NULL);
    struct recorder recorder = RECORDER;
    tenure_campaign *campaign = campaign_in(service, "environment", &recorder);
    WORKS(tenure_campaign_wait_leader(campaign, -1, &err));
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    tenure_campaign_free(campaign);
    close_and_free(service);
    WAIT_FOR(&recorder, recorder.drops == 1);
    atomic_store(&is_watched, false);
}

int main(void) {
    char by_number[256], by_name[256];
    snprintf(by_number, sizeof by_number, "%s", etcd());
    const char *port = strrchr(by_number, ':');
    snprintf(by_name, sizeof by_name, "http://localhost%s", port);
    /* Whoever asks asks this program. */
    CHECK(dlsym(RTLD_DEFAULT, "getenv") == (void *)getenv);
    RUN(nothing_is_asked_of_the_environment("memory://environment"));
    RUN(nothing_is_asked_of_the_environment(by_number));
    RUN(nothing_is_asked_of_the_environment(by_name));
    puts("ok");
    return 0;
}
