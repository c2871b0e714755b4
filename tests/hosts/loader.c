/*
 * A program that isn't linked with the library, and that has endings of host.c run by a plugin which is: host.c as a
 * shared object. Arguments as host.c's; the plugin is this program's path and ".so".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const plans[][3] = {
    {"plugin-closed", "close-return", "close-return"},
    /* Its service goes on without it. Nothing of the plugin's is called any more. */
    {"plugin-left-open", "return", "return-from-another"},
    {"plugin-closes-on-unloading", "destructor-close", "destructor-close"},
    {"plugin-opens-on-loading", "close-return", "close-return"},
};

static int fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    return 1;
}

/* Loads the plugin, has it run an ending, and unloads it. */
static int plugged(const char *program, const char *ending, const char *environment) {
    char path[4096];
    snprintf(path, sizeof path, "%s.so", program);
    void *plugin = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (plugin == NULL) {
        return fail(dlerror());
    }
    int (*run_ending)(int, const char *const *) =
        (int (*)(int, const char *const *))(uintptr_t)dlsym(plugin, "run_ending");
    const char *const arguments[] = {program, ending, environment, "0", NULL};
    if (run_ending == NULL || run_ending(4, arguments) != 0 || dlclose(plugin) != 0) {
        return fail("the plugin failed");
    }
    return dlopen(path, RTLD_NOW | RTLD_NOLOAD) == NULL ? 0 : fail("the plugin is still there");
}

int main(int count, char **arguments) {
    if (count == 4 && strcmp(arguments[1], "plugin-opens-on-loading") == 0) {
        setenv("OPEN_IN_CONSTRUCTOR", getenv("ETCD_ENDPOINTS"), 1);
    }
    for (size_t i = 0; count == 4 && i < sizeof plans / sizeof *plans; i++) {
        if (strcmp(arguments[1], plans[i][0]) == 0) {
            return plugged(arguments[0], plans[i][1], arguments[2]) || plugged(arguments[0], plans[i][2], arguments[2]);
        }
    }
    return fail("no such plan");
}
