// serve/probemsg: what another node says about a measurement. What is understood fits together and is within the
// bounds, and is written as it was read; what is refused names the member.
#include "base/json.h"
#include "base/limits.h"
#include "serve/probemsg.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
    if (!holds) abort();
}

static void check(const json_t *msg) {
    struct probemsg m, again;
    struct err e = {.code = ERR_NONE};
    if (probemsg_read(msg, &m, &e)) {
        must(e.code != ERR_NONE && e.msg[0] && !strchr(e.msg, '\n'));
        return;
    }
    must(m.n > 0 && m.bytes <= LIMIT_PROBE_BYTES && m.ms <= LIMIT_PROBE_SECONDS * 1000);
    must(m.figures.bytes <= m.figures.total && m.figures.total <= LIMIT_PROBE_BYTES);
    must(!m.figures.bytes == !m.figures.ns);
    must((double)m.figures.bytes * 1e9 <= (double)m.figures.ns * LIMIT_LINK_RATE);
    must(m.type != PROBEMSG_ASK || (m.bytes && m.ms));
    json_t *wire = probemsg_write(&m);
    must(wire && !probemsg_read(wire, &again, &e));
    must(m.type == again.type && m.n == again.n && m.bytes == again.bytes && m.ms == again.ms);
    must(!memcmp(&m.figures, &again.figures, sizeof m.figures) && m.why.code == again.why.code);
    json_decref(wire);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct err e;
    json_t *msg = json_parse((const char *)data, size, &e);
    if (json_is_object(msg)) check(msg);
    json_decref(msg);
    return 0;
}
