// Loading a model into the daemon, with a progress bar; shared by `load` and `run`.
#pragma once

#include "base/limits.h"
#include "base/paths.h"
#include "cli/api_client.h"
#include <stdbool.h>
#include <stdint.h>

struct loading {
    char asked[PATH_SIZE];            // what the daemon is asked for: a stored name or an absolute path
    char name[LIMIT_MODEL_NAME + 1];  // what the daemon calls it; filled by loading_run
    char shown[LIMIT_MODEL_NAME + 1]; // for the progress bar
    uint64_t bytes;                   // of the file, 0 where unknown here
    bool waited;                      // it was not loaded already
    json_t *model;                    // the daemon's description once loaded; owned
};

// `word` is a stored name, or a path (it has a '/' or ends in .gguf), which is made absolute. ERR_NOT_FOUND where there
// is no file.
int loading_init(struct loading *l, const struct paths *p, const char *word, struct err *e) MUST_USE;
void loading_free(struct loading *l);

// Asks for it and waits. `raw` (may be NULL) is shown every event instead of a bar. Fine where it is loaded already.
int loading_run(struct loading *l, struct api_client *api, api_event raw, void *arg, struct err *e) MUST_USE;
