/*
 * The library and the host's signals: its threads block them all, it installs no handler, and a connection that is cut
 * kills no program that leaves SIGPIPE as it is. Etcd is reached through a proxy in this program, which cuts. Prints
 * "ok".
 */
#define _GNU_SOURCE
#include "testing.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

/* A proxy: one thread, which copies bytes both ways. */
enum { PAIRS = 32, SIDES = 2 };

static struct {
    pthread_t thread;
    atomic_int id; /* the kernel's */
    int listener;
    uint16_t server_port;
    int sockets[PAIRS][SIDES]; /* the program's and the server's; 0 where there is none */
    char endpoint[64];
    atomic_bool is_dead; /* new connections are cut at once */
    atomic_int cuts;     /* asked for */
    atomic_int cut;      /* done */
    atomic_bool stop;
} proxy;

static struct sockaddr_in loopback(uint16_t port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
}

/* Ends the connection, and resets it at once: who hasn't read the end yet and writes gets SIGPIPE. */
static void reset(int *pair) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    for (int side = 0; side < SIDES; side++) {
        if (pair[side] != 0) {
            CHECK(setsockopt(pair[side], SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
            (void)shutdown(pair[side], SHUT_WR);
            CHECK(close(pair[side]) == 0);
            pair[side] = 0;
        }
    }
}

static void accept_one(void) {
    struct sockaddr_in server = loopback(proxy.server_port);
    int accepted = accept4(proxy.listener, NULL, NULL, SOCK_CLOEXEC);
    if (accepted < 0) {
        return;
    }
    for (int pair = 0; pair < PAIRS; pair++) {
        int *sockets = proxy.sockets[pair];
        if (sockets[0] == 0) {
            sockets[0] = accepted;
            sockets[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            CHECK(sockets[1] > 0);
            if (atomic_load(&proxy.is_dead) || connect(sockets[1], (struct sockaddr *)&server, sizeof server) != 0) {
                reset(sockets);
            }
            return;
        }
    }
    CHECK(!"more connections than this proxy has room for");
}

/* Copies what has come from one side; false when that is over. */
static bool copy(int from, int to) {
    char bytes[16384];
    ssize_t count = recv(from, bytes, sizeof bytes, 0);
    for (ssize_t sent = 0; sent < count;) {
        ssize_t more = send(to, bytes + sent, (size_t)(count - sent), MSG_NOSIGNAL);
        if (more <= 0) {
            return false;
        }
        sent += more;
    }
    return count > 0;
}

static void *run_proxy(void *unused) {
    atomic_store(&proxy.id, gettid());
    while (!atomic_load(&proxy.stop)) {
        struct pollfd polled[1 + PAIRS * SIDES] = {{.fd = proxy.listener, .events = POLLIN}};
        int cuts = atomic_load(&proxy.cuts);
        for (int i = 0; i < PAIRS; i++) {
            if (cuts != atomic_load(&proxy.cut)) {
                reset(proxy.sockets[i]);
            }
            for (int side = 0; side < SIDES; side++) {
                int fd = proxy.sockets[i][side];
                polled[1 + i * SIDES + side] = (struct pollfd){.fd = fd > 0 ? fd : -1, .events = POLLIN};
            }
        }
        atomic_store(&proxy.cut, cuts);
        CHECK(poll(polled, 1 + PAIRS * SIDES, 5) >= 0);
        for (int i = 0; i < PAIRS; i++) {
            int *pair = proxy.sockets[i];
            for (int side = 0; side < SIDES; side++) {
                if (pair[0] != 0 && polled[1 + i * SIDES + side].revents != 0 && !copy(pair[side], pair[1 - side])) {
                    reset(pair);
                }
            }
        }
        if (polled[0].revents != 0) {
            accept_one();
        }
    }
    for (int i = 0; i < PAIRS; i++) {
        reset(proxy.sockets[i]);
    }
    return unused;
}

static void start_proxy(void) {
    struct sockaddr_in address = loopback(0);
    socklen_t size = sizeof address;
    const char *port = strrchr(etcd(), ':');
    CHECK(port != NULL);
    proxy.server_port = (uint16_t)atoi(port + 1);
    proxy.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(proxy.listener >= 0 && bind(proxy.listener, (struct sockaddr *)&address, size) == 0);
    CHECK(listen(proxy.listener, 64) == 0);
    CHECK(getsockname(proxy.listener, (struct sockaddr *)&address, &size) == 0);
    snprintf(proxy.endpoint, sizeof proxy.endpoint, "http://127.0.0.1:%d", ntohs(address.sin_port));
    CHECK(pthread_create(&proxy.thread, NULL, run_proxy, NULL) == 0);
    while (atomic_load(&proxy.id) == 0) {
        sched_yield();
    }
}

static void stop_proxy(void) {
    atomic_store(&proxy.stop, true);
    CHECK(pthread_join(proxy.thread, NULL) == 0 && close(proxy.listener) == 0);
}

/* Cuts all connections, and returns when they are cut. */
static void cut(void) {
    int wanted = atomic_fetch_add(&proxy.cuts, 1) + 1;
    while (atomic_load(&proxy.cut) != wanted) {
        sched_yield();
    }
}

static atomic_bool over;
static atomic_int asked;

static void *keep_asking(void *service) {
    while (!atomic_load(&over)) {
        tenure_candidate *leader = NULL;
        tenure_code code = tenure_service_leader(service, "cut", -1, &leader, NULL);
        CHECK(code == TENURE_OK || code == TENURE_UNAVAILABLE || code == TENURE_TIMEOUT);
        tenure_candidate_free(leader);
        atomic_fetch_add(&asked, 1);
    }
    return NULL;
}

static void connections_that_are_cut_kill_nobody(void) {
    struct sigaction action;
    pthread_t threads[3];
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    tenure_service *service = open_service(proxy.endpoint, "ttl", "30s", NULL);
    tenure_campaign *campaign = lead(service, "cut");
    int64_t token = tenure_campaign_token(campaign);
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, keep_asking, service) == 0);
    }
    for (int i = 0; i < rounds(40); i++) {
        int before = atomic_load(&asked);
        cut();
        while (atomic_load(&asked) < before + 6) {
            usleep(200);
        }
    }
    atomic_store(&over, true);
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    CHECK(tenure_campaign_is_leader(campaign) && tenure_campaign_token(campaign) == token);
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    close_and_free(service);
    tenure_campaign_free(campaign);
}

static void what_cannot_be_confirmed_is_pending_until_it_can(void) {
    tenure_service *service = open_service(proxy.endpoint, "ttl", "30s", NULL);
    tenure_campaign *campaign = lead(service, "dead");
    tenure_candidate *leader = NULL;
    atomic_store(&proxy.is_dead, true);
    cut();
    FAILS(TENURE_PENDING, "", tenure_campaign_proclaim(campaign, "x", 1, 200, &err));
    CHECK(tenure_campaign_is_leader(campaign));
    FAILS(TENURE_PENDING, "", tenure_campaign_resign_leader(campaign, 200, &err));
    CHECK(!tenure_campaign_is_leader(campaign) && tenure_campaign_token(campaign) == 0);
    FAILS(TENURE_PENDING, "", tenure_campaign_resign(campaign, 0, &err));
    FAILS(TENURE_PENDING, "etcd", tenure_service_close(service, 200, &err));
    FAILS(TENURE_CLOSED, "", tenure_service_leader(service, "dead", -1, &leader, &err));
    atomic_store(&proxy.is_dead, false);
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    close_and_free(service);
    tenure_campaign_free(campaign);
}

static void opening_says_why_etcd_cannot_be_reached(void) {
    tenure_options *options = new_options();
    tenure_service *service = (tenure_service *)&junk;
    WORKS(tenure_options_set(options, "service", "c-tests", &err));
    WORKS(tenure_options_set(options, "endpoints", proxy.endpoint, &err));
    WORKS(tenure_options_set(options, "dial_timeout", "500ms", &err));
    atomic_store(&proxy.is_dead, true);
    FAILS(TENURE_UNAVAILABLE, proxy.endpoint, tenure_service_open(options, &service, &err));
    CHECK(service == NULL);
    WORKS(tenure_options_set(options, "open_offline", "true", &err));
    WORKS(tenure_service_open(options, &service, &err));
    atomic_store(&proxy.is_dead, false);
    tenure_campaign_free(lead(service, "offline"));
    WORKS(tenure_service_close(service, 60000, &err));
    tenure_service_free(service);
    tenure_options_free(options);
}

/* The line of a thread's status that starts like this; empty if the thread has gone. */
static void status_of(const char *thread, const char *start, char *text, size_t size) {
    char path[300], line[256];
    *text = '\0';
    snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    FILE *file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, start, strlen(start)) == 0) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(text, size, "%.60s", line + strlen(start) + 1);
        }
    }
    CHECK(file == NULL || fclose(file) == 0);
}

/* Checks all threads but the host's; whether one of each kind was among them, with its name. */
static bool blocked_in_both_kinds(void) {
    /* The kernel lets nobody block two of them, and libc keeps two for itself. */
    const uint64_t blockable = ~(1ull << (SIGKILL - 1) | 1ull << (SIGSTOP - 1) | 1ull << 31 | 1ull << 32);
    DIR *threads = opendir("/proc/self/task");
    bool has_engine = false, has_callbacks = false;
    CHECK(threads != NULL);
    for (struct dirent *thread; (thread = readdir(threads)) != NULL;) {
        char name[64], mask[64];
        int id = atoi(thread->d_name);
        status_of(thread->d_name, "Name:", name, sizeof name);
        status_of(thread->d_name, "SigBlk:", mask, sizeof mask);
        if (!isdigit((unsigned char)thread->d_name[0]) || id == getpid() || id == atomic_load(&proxy.id) || !*mask) {
            continue;
        }
        /* Valgrind keeps the program's masks to itself; events.c asks for them from within. */
        CHECK(RUNNING_ON_VALGRIND || (strtoull(mask, NULL, 16) & blockable) == blockable);
        has_engine = has_engine || strcmp(name, "tenure") == 0;
        has_callbacks = has_callbacks || strcmp(name, "tenure-events") == 0;
    }
    CHECK(closedir(threads) == 0);
    return has_engine && has_callbacks;
}

static void the_librarys_threads_block_all_signals(void) {
    tenure_service *service = open_service("memory://blocked", NULL);
    /* A thread names itself when it runs. */
    while (!blocked_in_both_kinds()) {
        usleep(1000);
    }
    close_and_free(service);
}

static atomic_int handled;
static pthread_t handler_thread;

static void handle(int number) {
    (void)number;
    CHECK(pthread_equal(pthread_self(), handler_thread));
    atomic_fetch_add(&handled, 1);
}

static void *be_signalled(void *mask) {
    CHECK(pthread_sigmask(SIG_UNBLOCK, mask, NULL) == 0);
    while (!atomic_load(&over)) {
        usleep(1000);
    }
    return NULL;
}

/* Blocked in all of the host's threads but one, and the library has threads of two kinds. */
static void the_hosts_signals_go_to_the_hosts_threads(void) {
    struct sigaction action = {.sa_handler = handle};
    sigset_t signals;
    atomic_store(&over, false);
    CHECK(sigemptyset(&signals) == 0 && sigaddset(&signals, SIGUSR1) == 0 && sigaddset(&signals, SIGTERM) == 0);
    tenure_service *service = open_service("memory://signalled", NULL);
    CHECK(pthread_sigmask(SIG_BLOCK, &signals, NULL) == 0);
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && sigaction(SIGTERM, &action, NULL) == 0);
    CHECK(pthread_create(&handler_thread, NULL, be_signalled, &signals) == 0);
    for (int i = 0; i < rounds(100); i++) {
        CHECK(kill(getpid(), i % 2 == 0 ? SIGUSR1 : SIGTERM) == 0);
        while (atomic_load(&handled) <= i) {
            usleep(100);
        }
    }
    atomic_store(&over, true);
    CHECK(pthread_join(handler_thread, NULL) == 0);
    close_and_free(service);
}

static void no_handler_is_installed_and_no_mask_changed(const struct sigaction *before, const sigset_t *mask) {
    sigset_t now;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &now) == 0);
    for (int number = 1; number <= SIGRTMAX; number++) {
        struct sigaction action;
        if ((number > SIGSYS && number < SIGRTMIN) || number == SIGALRM) {
            continue; /* libc's own; and the watchdog's */
        }
        CHECK(sigaction(number, NULL, &action) == 0);
        CHECK(action.sa_handler == before[number].sa_handler && action.sa_flags == before[number].sa_flags);
        CHECK(sigismember(&now, number) == sigismember(mask, number));
    }
}

static void use_the_library(void) {
    tenure_service *service = open_service(proxy.endpoint, NULL);
    tenure_campaign_free(lead(service, "handlers"));
    close_and_free(service);
    tenure_service_free(open_service("memory://handlers", "events", "pull", NULL));
}

int main(void) {
    struct sigaction before[65];
    sigset_t mask;
    CHECK(pthread_sigmask(SIG_BLOCK, NULL, &mask) == 0 && SIGRTMAX <= 64);
    for (int number = 1; number <= SIGRTMAX; number++) {
        CHECK(sigaction(number, NULL, &before[number]) == 0 || (number > SIGSYS && number < SIGRTMIN));
    }
    start_proxy();
    RUN(use_the_library());
    RUN(no_handler_is_installed_and_no_mask_changed(before, &mask));
    RUN(the_librarys_threads_block_all_signals());
    RUN(connections_that_are_cut_kill_nobody());
    RUN(what_cannot_be_confirmed_is_pending_until_it_can());
    RUN(opening_says_why_etcd_cannot_be_reached());
    RUN(stop_proxy());
    RUN(the_hosts_signals_go_to_the_hosts_threads());
    puts("ok");
    return 0;
}
