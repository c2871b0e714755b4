/*
 * A host process that ends, or goes on, in the way that its first argument names; hosts.py runs it and knows what is to
 * come of it. The second argument is an environment of its own, the third the number of the run, by which some vary.
 */
#define _GNU_SOURCE
#include "../c/testing.h"

#include <errno.h>
#include <grp.h>
#include <locale.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

static const char *program, *environment;
static int run;

static tenure_service *service;
static tenure_campaign *campaign;

/* Long enough that a busy machine costs nobody a term. */
#define LONG "30s"

static tenure_service *opened(const char *ttl) {
    return open_service(etcd(), "environment", environment, "ttl", ttl, NULL);
}

/* With rejoin: a machine so busy that a short lease is lost only makes it wait. */
static tenure_campaign *stand(tenure_event_fn on_event, void *user_data, tenure_drop_fn on_drop) {
    tenure_campaign_options *options = new_campaign_options();
    tenure_campaign *made = NULL;
    WORKS(tenure_campaign_options_set(options, "rejoin", "true", &err));
    WORKS(tenure_service_campaign(service, "e", options, on_event, user_data, on_drop, &made, &err));
    tenure_campaign_options_free(options);
    return made;
}

static void lead_for(const char *ttl) {
    service = opened(ttl);
    campaign = stand(NULL, NULL, NULL);
    WORKS(tenure_campaign_wait_leader(campaign, -1, &err));
}

/* What ends by itself ends soon at etcd, too. */
static void lead_briefly(void) {
    lead_for("2s");
}

static void close_all(void) {
    WORKS(tenure_service_close(service, -1, &err));
    tenure_campaign_free(campaign);
    tenure_service_free(service);
}

static void wait_forever(void) {
    for (;;) {
        pause();
    }
}

static void *in_thread(void (*function)(void)) {
    function();
    return NULL;
}

static pthread_t start_thread(void (*function)(void)) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, (void *(*)(void *))(void *)in_thread, (void *)function) == 0);
    return thread;
}

static void join(pthread_t thread) {
    CHECK(pthread_join(thread, NULL) == 0);
}

/* Some moment that differs from run to run. */
static void some_moment(int most_us) {
    static atomic_uint seed;
    unsigned number = (unsigned)getpid() * 2654435761u + (unsigned)run * 40503u + atomic_fetch_add(&seed, 97);
    usleep((number >> 8) % (unsigned)most_us);
}

/* A callback that does something when it hears that it leads. */
static void (*as_leader)(void);
static atomic_int heard, dropped;

static void on_event(void *user_data, const tenure_event *event) {
    CHECK(user_data == &junk);
    check_event(event);
    atomic_fetch_add(&heard, 1);
    if (event->kind == TENURE_EVENT_CAMPAIGN && event->state == TENURE_STATE_LEADER && as_leader != NULL) {
        campaign = event->campaign;
        as_leader();
    }
}

static void on_drop(void *user_data) {
    CHECK(user_data == &junk);
    atomic_fetch_add(&dropped, 1);
}

static void in_callback(const char *ttl, void (*function)(void)) {
    as_leader = function;
    service = opened(ttl);
    stand(on_event, &junk, on_drop);
}

static atomic_bool stopped;

/* Events all the time, until the service closes. */
static void *announce(void *unused) {
    for (int i = 0; !atomic_load(&stopped); i++) {
        tenure_campaign_proclaim(campaign, &i, sizeof i, -1, NULL);
    }
    return unused;
}

static pthread_t callbacks_all_the_time(const char *ttl) {
    pthread_t thread;
    tenure_observer *observer;
    lead_for(ttl);
    for (int i = 0; i < 3; i++) {
        WORKS(tenure_service_observe(service, "e", on_event, &junk, on_drop, &observer, &err));
    }
    CHECK(pthread_create(&thread, NULL, announce, NULL) == 0);
    while (atomic_load(&heard) < 10) {
        usleep(100);
    }
    return thread;
}

/* --- Ways to end ------------------------------------------------------------------------------------------------ */

static void exit_3(void) {
    exit(3);
}

static void underscore_exit_4(void) {
    _exit(4);
}

static void quick_exit_5(void) {
    quick_exit(5);
}

static void be_killed(void) {
    CHECK(kill(getpid(), SIGKILL) == 0);
    wait_forever();
}

static void be_terminated(void) {
    CHECK(kill(getpid(), SIGTERM) == 0);
    wait_forever();
}

static void leave_main_to_a_closer(void) {
    usleep(1000);
    close_all();
    exit(0);
}

/* Opening, leading and closing, over and over. */
static void churn(void) {
    for (;;) {
        lead_for("2s");
        close_all();
    }
}

static void at_any_time(void (*end)(void)) {
    start_thread(churn);
    some_moment(20000);
    end();
}

static void close_at_exit(void) {
    if (service != NULL && environment != NULL) {
        close_all();
    }
}

/* --- fork -------------------------------------------------------------------------------------------------------- */

static void use_inherited(void) {
    tenure_candidate *leader = NULL;
    if (service != NULL) {
        FAILS(TENURE_FORKED, "`service`", tenure_service_leader(service, "e", -1, &leader, &err));
        FAILS(TENURE_FORKED, "`service`", tenure_service_close(service, -1, &err));
    }
    if (campaign != NULL) {
        CHECK(!tenure_campaign_is_leader(campaign) && tenure_campaign_state(campaign) == TENURE_STATE_NONE);
        FAILS(TENURE_FORKED, "`campaign`", tenure_campaign_wait_leader(campaign, -1, &err));
        FAILS(TENURE_FORKED, "`campaign`", tenure_campaign_resign(campaign, -1, &err));
    }
}

static void free_inherited_and_exit(void) {
    tenure_campaign_free(campaign);
    tenure_service_free(service);
    exit(0);
}

static void exec_another(void) {
    execl("/bin/true", "true", (char *)NULL);
    CHECK(!"exec");
}

static void take_part_in_another(void) {
    char election[32];
    snprintf(election, sizeof election, "child-%d", (int)getpid());
    tenure_service *own = opened(LONG);
    tenure_campaign *mine = lead(own, election);
    use_inherited();
    WORKS(tenure_service_close(own, -1, &err));
    tenure_campaign_free(mine);
    tenure_service_free(own);
}

/* Children of each kind, all at once. */
static void fork_children(void) {
    static void (*const kinds[])(void) = {use_inherited, free_inherited_and_exit, exec_another, take_part_in_another};
    enum { KINDS = sizeof kinds / sizeof *kinds };
    pid_t children[KINDS];
    for (int i = 0; i < KINDS; i++) {
        children[i] = fork();
        CHECK(children[i] >= 0);
        if (children[i] == 0) {
            kinds[i]();
            _exit(0);
        }
    }
    for (int i = 0; i < KINDS; i++) {
        int status = -1;
        CHECK(waitpid(children[i], &status, 0) == children[i]);
        if (status != 0) {
            fprintf(stderr, "child %d ended with status %#x\n", i, status);
            _exit(1);
        }
    }
}

static void fork_unused(void) {
    fork_children();
    lead_for(LONG);
    close_all();
}

static void open_again_and_again(void) {
    for (int i = 0; i < 5; i++) {
        tenure_service *one = opened(LONG);
        close_and_free(one);
    }
}

static void fork_opening(void) {
    pthread_t thread = start_thread(open_again_and_again);
    some_moment(10000);
    fork_children();
    join(thread);
}

static void fork_following(void) {
    tenure_campaign *waiting = NULL, *leader;
    lead_for(LONG);
    leader = campaign;
    tenure_service *second = opened(LONG);
    WORKS(tenure_service_campaign(second, "e", NULL, on_event, &junk, on_drop, &waiting, &err));
    while (atomic_load(&heard) == 0) {
        usleep(100);
    }
    campaign = waiting;
    fork_children();
    CHECK(tenure_campaign_is_leader(leader) && tenure_campaign_state(waiting) == TENURE_STATE_FOLLOWER);
    WORKS(tenure_campaign_resign(leader, -1, &err));
    WORKS(tenure_campaign_wait_leader(waiting, -1, &err));
    close_and_free(second);
    close_all();
}

static void fork_leading(void) {
    lead_for(LONG);
    int64_t token = tenure_campaign_token(campaign);
    fork_children();
    CHECK(tenure_campaign_is_leader(campaign) && tenure_campaign_token(campaign) == token);
    close_all();
}

static sem_t came;

static void fork_in_callback(void) {
    fork_children();
    CHECK(tenure_campaign_is_leader(campaign) && sem_post(&came) == 0);
}

static void wait_came(void) {
    while (sem_wait(&came) != 0) {
        CHECK(errno == EINTR);
    }
}

static void fork_calling_back(void) {
    in_callback(LONG, fork_in_callback);
    wait_came();
    close_all();
}

static void resign(void) {
    WORKS(tenure_campaign_resign(campaign, -1, &err));
}

static void close_service(void) {
    WORKS(tenure_service_close(service, -1, &err));
}

static void fork_while(void (*ends)(void)) {
    lead_for(LONG);
    pthread_t thread = start_thread(ends);
    some_moment(2000);
    fork_children();
    join(thread);
    close_all();
}

static void fork_resigning(void) {
    fork_while(resign);
}

static void fork_closing(void) {
    fork_while(close_service);
}

/* As daemons do: the parent goes, the child goes on. */
static void daemonise(void) {
    lead_briefly();
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid > 0) {
        _exit(0);
    }
    use_inherited();
    take_part_in_another();
    exit(0);
}

static void child_leaves_its_own_open(void) {
    lead_for(LONG);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        lead(opened("3s"), "child");
        exit(0);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0 && tenure_campaign_is_leader(campaign));
    close_all();
}

static int descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    int count = -1; /* the folder's own */
    CHECK(folder != NULL);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        count += *entry->d_name != '.';
    }
    CHECK(closedir(folder) == 0);
    return count;
}

/* The new program has nothing of the old one. */
static void exec_itself(void) {
    lead_briefly();
    execl(program, program, "inherits-nothing", environment, "0", (char *)NULL);
    CHECK(!"exec");
}

static void inherits_nothing(void) {
    sigset_t mask;
    CHECK(descriptors() == 3 && sigprocmask(SIG_BLOCK, NULL, &mask) == 0 && !sigismember(&mask, SIGTERM));
    tenure_service *own = opened(LONG);
    close_and_free(own);
}

/* --- signals ----------------------------------------------------------------------------------------------------- */

static __thread bool is_hosts;
static atomic_int signals;

static void handle(int number) {
    char here;
    stack_t stack;
    (void)number;
    /* A thread of the library's has signals blocked. */
    if (!is_hosts || sigaltstack(NULL, &stack) != 0 || !(stack.ss_flags & SS_ONSTACK) || &here < (char *)stack.ss_sp) {
        _exit(9);
    }
    atomic_fetch_add(&signals, 1);
}

/* A handler on a stack of its own, and no call is restarted. */
static void handle_signal(int number) {
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_ONSTACK};
    stack_t stack = {.ss_size = 65536, .ss_sp = malloc(65536)};
    is_hosts = true;
    CHECK(stack.ss_sp != NULL && sigaltstack(&stack, NULL) == 0 && sigaction(number, &action, NULL) == 0);
}

/* Everything that waits, a few times. */
static void use_all(int times) {
    for (int i = 0; i < times; i++) {
        tenure_candidate *leader = NULL;
        tenure_candidates *candidates = NULL;
        tenure_event *event = NULL;
        tenure_service *pulled = open_service(etcd(), "environment", environment, "events", "pull", "ttl", LONG, NULL);
        campaign = lead(pulled, "e");
        WORKS(tenure_service_next_event(pulled, -1, &event, &err));
        WORKS(tenure_service_leader(pulled, "e", -1, &leader, &err));
        WORKS(tenure_service_candidates(pulled, "e", -1, &candidates, &err));
        WORKS(tenure_campaign_proclaim(campaign, "x", 1, -1, &err));
        FAILS(TENURE_CAMPAIGN_IN_PROGRESS, "",
              tenure_service_campaign(pulled, "e", NULL, NULL, NULL, NULL, &(tenure_campaign *){NULL}, &err));
        WORKS(tenure_campaign_resign(campaign, -1, &err));
        WORKS(tenure_service_close(pulled, -1, &err));
        tenure_event_free(event);
        tenure_candidate_free(leader);
        tenure_candidates_free(candidates);
        tenure_campaign_free(campaign);
        tenure_service_free(pulled);
    }
}

static void every_ms(int timer, int signal) {
    struct itimerval ms = {{0, 1000}, {0, 1000}}, none = {{0, 0}, {0, 0}};
    handle_signal(signal);
    CHECK(setitimer(timer, &ms, NULL) == 0);
    use_all(4);
    while (atomic_load(&signals) == 0) {
    }
    CHECK(setitimer(timer, &none, NULL) == 0);
}

static void sigprof(void) {
    every_ms(ITIMER_PROF, SIGPROF);
}

static void sigalrm(void) {
    every_ms(ITIMER_REAL, SIGALRM);
}

static pthread_t main_thread;

static void keep_signalling(void) {
    while (!atomic_load(&stopped)) {
        CHECK(pthread_kill(main_thread, SIGUSR1) == 0);
        usleep(50);
    }
}

static void sigusr1(void) {
    handle_signal(SIGUSR1);
    main_thread = pthread_self();
    pthread_t thread = start_thread(keep_signalling);
    while (atomic_load(&signals) == 0) {
    }
    use_all(3);
    atomic_store(&stopped, true);
    join(thread);
}

/* Ends the library's connections under it; how many there were. */
static int break_connections(void) {
    int broken = 0;
    for (int fd = 0; fd < 64; fd++) {
        int domain = 0;
        socklen_t size = sizeof domain;
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_INET) {
            broken += shutdown(fd, SHUT_RDWR) == 0;
        }
    }
    return broken;
}

static void sigpipe(void) {
    int broken = 0;
    lead_for(LONG);
    int64_t token = tenure_campaign_token(campaign);
    for (int i = 0; i < 5; i++) {
        broken += break_connections();
        tenure_campaign_proclaim(campaign, "x", 1, -1, NULL);
    }
    CHECK(broken > 0 && tenure_campaign_is_leader(campaign) && tenure_campaign_token(campaign) == token);
    close_all();
}

/* --- limits ------------------------------------------------------------------------------------------------------ */

/* Sets the soft limit; what it was. */
static rlim_t limit(int what, rlim_t now) {
    struct rlimit both;
    CHECK(getrlimit((__rlimit_resource_t)what, &both) == 0);
    rlim_t before = both.rlim_cur;
    both.rlim_cur = now;
    CHECK(setrlimit((__rlimit_resource_t)what, &both) == 0);
    return before;
}

static int next_descriptor(void) {
    int fd = dup(STDERR_FILENO);
    CHECK(fd > 0 && close(fd) == 0);
    return fd;
}

/* Opens, and leads if that works; what it answers. */
static tenure_code try_to_lead(const char *endpoints, const char *dial_timeout, const char *ttl) {
    tenure_options *options = new_options();
    tenure_error *why = NULL;
    WORKS(tenure_options_set(options, "endpoints", endpoints, &err));
    WORKS(tenure_options_set(options, "service", "c-tests", &err));
    WORKS(tenure_options_set(options, "environment", environment, &err));
    WORKS(tenure_options_set(options, "dial_timeout", dial_timeout, &err));
    WORKS(tenure_options_set(options, "ttl", ttl, &err));
    tenure_code code = tenure_service_open(options, &service, &why);
    tenure_options_free(options);
    if (code == TENURE_OK) {
        campaign = lead(service, "e");
        close_all();
    } else {
        CHECK(service == NULL && why->code == code && *why->message != '\0');
        printf("%s: %s\n", why->name, why->message);
    }
    tenure_error_free(why);
    return code;
}

/* With too few of something the answer is one of two, and all is well once there is enough. */
static void try_with(int what, rlim_t few, const char *endpoints, const char *ttl) {
    rlim_t before = limit(what, few);
    tenure_code code = try_to_lead(endpoints, "2s", ttl);
    limit(what, before);
    CHECK(code == TENURE_OK || code == TENURE_SYSTEM || code == TENURE_UNAVAILABLE);
    CHECK(try_to_lead(endpoints, "30s", ttl) == TENURE_OK);
}

static void few_descriptors(void) {
    try_with(RLIMIT_NOFILE, (rlim_t)(next_descriptor() + run % 9), etcd(), LONG);
}

/* A connection that breaks while there are no descriptors: the term goes on when there are some in time, and else is
 * followed by another. */
static void no_descriptors_to_reconnect(const char *ttl, bool in_time) {
    rlim_t before;
    lead_for(ttl);
    int64_t token = tenure_campaign_token(campaign);
    before = limit(RLIMIT_NOFILE, (rlim_t)(run % 4 * 3));
    CHECK(break_connections() > 0);
    tenure_campaign_proclaim(campaign, "x", 1, 200, NULL);
    while (!in_time && run % 4 == 0 && tenure_campaign_is_leader(campaign)) {
        usleep(10000);
    }
    limit(RLIMIT_NOFILE, before);
    WORKS(tenure_campaign_wait_leader(campaign, -1, &err));
    CHECK(!in_time || tenure_campaign_token(campaign) == token);
    close_all();
}

static void no_descriptors_for_a_while(void) {
    no_descriptors_to_reconnect(LONG, true);
}

static void no_descriptors_for_a_term(void) {
    no_descriptors_to_reconnect("2s", false);
}

/* Becomes a user of its own, whose threads are counted. The superuser's aren't. */
static void be_somebody(void) {
    if (geteuid() == 0) {
        uid_t user = (uid_t)(1000000 + getpid());
        CHECK(setgroups(0, NULL) == 0 && setresuid(user, user, user) == 0);
    }
}

/* Etcd by name, whose lookup takes a thread. */
static const char *etcd_by_name(void) {
    static char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "http://localhost%s", strrchr(etcd(), ':'));
    return endpoint;
}

static void few_threads(void) {
    be_somebody();
    try_with(RLIMIT_NPROC, (rlim_t)(1 + run % 4), run % 2 == 0 ? etcd() : etcd_by_name(), LONG);
}

static void no_threads_to_reconnect(void) {
    be_somebody();
    service = open_service(etcd_by_name(), "environment", environment, "ttl", LONG, NULL);
    campaign = lead(service, "e");
    int64_t token = tenure_campaign_token(campaign);
    rlim_t before = limit(RLIMIT_NPROC, 1);
    CHECK(break_connections() > 0);
    FAILS(TENURE_PENDING, "", tenure_campaign_proclaim(campaign, "x", 1, 300, &err));
    limit(RLIMIT_NPROC, before);
    WORKS(tenure_campaign_proclaim(campaign, "y", 1, -1, &err));
    CHECK(tenure_campaign_token(campaign) == token);
    close_all();
}

static rlim_t memory_used(void) {
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%lu", &pages) == 1 && fclose(file) == 0);
    return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* May abort while it leads. */
static void little_memory(void) {
    try_with(RLIMIT_AS, memory_used() + (rlim_t)(run % 64) * 131072, etcd(), "2s");
}

static void no_memory_while_leading(void) {
    char value[4096] = "";
    lead_briefly();
    rlim_t before = limit(RLIMIT_AS, memory_used() + (rlim_t)(run % 8) * 16384);
    for (int i = 0; i < 20; i++) {
        tenure_campaign_proclaim(campaign, value, sizeof value, -1, NULL);
    }
    limit(RLIMIT_AS, before);
    close_all();
}

static long resident_kb(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file != NULL && fscanf(file, "%*d %ld", &pages) == 1 && fclose(file) == 0);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static int threads(void) {
    struct stat folder;
    CHECK(stat("/proc/self/task", &folder) == 0);
    return (int)folder.st_nlink - 2;
}

/* A thread's end may lag behind its service's. */
static void settles_at(int most_threads, int most_descriptors) {
    while (threads() > most_threads || descriptors() > most_descriptors) {
        usleep(1000);
    }
}

static void a_thousand_services(void) {
    static const char *const ways[] = {"callback", "pull"};
    int threads_before = 0, descriptors_before = 0;
    long resident_before = 0;
    for (int i = 0; i <= 1000; i++) {
        service = open_service(etcd(), "environment", environment, "events", ways[i % 2], NULL);
        campaign = lead(service, "e");
        close_all();
        if (i == 100) {
            settles_at(2, 64);
            threads_before = threads(), descriptors_before = descriptors(), resident_before = resident_kb();
        }
    }
    settles_at(threads_before, descriptors_before);
    long grown = resident_kb() - resident_before;
    printf("threads %d -> %d, descriptors %d -> %d, resident %ld kB -> %+ld kB\n", threads_before, threads(),
           descriptors_before, descriptors(), resident_before, grown);
    CHECK(grown < 1024);
}

/* --- callbacks --------------------------------------------------------------------------------------------------- */

static void block(void) {
    CHECK(tenure_campaign_is_leader(campaign) && sem_post(&came) == 0);
    usleep(1000000);
}

static void callback_blocks(void) {
    in_callback(LONG, block);
    wait_came();
    FAILS(TENURE_PENDING, "", tenure_service_close(service, 300, &err));
    CHECK(!tenure_campaign_is_leader(campaign));
    close_all();
    CHECK(atomic_load(&dropped) == 1);
}

static void end_all_inside(void) {
    FAILS(TENURE_WRONG_THREAD, "callback", tenure_service_close(service, -1, &err));
    WORKS(tenure_campaign_resign(campaign, -1, &err));
    tenure_campaign_free(campaign);
    tenure_service_free(service);
    FAILS(TENURE_INVALID_HANDLE, "`service`", tenure_service_close(service, -1, &err));
}

static void callback_ends_all(void) {
    in_callback("2s", end_all_inside); /* whose end nobody waits for */
    while (atomic_load(&dropped) == 0) {
        usleep(100);
    }
}

static void close_amid_callbacks(void) {
    pthread_t thread = callbacks_all_the_time(LONG);
    some_moment(3000);
    close_service();
    int told = atomic_load(&heard);
    CHECK(atomic_load(&dropped) == 3);
    atomic_store(&stopped, true);
    join(thread);
    close_all();
    CHECK(atomic_load(&heard) == told);
}

static void exit_amid_callbacks(void) {
    callbacks_all_the_time("2s");
    some_moment(3000);
    exit(0);
}

/* --- surroundings ------------------------------------------------------------------------------------------------ */

/* Descriptors 0 to 2 are free, so the library's are among them; and the program says something to nobody. */
static void closed_streams(void) {
    /* What it writes below may go to one of the library's own connections, which etcd then closes. */
    CHECK(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
    CHECK(close(0) == 0 && close(1) == 0 && close(2) == 0);
    lead_for(LONG);
    for (int i = 0; i < 20; i++) {
        printf("to whom it may concern %d\n", i);
        (void)fflush(stdout);
        if (write(2, "to nobody\n", 10) < 0) {
            errno = 0;
        }
        if (tenure_campaign_proclaim(campaign, "x", 1, -1, NULL) != TENURE_OK) {
            _exit(1);
        }
    }
    close_all();
}

static void keep_setting(void) {
    char name[32];
    for (int i = 0; !atomic_load(&stopped); i++) {
        snprintf(name, sizeof name, "SOME_VARIABLE_%d", i % 1000);
        CHECK(setenv(name, "some value", 1) == 0);
    }
}

static void changing_environment(void) {
    /* What WORKS and open_service ask of it themselves, they have asked. */
    char endpoints[64];
    snprintf(endpoints, sizeof endpoints, "%s", etcd());
    pthread_t thread = start_thread(keep_setting);
    for (int i = 0; i < 5; i++) {
        service = open_service(endpoints, "environment", environment, NULL);
        campaign = lead(service, "e");
        close_all();
    }
    atomic_store(&stopped, true);
    join(thread);
}

static void other_locale(void) {
    CHECK(setlocale(LC_ALL, "C.UTF-8") != NULL);
    use_all(1);
}

static void small_stack(void) {
    pthread_t thread;
    pthread_attr_t small;
    CHECK(pthread_attr_init(&small) == 0 && pthread_attr_setstacksize(&small, 65536) == 0);
    CHECK(pthread_create(&thread, &small, (void *(*)(void *))(void *)use_all, (void *)2) == 0);
    join(thread);
}

static void pull_for_ever(void) {
    for (;;) {
        tenure_event *event = NULL;
        tenure_service_next_event(service, 1, &event, NULL);
        tenure_event_free(event);
        pthread_testcancel();
    }
}

/* A thread that is cancelled is cancelled between its calls, not inside. */
static void cancelled_thread(void) {
    service = open_service(etcd(), "environment", environment, "events", "pull", NULL);
    campaign = lead(service, "e");
    pthread_t thread = start_thread(pull_for_ever);
    some_moment(5000);
    CHECK(pthread_cancel(thread) == 0);
    join(thread);
    tenure_event *event = NULL;
    tenure_code code;
    while ((code = tenure_service_next_event(service, 0, &event, NULL)) == TENURE_OK) {
        tenure_event_free(event);
    }
    CHECK(code == TENURE_TIMEOUT);
    close_all();
}

static void return_from_another(void) {
    service = opened("3s");
    lead(service, "f");
}

static bool closes_in_destructor;

__attribute__((destructor)) static void close_in_destructor(void) {
    if (closes_in_destructor) {
        close_all();
    }
}

/* What threads need is held while a library is loaded or unloaded: that can be told, and harms nothing. */
__attribute__((constructor)) static void open_in_constructor(void) {
    const char *endpoints = getenv("OPEN_IN_CONSTRUCTOR");
    tenure_options *options = NULL;
    if (endpoints != NULL) {
        WORKS(tenure_options_new(&options, &err));
        WORKS(tenure_options_set(options, "service", "c-tests", &err));
        WORKS(tenure_options_set(options, "endpoints", endpoints, &err));
        FAILS(TENURE_SYSTEM, "constructor", tenure_service_open(options, &service, &err));
        tenure_options_free(options);
    }
}

/* --- the table --------------------------------------------------------------------------------------------------- */

static void close_return(void) {
    lead_for(LONG);
    close_all();
}

static void free_return(void) {
    lead_for(LONG);
    tenure_campaign_free(campaign);
    tenure_service_free(service);
}

static void destructor_close(void) {
    lead_for(LONG);
    closes_in_destructor = true;
}

static void atexit_close(void) {
    CHECK(atexit(close_at_exit) == 0);
    lead_for(LONG);
    exit(0);
}

static void exit_main(void) {
    lead_briefly();
    exit(3);
}

static void exit_thread(void) {
    tenure_campaign *second = NULL;
    lead_briefly();
    tenure_service *other = opened("2s");
    WORKS(tenure_service_campaign(other, "e", NULL, NULL, NULL, NULL, &second, &err));
    start_thread(exit_3);
    tenure_campaign_wait_leader(second, -1, NULL);
    wait_forever();
}

static void exit_opening(void) {
    start_thread(open_again_and_again);
    some_moment(10000);
    exit(3);
}

static void exit_closing(void) {
    lead_briefly();
    start_thread(close_service);
    some_moment(1000);
    exit(3);
}

static void exit_callback(void) {
    in_callback("2s", exit_3);
    wait_forever();
}

static void underscore_exit_callback(void) {
    in_callback("2s", underscore_exit_4);
    wait_forever();
}

static void abort_callback(void) {
    in_callback("2s", abort);
    wait_forever();
}

static void kill_callback(void) {
    in_callback("2s", be_killed);
    wait_forever();
}

static void exit_anytime(void) {
    at_any_time(exit_3);
}

static void quick_exit_anytime(void) {
    at_any_time(quick_exit_5);
}

static void abort_anytime(void) {
    at_any_time(abort);
}

static void kill_anytime(void) {
    at_any_time(be_killed);
}

static void sigterm_anytime(void) {
    at_any_time(be_terminated);
}

static void leading_then(void (*end)(void)) {
    lead_briefly();
    end();
}

static void underscore_exit(void) {
    leading_then(underscore_exit_4);
}

static void quick(void) {
    leading_then(quick_exit_5);
}

static void aborted(void) {
    leading_then(abort);
}

static void killed(void) {
    leading_then(be_killed);
}

static void terminated(void) {
    leading_then(be_terminated);
}

static void main_thread_leaves(void) {
    lead_for(LONG);
    start_thread(leave_main_to_a_closer);
    pthread_exit(NULL);
}

static const struct {
    const char *name;
    void (*function)(void);
} endings[] = {
    {"close-return", close_return},
    {"free-return", free_return},
    {"return", lead_briefly},
    {"return-from-another", return_from_another},
    {"destructor-close", destructor_close},
    {"atexit-close", atexit_close},
    {"exit", exit_main},
    {"exit-thread", exit_thread},
    {"exit-opening", exit_opening},
    {"exit-closing", exit_closing},
    {"exit-callback", exit_callback},
    {"exit-amid-callbacks", exit_amid_callbacks},
    {"exit-anytime", exit_anytime},
    {"_exit", underscore_exit},
    {"_exit-callback", underscore_exit_callback},
    {"quick_exit", quick},
    {"quick_exit-anytime", quick_exit_anytime},
    {"abort", aborted},
    {"abort-callback", abort_callback},
    {"abort-anytime", abort_anytime},
    {"kill", killed},
    {"kill-callback", kill_callback},
    {"kill-anytime", kill_anytime},
    {"sigterm", terminated},
    {"sigterm-anytime", sigterm_anytime},
    {"pthread_exit-main", main_thread_leaves},
    {"exec", exec_itself},
    {"inherits-nothing", inherits_nothing},
    {"fork-unused", fork_unused},
    {"fork-opening", fork_opening},
    {"fork-following", fork_following},
    {"fork-leading", fork_leading},
    {"fork-callback", fork_calling_back},
    {"fork-resigning", fork_resigning},
    {"fork-closing", fork_closing},
    {"fork-daemon", daemonise},
    {"fork-left-open", child_leaves_its_own_open},
    {"sigpipe", sigpipe},
    {"sigprof", sigprof},
    {"sigalrm", sigalrm},
    {"sigusr1", sigusr1},
    {"few-descriptors", few_descriptors},
    {"no-descriptors-for-a-while", no_descriptors_for_a_while},
    {"no-descriptors-for-a-term", no_descriptors_for_a_term},
    {"few-threads", few_threads},
    {"no-threads-to-reconnect", no_threads_to_reconnect},
    {"little-memory", little_memory},
    {"no-memory-while-leading", no_memory_while_leading},
    {"a-thousand-services", a_thousand_services},
    {"callback-blocks", callback_blocks},
    {"callback-ends-all", callback_ends_all},
    {"close-amid-callbacks", close_amid_callbacks},
    {"closed-streams", closed_streams},
    {"changing-environment", changing_environment},
    {"other-locale", other_locale},
    {"small-stack", small_stack},
    {"cancelled-thread", cancelled_thread},
};

/* What loader.c calls. */
int run_ending(int count, const char *const *arguments) {
    CHECK(count == 4 && sem_init(&came, 0, 0) == 0);
    program = arguments[0];
    environment = arguments[2];
    run = atoi(arguments[3]);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        if (strcmp(arguments[1], endings[i].name) == 0) {
            endings[i].function();
            return 0;
        }
    }
    fprintf(stderr, "no ending is called %s\n", arguments[1]);
    return 2;
}

int main(int count, char **arguments) {
    return run_ending(count, (const char *const *)arguments);
}
