/*
 * A worker that acts only while it leads: of all workers of one election, one at a time.
 *
 *     worker --endpoints http://127.0.0.1:2379 --service shop --election billing --value alpha
 *     worker --endpoints memory://trial --service shop --for 3      (no server; it elects itself)
 *
 * It prints one line for each thing that happens, `name key=value ...`, times in nanoseconds on CLOCK_BOOTTIME:
 *
 *     event time_ns= sequence= state= reason= token= at_risk= deadline_ns= message=    what the library tells
 *     claim start_ns= end_ns= token=           it has been leading for this long, as seen by asking all the time
 *     resign start_ns= time_ns= code=          an answer to the command `resign`
 *     candidate place= token= value=           answers to the command `candidates`, and then
 *     candidates time_ns= code= count=
 *     campaign time_ns= code=                  an answer to the command `campaign`
 *
 * Commands are lines on stdin: resign, campaign (stand again after resigning), candidates, quit. SIGTERM and SIGINT
 * are as good as quit: it withdraws, so that the next one leads at once, and ends with status 0.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "tenure.h"

/* One line of the claims file. A power of two, so that no line crosses a page: kill -9 can't tear one. */
#define CLAIM_BYTES 64

struct settings {
    tenure_options *options;
    const char *election;
    const char *claims_path;
    int64_t poll_us;
    int64_t for_s; /* 0: until told to end */
};

/* The time for which the worker has been leading, as far as it is proved: from after the first look that said so to
 * before the latest one. */
struct claim {
    int64_t token; /* 0: none */
    int64_t start_ns;
    int64_t end_ns;
};

struct worker {
    tenure_service *service;
    const char *election;
    int64_t poll_us;
    int claims_fd; /* -1: none */

    pthread_mutex_t lock; /* for the fields below */
    tenure_campaign *campaign;
    bool stop;
};

/* Prints a line by one write, so that lines of several threads don't mix and none is lost in a buffer. */
static void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void say(const char *format, ...)
{
    char line[4096]; /* PIPE_BUF: so much is written to a pipe in one piece */
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(line, sizeof line - 1, format, arguments);
    va_end(arguments);
    if (length < 0) {
        perror("worker: vsnprintf");
        exit(EXIT_FAILURE);
    }
    if ((size_t)length > sizeof line - 2)
        length = sizeof line - 2;
    for (int i = 0; i < length; i++) {
        if ((unsigned char)line[i] < ' ')
            line[i] = ' '; /* a value may hold anything; a line is a line */
    }
    line[length++] = '\n';
    for (int done = 0; done < length;) {
        ssize_t written = write(STDOUT_FILENO, line + done, (size_t)(length - done));
        if (written < 0) {
            perror("worker: stdout");
            _exit(EXIT_FAILURE);
        }
        done += (int)written;
    }
}

static void complain(const char *what, tenure_code code, tenure_error *error)
{
    fprintf(stderr, "worker: %s: %s: %s\n", what, tenure_code_name(code),
            error ? error->message : tenure_code_text(code));
    tenure_error_free(error);
}

static const char *state_name(tenure_state state)
{
    switch (state) {
    case TENURE_STATE_FOLLOWER: return "FOLLOWER";
    case TENURE_STATE_LEADER: return "LEADER";
    case TENURE_STATE_ERROR: return "ERROR";
    case TENURE_STATE_CLOSED: return "CLOSED";
    default: return "UNKNOWN";
    }
}

/* Runs on the library's callback thread. */
static void on_event(void *user_data, const tenure_event *event)
{
    (void)user_data;
    int64_t now_ns = tenure_boottime_ns();
    if (event->kind != TENURE_EVENT_CAMPAIGN)
        return;
    say("event time_ns=%" PRId64 " sequence=%" PRIu64 " state=%s reason=%s token=%" PRId64
        " at_risk=%d deadline_ns=%" PRId64 " message=%s",
        now_ns, event->sequence, state_name(event->state), event->reason_name, event->token, event->at_risk,
        event->deadline_ns, event->message);
}

static tenure_code campaign(struct worker *worker, tenure_error **error)
{
    tenure_campaign_options *options = NULL;
    tenure_campaign *campaign = NULL;
    tenure_code code = tenure_campaign_options_new(&options, error);
    if (code == TENURE_OK)
        code = tenure_campaign_options_set(options, "rejoin", "true", error);
    if (code == TENURE_OK)
        code = tenure_campaign_options_set(options, "at_risk", "true", error);
    if (code == TENURE_OK)
        code = tenure_service_campaign(worker->service, worker->election, options, on_event, NULL, NULL, &campaign,
                                       error);
    tenure_campaign_options_free(options);
    if (code != TENURE_OK)
        return code;

    pthread_mutex_lock(&worker->lock);
    tenure_campaign *former = worker->campaign;
    worker->campaign = campaign;
    pthread_mutex_unlock(&worker->lock);
    tenure_campaign_free(former);
    return TENURE_OK;
}

/* Keeps the claim where it outlives this process, however it ends. */
static void store_claim(const struct worker *worker, int number, const struct claim *claim)
{
    char line[CLAIM_BYTES + 1];
    if (worker->claims_fd < 0)
        return;
    snprintf(line, sizeof line, "%20" PRId64 " %20" PRId64 " %21" PRId64 "\n", claim->start_ns, claim->end_ns,
             claim->token);
    if (pwrite(worker->claims_fd, line, CLAIM_BYTES, (off_t)number * CLAIM_BYTES) != CLAIM_BYTES) {
        perror("worker: claims file");
        exit(EXIT_FAILURE);
    }
}

static void say_claim(const struct claim *claim)
{
    say("claim start_ns=%" PRId64 " end_ns=%" PRId64 " token=%" PRId64, claim->start_ns, claim->end_ns, claim->token);
}

/* The work: asks before every step whether it leads, and takes that step, which is to note that it may, only then. */
static void *work(void *argument)
{
    struct worker *worker = argument;
    const struct timespec pause = { worker->poll_us / 1000000, worker->poll_us % 1000000 * 1000 };
    struct claim claim = { 0, 0, 0 };
    int number = -1;

    for (;;) {
        pthread_mutex_lock(&worker->lock);
        const tenure_campaign *campaign = worker->campaign;
        bool stop = worker->stop;
        pthread_mutex_unlock(&worker->lock);

        int64_t before_ns = tenure_boottime_ns();
        int64_t token = tenure_campaign_is_leader(campaign) ? tenure_campaign_token(campaign) : 0;
        int64_t after_ns = tenure_boottime_ns();

        if (token != claim.token) {
            if (claim.token != 0)
                say_claim(&claim);
            claim.token = token;
            claim.start_ns = claim.end_ns = after_ns;
            if (token != 0) {
                say_claim(&claim);
                store_claim(worker, ++number, &claim);
            }
        } else if (token != 0 && before_ns > claim.end_ns) {
            claim.end_ns = before_ns;
            store_claim(worker, number, &claim);
        }
        if (stop)
            return NULL;
        clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, NULL);
    }
}

static void print_candidates(struct worker *worker)
{
    tenure_candidates *candidates = NULL;
    tenure_error *error = NULL;
    tenure_code code = tenure_service_candidates(worker->service, worker->election, -1, &candidates, &error);
    if (code != TENURE_OK)
        complain("candidates", code, error);
    size_t count = candidates ? candidates->count : 0;
    for (size_t i = 0; i < count; i++) {
        const tenure_candidate *candidate = candidates->items[i];
        say("candidate place=%zu token=%" PRId64 " value=%s", i + 1, candidate->token, candidate->value);
    }
    say("candidates time_ns=%" PRId64 " code=%s count=%zu", tenure_boottime_ns(), tenure_code_name(code), count);
    tenure_candidates_free(candidates);
}

/* False: to quit. */
static bool obey(struct worker *worker, const char *command)
{
    tenure_error *error = NULL;
    if (strcmp(command, "resign") == 0) {
        int64_t start_ns = tenure_boottime_ns();
        tenure_code code = tenure_campaign_resign(worker->campaign, -1, &error);
        if (code != TENURE_OK)
            complain("resign", code, error);
        say("resign start_ns=%" PRId64 " time_ns=%" PRId64 " code=%s", start_ns, tenure_boottime_ns(),
            tenure_code_name(code));
    } else if (strcmp(command, "campaign") == 0) {
        tenure_code code = campaign(worker, &error);
        if (code != TENURE_OK)
            complain("campaign", code, error);
        say("campaign time_ns=%" PRId64 " code=%s", tenure_boottime_ns(), tenure_code_name(code));
    } else if (strcmp(command, "candidates") == 0) {
        print_candidates(worker);
    } else if (strcmp(command, "quit") == 0) {
        return false;
    } else if (*command != '\0') {
        fprintf(stderr, "worker: unknown command `%s`; there are resign, campaign, candidates and quit\n", command);
    }
    return true;
}

/* Obeys the whole lines that stdin has. False: to quit. */
static bool read_commands(struct worker *worker, struct pollfd *input)
{
    static char text[256];
    static size_t length;
    ssize_t got = read(input->fd, text + length, sizeof text - 1 - length);
    if (got < 0 && errno != EINTR && errno != EAGAIN)
        perror("worker: stdin");
    if (got <= 0) {
        if (got == 0 || (errno != EINTR && errno != EAGAIN))
            input->fd = -1; /* a worker without commands goes on working */
        return true;
    }
    length += (size_t)got;
    text[length] = '\0';
    char *line = text;
    for (char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        *end = '\0';
        if (!obey(worker, line))
            return false;
    }
    length = strlen(line);
    memmove(text, line, length + 1);
    if (length == sizeof text - 1)
        length = 0; /* no command is so long */
    return true;
}

/* Until a command, a signal or the time says that it is enough. */
static int run(struct worker *worker, int signals_fd, int64_t for_s)
{
    struct pollfd inputs[2] = { { STDIN_FILENO, POLLIN, 0 }, { signals_fd, POLLIN, 0 } };
    int64_t end_ns = tenure_boottime_ns() + for_s * 1000000000;
    for (;;) {
        int timeout_ms = -1;
        if (for_s > 0) {
            int64_t left_ms = (end_ns - tenure_boottime_ns() + 999999) / 1000000;
            if (left_ms <= 0)
                return 0;
            timeout_ms = left_ms < 60000 ? (int)left_ms : 60000;
        }
        if (poll(inputs, 2, timeout_ms) < 0 && errno != EINTR) {
            perror("worker: poll");
            return -1;
        }
        if (inputs[1].revents != 0)
            return 0;
        if (inputs[0].revents != 0 && !read_commands(worker, &inputs[0]))
            return 0;
        inputs[0].revents = 0;
    }
}

/* From an open service to a closed one. */
static int serve(struct worker *worker, const struct settings *settings, int signals_fd)
{
    pthread_t thread;
    tenure_error *error = NULL;
    tenure_code code = campaign(worker, &error);
    if (code != TENURE_OK) {
        complain("campaign", code, error);
        return -1;
    }
    int failure = pthread_create(&thread, NULL, work, worker);
    if (failure != 0) {
        fprintf(stderr, "worker: pthread_create: %s\n", strerror(failure));
        return -1;
    }

    int result = run(worker, signals_fd, settings->for_s);
    /* Withdraws, so that the others don't have to wait until the lease is over. */
    code = tenure_service_close(worker->service, -1, &error);
    if (code != TENURE_OK) {
        complain("close", code, error);
        result = -1;
    }

    pthread_mutex_lock(&worker->lock);
    worker->stop = true;
    pthread_mutex_unlock(&worker->lock);
    failure = pthread_join(thread, NULL);
    if (failure != 0) {
        fprintf(stderr, "worker: pthread_join: %s\n", strerror(failure));
        result = -1;
    }
    return result;
}

/* A descriptor for the signals that end the worker. Blocked before there is any thread, so that all block them. */
static int catch_signals(void)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    int failure = pthread_sigmask(SIG_BLOCK, &signals, NULL);
    if (failure != 0) {
        errno = failure;
        return -1;
    }
    return signalfd(-1, &signals, SFD_CLOEXEC);
}

static int usage(void)
{
    fputs("usage: worker [--endpoints URLS] [--service NAME] [--election NAME] [--value TEXT] [--ttl 10s]\n"
          "              [--option NAME=VALUE]... [--claims FILE] [--poll-us N] [--for SECONDS]\n"
          "--option sets any other option of the service, see docs/options.md.\n",
          stderr);
    return -1;
}

static int set_option(tenure_options *options, const char *name, const char *value)
{
    tenure_error *error = NULL;
    tenure_code code = tenure_options_set(options, name, value, &error);
    if (code != TENURE_OK) {
        complain("options", code, error);
        return -1;
    }
    return 0;
}

static int set_named_option(tenure_options *options, char *assignment)
{
    char *equals = strchr(assignment, '=');
    if (equals == NULL)
        return usage();
    *equals = '\0';
    return set_option(options, assignment, equals + 1);
}

static int set_number(int64_t *number, const char *text, int64_t lowest, int64_t highest)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < lowest || value > highest) {
        fprintf(stderr, "worker: `%s` is not a number from %" PRId64 " to %" PRId64 "\n", text, lowest, highest);
        return -1;
    }
    *number = value;
    return 0;
}

static int parse(int argc, char **argv, struct settings *settings)
{
    static const struct option known[] = {
        { "endpoints", required_argument, NULL, 'e' }, { "service", required_argument, NULL, 's' },
        { "election", required_argument, NULL, 'l' },  { "value", required_argument, NULL, 'v' },
        { "ttl", required_argument, NULL, 't' },       { "option", required_argument, NULL, 'o' },
        { "claims", required_argument, NULL, 'c' },    { "poll-us", required_argument, NULL, 'p' },
        { "for", required_argument, NULL, 'f' },       { NULL, 0, NULL, 0 },
    };
    int letter, place, result = set_option(settings->options, "service", "worker");
    while (result == 0 && (letter = getopt_long(argc, argv, "", known, &place)) != -1) {
        switch (letter) {
        case 'e': case 's': case 'v': case 't':
            result = set_option(settings->options, known[place].name, optarg);
            break;
        case 'o': result = set_named_option(settings->options, optarg); break;
        case 'l': settings->election = optarg; break;
        case 'c': settings->claims_path = optarg; break;
        case 'p': result = set_number(&settings->poll_us, optarg, 1, 1000000000); break;
        case 'f': result = set_number(&settings->for_s, optarg, 1, 1000000000); break;
        default: return usage();
        }
    }
    return result == 0 && optind < argc ? usage() : result;
}

int main(int argc, char **argv)
{
    struct settings settings = { NULL, NULL, NULL, 200, 0 };
    struct worker worker = { NULL, NULL, 0, -1, PTHREAD_MUTEX_INITIALIZER, NULL, false };
    tenure_error *error = NULL;
    int signals_fd = -1, result = -1;

    tenure_code code = tenure_options_new(&settings.options, &error);
    if (code != TENURE_OK) {
        complain("options", code, error);
        goto end;
    }
    if (parse(argc, argv, &settings) != 0)
        goto end;
    worker.election = settings.election;
    worker.poll_us = settings.poll_us;
    if (settings.claims_path != NULL) {
        worker.claims_fd = open(settings.claims_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (worker.claims_fd < 0) {
            fprintf(stderr, "worker: %s: %s\n", settings.claims_path, strerror(errno));
            goto end;
        }
    }
    signals_fd = catch_signals();
    if (signals_fd < 0) {
        perror("worker: signals");
        goto end;
    }
    code = tenure_service_open(settings.options, &worker.service, &error);
    if (code != TENURE_OK) {
        complain("open", code, error);
        goto end;
    }
    result = serve(&worker, &settings, signals_fd);

end:
    tenure_campaign_free(worker.campaign);
    tenure_service_free(worker.service);
    tenure_options_free(settings.options);
    if (signals_fd >= 0)
        close(signals_fd);
    if (worker.claims_fd >= 0 && close(worker.claims_fd) != 0) {
        perror("worker: claims file");
        result = -1;
    }
    return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
