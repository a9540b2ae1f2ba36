/* What the test programs share: a check that stops at the first thing that is wrong, and where the models are. */

#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);          \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

static inline const char *models(void) {
    const char *folder = getenv("NEARCALL_C_MODELS");
    CHECK(folder != NULL);
    return folder;
}

#endif
