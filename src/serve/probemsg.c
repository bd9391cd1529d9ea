#include "serve/probemsg.h"
#include "base/json.h"
#include "base/limits.h"
#include "engine/protocol.h"

#include <string.h>

static const char prefix[] = "link.";
static const char *const types[PROBEMSG_TYPES] = {"link.probe", "link.ready", "link.refused", "link.sent",
                                                  "link.report"};
static const int64_t MOST_N = (1ll << 53) - 1, MOST_NS = 3600ll * 1000000000;

json_t *probemsg_write(const struct probemsg *m) {
    json_t *o = json_pack("{s:s, s:I}", "t", types[m->type], "n", (json_int_t)m->n);
    json_t *more = NULL;
    switch (m->type) {
    case PROBEMSG_ASK: more = json_pack("{s:I, s:I}", "bytes", (json_int_t)m->bytes, "ms", (json_int_t)m->ms); break;
    case PROBEMSG_SENT: more = json_pack("{s:I}", "bytes", (json_int_t)m->bytes); break;
    case PROBEMSG_REPORT:
        more = json_pack("{s:I, s:I, s:I, s:I}", "total", (json_int_t)m->figures.total, "bytes",
                         (json_int_t)m->figures.bytes, "ns", (json_int_t)m->figures.ns, "cpu_ns",
                         (json_int_t)m->figures.cpu_ns);
        break;
    case PROBEMSG_REFUSED: more = json_pack("{s:o}", "error", error_encode(0, &m->why)); break;
    default: return o;
    }
    int rc = o && more ? json_object_update(o, more) : -1;
    json_decref(more);
    if (!rc) return o;
    json_decref(o);
    return NULL;
}

bool probemsg_is(const char *type) { return !strncmp(type, prefix, sizeof prefix - 1); }

static int get_count(const json_t *msg, const char *name, int64_t min, int64_t max, uint64_t *out, struct err *e) {
    int64_t v = -1;
    if (json_get_int(msg, name, min, max, &v, e)) return -1;
    if (v < 0) return err_param(e, name, "'%s' is missing", name);
    *out = (uint64_t)v;
    return 0;
}

static int get_figures(const json_t *msg, struct burst_figures *f, struct err *e) {
    if (get_count(msg, "total", 0, LIMIT_PROBE_BYTES, &f->total, e) ||
        get_count(msg, "bytes", 0, LIMIT_PROBE_BYTES, &f->bytes, e) || get_count(msg, "ns", 0, MOST_NS, &f->ns, e) ||
        get_count(msg, "cpu_ns", 0, MOST_NS, &f->cpu_ns, e))
        return -1;
    if (f->bytes > f->total) return err_param(e, "bytes", "more bytes were measured than have arrived");
    if (!f->bytes != !f->ns) return err_param(e, "ns", "bytes without a time, or a time without bytes");
    if ((double)f->bytes * 1e9 <= (double)f->ns * LIMIT_LINK_RATE) return 0;
    return err_param(e, "ns", "no link is as fast as %g bytes per second", (double)f->bytes * 1e9 / (double)f->ns);
}

int probemsg_read(const json_t *msg, struct probemsg *m, struct err *e) {
    const char *t = json_string_value(json_object_get(msg, "t"));
    int type = 0;
    *m = (struct probemsg){.n = 0};
    while (type < PROBEMSG_TYPES && (!t || strcmp(t, types[type]) != 0)) type++;
    if (type == PROBEMSG_TYPES) return err_param(e, "t", "no message of a measurement");
    m->type = (enum probemsg_type)type;
    if (get_count(msg, "n", 1, MOST_N, &m->n, e)) return -1;
    switch (m->type) {
    case PROBEMSG_ASK:
        return get_count(msg, "bytes", 1, LIMIT_PROBE_BYTES, &m->bytes, e) ||
                       get_count(msg, "ms", 1, LIMIT_PROBE_SECONDS * 1000, &m->ms, e)
                   ? -1
                   : 0;
    case PROBEMSG_SENT: return get_count(msg, "bytes", 0, LIMIT_PROBE_BYTES, &m->bytes, e);
    case PROBEMSG_REPORT: return get_figures(msg, &m->figures, e);
    case PROBEMSG_REFUSED: return error_decode(json_object_get(msg, "error"), &m->why, e);
    default: return 0;
    }
}
