#include "serve/told.h"
#include "engine/client.h"

#include <string.h>

static bool has(const json_t *model, const char *member, const char *value) {
    const char *said = json_string_value(json_object_get(model, member));
    return said && !strcmp(said, value);
}

static const json_t *find(const json_t *models, const char *name, const char *state) {
    size_t i;
    const json_t *one;
    json_array_foreach(models, i, one) {
        if (has(one, "name", name) && (!state || has(one, "state", state))) return one;
    }
    return NULL;
}

const json_t *told_model(const json_t *models, const char *name) { return find(models, name, NULL); }

const json_t *told_ready(const json_t *models, const char *name) {
    return find(models, name, engine_state_name(ENGINE_READY));
}
