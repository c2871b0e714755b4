/*
 * A disk that stalls for one file of one program: a thread that wants the file on the disk (fdatasync) is stopped there, all
 * others go on. What it is called with: the program's id, and a part of the file's path. It says "attached", then "held"
 * when the first thread waits. With its own end everything goes on.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what) {
    puts(what);
    fflush(stdout);
}

/* All threads; what they start meanwhile comes along by itself. */
static int attach(const char *program) {
    char path[64];
    int attached = 0;
    snprintf(path, sizeof path, "/proc/%s/task", program);
    for (int round = 0; round < 3; round++) {
        DIR *threads = opendir(path);
        if (threads == NULL) {
            return 0;
        }
        for (struct dirent *entry; (entry = readdir(threads)) != NULL;) {
            pid_t thread = atoi(entry->d_name);
            if (thread > 0 && ptrace(PTRACE_SEIZE, thread, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE) == 0) {
                ptrace(PTRACE_INTERRUPT, thread, NULL, NULL);
                attached++;
            }
        }
        closedir(threads);
    }
    return attached;
}

static int is_stalled(const char *program, const char *file, pid_t thread) {
    struct __ptrace_syscall_info call;
    char link[64], path[4096] = "";
    if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof call, &call) <= 0 || call.op != PTRACE_SYSCALL_INFO_ENTRY ||
        call.entry.nr != SYS_fdatasync) {
        return 0;
    }
    snprintf(link, sizeof link, "/proc/%s/fd/%d", program, (int)call.entry.args[0]);
    return readlink(link, path, sizeof path - 1) > 0 && strstr(path, file) != NULL;
}

int main(int count, char **arguments) {
    if (count != 3 || attach(arguments[1]) == 0) {
        return 1;
    }
    say("attached");
    int status;
    for (pid_t thread; (thread = waitpid(-1, &status, __WALL)) > 0;) {
        if (!WIFSTOPPED(status)) {
            continue;
        }
        if (WSTOPSIG(status) == (SIGTRAP | 0x80) && is_stalled(arguments[1], arguments[2], thread)) {
            say("held");
            continue;
        }
        int is_signal = status >> 16 == 0 && WSTOPSIG(status) != (SIGTRAP | 0x80);
        ptrace(PTRACE_SYSCALL, thread, NULL, is_signal ? WSTOPSIG(status) : 0);
    }
    return 0;
}
