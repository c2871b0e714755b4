/*
 * Tells who leads an election, without taking part.
 *
 *     observer http://127.0.0.1:2379 worker billing       until SIGINT or SIGTERM
 *     observer http://127.0.0.1:2379 worker billing 3     for 3 seconds
 *
 * It prints a line whenever that changes, beginning with how it is:
 *
 *     nobody leads
 *     alpha leads, token 12
 *     alpha leads, token 12, as far as known: REASON      etcd is out of reach; it may be another by now
 *     closed
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tenure.h"

static int complain(const char *what, tenure_code code, tenure_error *error)
{
    fprintf(stderr, "observer: %s: %s: %s\n", what, tenure_code_name(code),
            error ? error->message : tenure_code_text(code));
    tenure_error_free(error);
    return -1;
}

/* A value is bytes; on the screen it is text, and on one line. */
static void print_value(const char *value, size_t length)
{
    for (size_t i = 0; i < length; i++)
        putchar((unsigned char)value[i] < ' ' ? ' ' : value[i]);
}

/* Runs on the library's callback thread. Each event is the whole state, so one that was missed is no loss. */
static void on_event(void *user_data, const tenure_event *event)
{
    (void)user_data;
    if (event->kind != TENURE_EVENT_OBSERVER)
        return;
    if (event->closed) {
        puts("closed");
        return;
    }
    if (event->has_leader) {
        print_value(event->value, event->value_len);
        printf(" leads, token %" PRId64, event->token);
    } else {
        fputs("nobody leads", stdout);
    }
    if (!event->connected)
        printf(", as far as known: %s", event->message);
    putchar('\n');
}

static int open_service(const char *endpoints, const char *service, tenure_service **out_service)
{
    const char *const settings[][2] = {
        { "endpoints", endpoints }, { "service", service }, { "open_offline", "true" }, /* it has time */
    };
    tenure_options *options = NULL;
    tenure_error *error = NULL;
    tenure_code code = tenure_options_new(&options, &error);
    for (size_t i = 0; code == TENURE_OK && i < sizeof settings / sizeof *settings; i++)
        code = tenure_options_set(options, settings[i][0], settings[i][1], &error);
    if (code == TENURE_OK)
        code = tenure_service_open(options, out_service, &error);
    tenure_options_free(options);
    return code == TENURE_OK ? 0 : complain("open", code, error);
}

/* Until a signal ends it, or the time is over. */
static int wait_for_the_end(const sigset_t *signals, long seconds)
{
    const struct timespec length = { seconds, 0 };
    int number;
    do
        number = sigtimedwait(signals, NULL, seconds > 0 ? &length : NULL);
    while (number < 0 && seconds == 0); /* interrupted */
    return 0;
}

int main(int argc, char **argv)
{
    tenure_service *service = NULL;
    tenure_observer *observer = NULL;
    tenure_error *error = NULL;
    sigset_t signals;
    char *end = NULL;
    long seconds = argc == 5 ? strtol(argv[4], &end, 10) : 0;
    if (argc < 4 || argc > 5 || (argc == 5 && (*end != '\0' || seconds < 1 || seconds > 1000000))) {
        fputs("usage: observer ENDPOINTS SERVICE ELECTION [SECONDS]\n", stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);

    /* Before there are threads, so that none of them is interrupted by these signals. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    int failure = pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (failure != 0) {
        fprintf(stderr, "observer: pthread_sigmask: %s\n", strerror(failure));
        return EXIT_FAILURE;
    }

    int result = open_service(argv[1], argv[2], &service);
    if (result == 0) {
        tenure_code code = tenure_service_observe(service, argv[3], on_event, NULL, NULL, &observer, &error);
        result = code == TENURE_OK ? wait_for_the_end(&signals, seconds) : complain("observe", code, error);
        /* After this no callback runs any more. */
        error = NULL;
        code = tenure_service_close(service, -1, &error);
        if (code != TENURE_OK)
            result = complain("close", code, error);
    }
    tenure_observer_free(observer);
    tenure_service_free(service);
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
