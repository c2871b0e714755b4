/*
 * A program with the defect that its argument names, for tests/tools/checker.sh: a memory checker that
 * doesn't find it here finds nothing anywhere.
 */
#include <tenure.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static char *volatile block;
static int shared;

static void *write_shared(void *value) {
    shared = value != NULL;
    return NULL;
}

int main(int argc, char **argv) {
    const char *defect = argc == 2 ? argv[1] : "";
    tenure_error *error = NULL;
    if (tenure_options_new(NULL, &error) != TENURE_NULL_POINTER || error == NULL) {
        return 1;
    }
    if (strcmp(defect, "overflow") == 0) {
        block = malloc(8);
        block[8] = 'x';
        free(block);
    } else if (strcmp(defect, "leak") == 0) {
        block = malloc(8);
        block = NULL;
    } else if (strcmp(defect, "use-after-free") == 0) {
        /* Of the library's memory. */
        tenure_error_free(error);
        return error->message[0] == '\0';
    } else if (strcmp(defect, "race") == 0) {
        pthread_t other;
        if (pthread_create(&other, NULL, write_shared, NULL) != 0) {
            return 1;
        }
        write_shared(&shared);
        pthread_join(other, NULL);
    } else if (strcmp(defect, "none") != 0) {
        return 1;
    }
    tenure_error_free(error);
    return 0;
}
