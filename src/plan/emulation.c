#include "plan/emulation.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double SCALE_MIN = 1e-3, SCALE_MAX = 1e4;

static int parse_scale(const char *text, double *out, struct err *e) {
    char *end;
    double v = strtod(text, &end);
    bool number = isdigit((unsigned char)*text) && !*end && isfinite(v);
    if (!number || v < SCALE_MIN || v > SCALE_MAX)
        return err_param(e, "emulate", "emulate: a scale is a number from %g to %g, not '%.20s'", SCALE_MIN, SCALE_MAX,
                         text);
    *out = v;
    return 0;
}

int emulation_parse(struct emulation *out, const char *text, struct err *e) {
    char word[EMULATION_TEXT];
    memset(out, 0, sizeof *out);
    if (strlen(text) >= sizeof word)
        return err_param(e, "emulate", "emulate has at most %d bytes: DEVICE[:SCALE][@MODEL]", EMULATION_TEXT - 1);
    snprintf(out->text, sizeof out->text, "%s", text);
    snprintf(word, sizeof word, "%s", text);
    char *model = strchr(word, '@');
    if (model) *model++ = 0;
    char *scale = strchr(word, ':');
    if (scale) *scale++ = 0;
    out->scale = 1;
    out->named = model;
    out->device = device_find(word, e);
    if (!out->device || (scale && parse_scale(scale, &out->scale, e))) return -1;
    return model ? plan_shape_find(model, &out->shape, e) : 0;
}

void emulation_profile(const struct emulation *x, const struct plan_shape *loaded, enum dtype kv, struct profile *out) {
    profile_of_device(out, x->device, x->named ? &x->shape : loaded, kv);
    out->prefill_base *= x->scale;
    out->prefill_token *= x->scale;
    out->prefill_pair *= x->scale;
    out->decode_base *= x->scale;
    out->decode_token *= x->scale;
}
