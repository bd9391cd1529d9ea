#include "engine/worker/logs.h"
#include "engine/worker/model.h"

#include <stdio.h>
#include <string.h>

void backends_init(void) {
    logs_capture();
    if (NEBULUS_BACKEND_DIR[0])
        ggml_backend_load_all_from_path(NEBULUS_BACKEND_DIR);
    else
        ggml_backend_load_all();
    llama_backend_init();
}

void backends_name(char *out, size_t size) {
    out[0] = 0;
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        size_t n = strlen(out);
        snprintf(out + n, size - n, "%s%s", i ? ", " : "", ggml_backend_dev_name(ggml_backend_dev_get(i)));
    }
}
