/*
 * A program with the defect that its argument names, for tests/tools/checker.sh: a memory checker that
 * doesn't find it here finds nothing anywhere.
 */
#include <tenure.h>

#include <stdlib.h>
#include <string.h>

static char *volatile block;

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
    } else if (strcmp(defect, "none") != 0) {
        return 1;
    }
    tenure_error_free(error);
    return 0;
}
