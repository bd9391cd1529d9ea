#include "cluster/linkmsg.h"
#include "base/json.h"

#include <string.h>

static const char prefix[] = "peer.";
static const char *const types[] = {[LINKMSG_HELLO] = "peer.hello",
                                    [LINKMSG_UP] = "peer.up",
                                    [LINKMSG_REFUSE] = "peer.refuse",
                                    [LINKMSG_BEAT] = "peer.beat",
                                    [LINKMSG_ECHO] = "peer.echo"};
enum { TYPES = sizeof types / sizeof types[0] };
static const int64_t MOST = (1ll << 53) - 1;

json_t *linkmsg_write(const struct linkmsg *m) {
    const char *t = types[m->type];
    switch (m->type) {
    case LINKMSG_HELLO:
        return json_pack("{s:s, s:i, s:s, s:s, s:I, s:I, s:O}", "t", t, "version", LINKMSG_VERSION, "id", m->id, "name",
                         m->name, "boot", (json_int_t)m->boot, "lost", (json_int_t)m->lost, "about", m->about);
    case LINKMSG_UP: return json_pack("{s:s, s:I}", "t", t, "link", (json_int_t)m->n);
    case LINKMSG_REFUSE: return json_pack("{s:s, s:s, s:s}", "t", t, "code", err_name(m->code), "msg", m->msg);
    case LINKMSG_BEAT:
    case LINKMSG_ECHO: return json_pack("{s:s, s:I}", "t", t, "n", (json_int_t)m->n);
    case LINKMSG_USERS: break;
    }
    return NULL;
}

static int get_text(const json_t *msg, const char *name, const char **out, struct err *e) {
    *out = NULL;
    if (json_get_string(msg, name, out, e)) return -1;
    return *out ? 0 : err_param(e, name, "'%s' is missing", name);
}

static int get_number(const json_t *msg, const char *name, int64_t min, uint64_t *out, struct err *e) {
    int64_t n = -1;
    if (json_get_int(msg, name, min, MOST, &n, e)) return -1;
    if (n < 0) return err_param(e, name, "'%s' is missing", name);
    *out = (uint64_t)n;
    return 0;
}

static int read_hello(const json_t *msg, struct linkmsg *m, struct err *e) {
    uint64_t version = 0;
    if (get_number(msg, "version", 0, &version, e)) return -1;
    if (version != LINKMSG_VERSION)
        return err_set(e, ERR_INVALID, "it speaks version %llu of the link and this node version %d: update the older",
                       (unsigned long long)version, LINKMSG_VERSION);
    if (get_text(msg, "id", &m->id, e) || get_text(msg, "name", &m->name, e) ||
        get_number(msg, "boot", 1, &m->boot, e) || get_number(msg, "lost", 0, &m->lost, e) ||
        json_get_object(msg, "about", &m->about, e))
        return -1;
    return m->about ? 0 : err_param(e, "about", "'about' is missing");
}

static int read_refusal(const json_t *msg, struct linkmsg *m, struct err *e) {
    const char *code;
    if (get_text(msg, "code", &code, e) || get_text(msg, "msg", &m->msg, e)) return -1;
    m->code = err_code_of(code);
    return 0;
}

int linkmsg_read(const json_t *msg, struct linkmsg *m, struct err *e) {
    *m = (struct linkmsg){.type = LINKMSG_USERS};
    const char *t = json_string_value(json_object_get(msg, "t"));
    if (!t || strncmp(t, prefix, sizeof prefix - 1)) return 0;
    int type = LINKMSG_HELLO;
    while (type < TYPES && strcmp(t, types[type])) type++;
    switch (type) {
    case LINKMSG_HELLO: m->type = LINKMSG_HELLO; return read_hello(msg, m, e);
    case LINKMSG_UP: m->type = LINKMSG_UP; return get_number(msg, "link", 1, &m->n, e);
    case LINKMSG_REFUSE: m->type = LINKMSG_REFUSE; return read_refusal(msg, m, e);
    case LINKMSG_BEAT: m->type = LINKMSG_BEAT; return get_number(msg, "n", 1, &m->n, e);
    case LINKMSG_ECHO: m->type = LINKMSG_ECHO; return get_number(msg, "n", 1, &m->n, e);
    default: return err_set(e, ERR_INVALID, "a message of the unknown type %.40s", t);
    }
}
