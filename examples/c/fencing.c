/*
 * What leadership alone can't prevent, and what the fencing token is for.
 *
 *     fencing http://127.0.0.1:2379 /tmp/ledger
 *
 * A leader asks whether it leads, and is stopped before it acts: by the scheduler, a debugger, a suspended machine.
 * When it goes on, another has led and written, and the check of before is worth nothing. Only the ledger can tell:
 * it keeps the highest token that it was written with, and refuses lower ones.
 *
 * Two processes play this: `first` leads and is stopped (SIGSTOP) between its check and its write, `second` is elected
 * when the lease of the first is over and writes, then `first` goes on. Ends with 0 if its late write was refused.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tenure.h"

#define ELECTED_WITHIN_MS 30000

/* ---- The resource: a file of lines, the first of which is the highest token seen. ---- */

#define TOKEN_BYTES 21 /* 20 digits and the end of the line */

enum ledger_result {
    LEDGER_WRITTEN,
    LEDGER_REFUSED, /* somebody with a higher token was here */
    LEDGER_FAILED   /* errno says why */
};

static bool write_all(int fd, const char *text, size_t length, off_t at)
{
    while (length > 0) {
        ssize_t written = pwrite(fd, text, length, at);
        if (written < 0)
            return false;
        text += written;
        at += written;
        length -= (size_t)written;
    }
    return true;
}

static enum ledger_result append_locked(int fd, int64_t token, const char *text, int64_t *highest)
{
    char line[256];
    ssize_t got = pread(fd, line, TOKEN_BYTES, 0);
    if (got < 0)
        return LEDGER_FAILED;
    *highest = 0;
    if (got == TOKEN_BYTES) {
        line[TOKEN_BYTES - 1] = '\0';
        *highest = strtoll(line, NULL, 10);
    }
    if (token < *highest)
        return LEDGER_REFUSED;

    /* The token first, and safe on the disk: a line without it would let an older leader write behind it. */
    snprintf(line, sizeof line, "%020" PRId64 "\n", token);
    if (token > *highest && (!write_all(fd, line, TOKEN_BYTES, 0) || fdatasync(fd) < 0))
        return LEDGER_FAILED;
    off_t end = lseek(fd, 0, SEEK_END);
    int length = snprintf(line, sizeof line, "%" PRId64 " %s\n", token, text);
    if (end < 0)
        return LEDGER_FAILED;
    if (length < 0 || (size_t)length >= sizeof line) {
        errno = EMSGSIZE;
        return LEDGER_FAILED;
    }
    if (write_all(fd, line, (size_t)length, end) && fdatasync(fd) == 0)
        return LEDGER_WRITTEN;
    int reason = errno;
    if (ftruncate(fd, end) < 0) /* no half lines */
        perror("fencing: a line may be incomplete");
    errno = reason;
    return LEDGER_FAILED;
}

/* Adds a line under a token. The lock makes the check and the write one; a token checked by the caller would not do. */
static enum ledger_result ledger_append(const char *path, int64_t token, const char *text, int64_t *highest)
{
    enum ledger_result result = LEDGER_FAILED;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return LEDGER_FAILED;
    if (flock(fd, LOCK_EX) == 0)
        result = append_locked(fd, token, text, highest);
    int reason = errno;
    if (close(fd) < 0 && result == LEDGER_WRITTEN)
        return LEDGER_FAILED;
    errno = reason;
    return result;
}

/* ---- The leaders. ---- */

static int complain(const char *who, const char *what, tenure_code code, tenure_error *error)
{
    fprintf(stderr, "%s: %s: %s: %s\n", who, what, tenure_code_name(code),
            error ? error->message : tenure_code_text(code));
    tenure_error_free(error);
    return -1;
}

static enum ledger_result write_line(const char *who, const char *path, int64_t token, const char *text)
{
    int64_t highest = 0;
    enum ledger_result result = ledger_append(path, token, text, &highest);
    switch (result) {
    case LEDGER_WRITTEN: printf("%s: wrote with token %" PRId64 "\n", who, token); break;
    case LEDGER_REFUSED:
        printf("%s: refused, token %" PRId64 " is older than %" PRId64 "\n", who, token, highest);
        break;
    case LEDGER_FAILED: fprintf(stderr, "%s: %s: %s\n", who, path, strerror(errno)); break;
    }
    return result;
}

/* Leads, looks, and is stopped before it can do what the look allowed. */
static int be_first(const char *who, tenure_campaign *campaign, const char *path)
{
    int64_t token = tenure_campaign_token(campaign);
    if (write_line(who, path, token, "the first leader was here") != LEDGER_WRITTEN)
        return -1;
    if (!tenure_campaign_is_leader(campaign)) {
        fprintf(stderr, "%s: lost leadership too early for this example\n", who);
        return -1;
    }
    printf("%s: is the leader; falls asleep before it acts\n", who);
    if (raise(SIGSTOP) != 0) {
        perror("fencing: raise");
        return -1;
    }
    printf("%s: awake, and acts on what it knew\n", who);
    if (write_line(who, path, token, "the first leader is late") != LEDGER_REFUSED)
        return -1;
    if (tenure_campaign_is_leader(campaign)) {
        fprintf(stderr, "%s: claims to lead although another does\n", who);
        return -1;
    }
    return 0;
}

static int be_second(const char *who, tenure_campaign *campaign, const char *path)
{
    int64_t token = tenure_campaign_token(campaign);
    return write_line(who, path, token, "the second leader was here") == LEDGER_WRITTEN ? 0 : -1;
}

typedef int (*part)(const char *who, tenure_campaign *campaign, const char *path);

static int lead(const char *who, const char *endpoints, const char *path, part play)
{
    const char *const settings[][2] = {
        { "endpoints", endpoints }, { "service", "fencing-example" }, { "ttl", "2s" }, { "value", who },
    };
    tenure_options *options = NULL;
    tenure_service *service = NULL;
    tenure_campaign *campaign = NULL;
    tenure_error *error = NULL;
    int result = -1;

    tenure_code code = tenure_options_new(&options, &error);
    for (size_t i = 0; code == TENURE_OK && i < sizeof settings / sizeof *settings; i++)
        code = tenure_options_set(options, settings[i][0], settings[i][1], &error);
    if (code == TENURE_OK)
        code = tenure_service_open(options, &service, &error);
    tenure_options_free(options);
    if (code == TENURE_OK)
        code = tenure_service_campaign(service, "ledger", NULL, NULL, NULL, NULL, &campaign, &error);
    if (code == TENURE_OK)
        code = tenure_campaign_wait_leader(campaign, ELECTED_WITHIN_MS, &error);
    if (code != TENURE_OK)
        complain(who, "election", code, error);
    else
        result = play(who, campaign, path);

    tenure_campaign_free(campaign);
    error = NULL;
    if (service != NULL && (code = tenure_service_close(service, -1, &error)) != TENURE_OK)
        result = complain(who, "close", code, error);
    tenure_service_free(service);
    return result;
}

/* ---- The play. ---- */

/* Each leader is a process of its own; the library is used in them only. */
static pid_t start(const char *who, const char *endpoints, const char *path, part play)
{
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0)
        perror("fencing: fork");
    if (child != 0)
        return child;
    /* Nobody is to be left behind asleep. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
        _exit(EXIT_FAILURE);
    exit(lead(who, endpoints, path, play) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* Whether the child did its part, that is, is asleep or has ended well. */
static bool finish(pid_t child, int options)
{
    int status = 0;
    if (waitpid(child, &status, options) < 0) {
        perror("fencing: waitpid");
        return false;
    }
    return WIFSTOPPED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS);
}

int main(int argc, char **argv)
{
    if (argc != 3 || strncmp(argv[1], "memory:", 7) == 0) {
        fputs("usage: fencing ENDPOINTS LEDGER-FILE   (two processes take part, so it needs an etcd)\n", stderr);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);

    pid_t first = start("first", argv[1], argv[2], be_first);
    if (first < 0 || !finish(first, WUNTRACED))
        return EXIT_FAILURE;
    pid_t second = start("second", argv[1], argv[2], be_second);
    bool is_well = second > 0 && finish(second, 0);
    if (kill(first, SIGCONT) < 0) {
        perror("fencing: kill");
        return EXIT_FAILURE;
    }
    return finish(first, 0) && is_well ? EXIT_SUCCESS : EXIT_FAILURE;
}
