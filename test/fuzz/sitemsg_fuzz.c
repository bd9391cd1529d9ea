// serve/sitemsg: what another node orders of this one's models, and what it tells of its own. What is understood is in
// its range, and is written as it was read; what is refused names the member.
#include "base/json.h"
#include "engine/protocol.h"
#include "serve/sitemsg.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
    if (!holds) abort();
}

static bool refused(int rc, const struct err *e) {
    if (rc) must(e->code != ERR_NONE && e->msg[0] && !strchr(e->msg, '\n'));
    return rc != 0;
}

// As the link carries it. Takes wire over.
static json_t *carried(json_t *wire) {
    struct buf b;
    struct err e;
    json_t *got = NULL;
    size_t used = 0;
    buf_init(&b, LIMIT_PEER_MESSAGE);
    must(wire && !frame_append(&b, wire) && frame_take(b.data, b.len, b.len, &got, &used, &e) == 1 && used == b.len);
    json_decref(wire);
    buf_free(&b);
    return got;
}

// ---------------------------------------------------------------- orders
static void check_open(const json_t *msg) {
    struct place_spec spec, again;
    struct gen_request gen, same;
    struct err e = {.code = ERR_NONE};
    if (!refused(sitemsg_read_open(msg, &spec, &gen, &e), &e)) {
        must(gen.prompt && gen.n_stop <= LIMIT_STOP_STRINGS && spec.gen == &gen && spec.stream <= INT64_MAX);
        json_t *got = carried(sitemsg_write_open(7, &spec));
        must(!sitemsg_read_open(got, &again, &same, &e));
        must(!strcmp(spec.model, again.model) && !strcmp(spec.contract, again.contract));
        must(!strcmp(spec.weights, again.weights) && !strcmp(spec.from, again.from) && spec.stream == again.stream);
        must(gen.kind == same.kind && json_equal(gen.prompt, same.prompt) && gen.hold == same.hold);
        gen_request_free(&same);
        json_decref(got);
    }
    gen_request_free(&gen);
}

static void check_start(const json_t *msg) {
    struct sitemsg_start m, again;
    struct err e = {.code = ERR_NONE};
    if (refused(sitemsg_read_start(msg, &m, &e), &e)) return;
    must(m.from >= -1 && m.n >= 0 && m.n <= (int32_t)LIMIT_JSON_VALUES && (m.generated || !m.n));
    for (int32_t i = 0; i < m.n; i++) must(m.generated[i] >= 0);
    json_t *got = carried(sitemsg_write_start(m.generated, m.n, m.from));
    must(!sitemsg_read_start(got, &again, &e) && again.n == m.n && again.from == m.from);
    must(!m.n || !memcmp(m.generated, again.generated, (size_t)m.n * sizeof *m.generated));
    free(m.generated);
    free(again.generated);
    json_decref(got);
}

static void check_stream(const json_t *msg) {
    struct place_target to, again;
    struct err e = {.code = ERR_NONE};
    if (refused(sitemsg_read_stream(msg, &to, &e), &e)) return;
    must(to.first >= 0 && to.credits >= 0 && to.credits <= (int32_t)LIMIT_KV_CREDITS && to.stream <= INT64_MAX);
    json_t *got = carried(sitemsg_write_stream(&to));
    must(!sitemsg_read_stream(got, &again, &e) && !strcmp(to.node, again.node) && !strcmp(to.wire, again.wire));
    must(to.stream == again.stream && to.first == again.first && to.credits == again.credits);
    json_decref(got);
}

// ---------------------------------------------------------------- what is told
static void check_opened(const json_t *msg) {
    struct place_opened o, again;
    struct err e = {.code = ERR_NONE};
    int32_t *tokens, *same;
    if (refused(sitemsg_read_opened(msg, &o, &tokens, &e), &e)) {
        must(!tokens);
        return;
    }
    must(o.begin.cached_tokens >= 0 && o.begin.cached_tokens <= o.begin.prompt_tokens && o.begin.tokens == tokens);
    must(o.credits >= 0 && o.credits <= (int32_t)LIMIT_KV_CREDITS);
    json_t *got = carried(sitemsg_write_opened(&o));
    must(!sitemsg_read_opened(got, &again, &same, &e) && again.begin.prompt_tokens == o.begin.prompt_tokens);
    must(!tokens == !same && !strcmp(o.contract, again.contract) && !strcmp(o.weights, again.weights));
    must(!strcmp(o.emulated, again.emulated));
    if (tokens) must(!memcmp(tokens, same, (size_t)o.begin.prompt_tokens * sizeof *tokens));
    free(tokens);
    free(same);
    json_decref(got);
}

static void check_text(const json_t *msg) {
    struct sitemsg_text m, again;
    struct err e = {.code = ERR_NONE};
    if (refused(sitemsg_read_text(msg, &m, &e), &e)) return;
    must(m.text && m.tokens >= 0 && m.id >= -1);
    json_t *got = carried(sitemsg_write_text(&m));
    must(!sitemsg_read_text(got, &again, &e) && m.len == again.len && !memcmp(m.text, again.text, m.len));
    must(m.tokens == again.tokens && m.id == again.id);
    json_decref(got);
}

static void check_figures(const json_t *msg) {
    struct sitemsg_installed installed, installed2;
    struct sitemsg_paused paused, paused2;
    struct sitemsg_credit credit, credit2;
    struct err e = {.code = ERR_NONE};
    if (!refused(sitemsg_read_installed(msg, &installed, &e), &e)) {
        json_t *got = carried(sitemsg_write_installed(&installed));
        must(installed.upto >= 0 && !sitemsg_read_installed(got, &installed2, &e));
        must(installed.upto == installed2.upto && installed.bytes == installed2.bytes);
        must(strlen(installed.wire) < 8 && !strcmp(installed.wire, installed2.wire));
        json_decref(got);
    }
    if (!refused(sitemsg_read_paused(msg, &paused, &e), &e)) {
        json_t *got = carried(sitemsg_write_paused(&paused));
        must(paused.tokens >= 0 && paused.past >= 0 && !sitemsg_read_paused(got, &paused2, &e));
        must(paused.tokens == paused2.tokens && paused.past == paused2.past);
        json_decref(got);
    }
    if (!refused(sitemsg_read_credit(msg, &credit, &e), &e)) {
        json_t *got = carried(sitemsg_write_credit(&credit));
        must(credit.units >= 0 && credit.units <= (int32_t)LIMIT_KV_CREDITS);
        must(!sitemsg_read_credit(got, &credit2, &e) && credit.stream == credit2.stream);
        json_decref(got);
    }
}

static void check_ends(const json_t *msg) {
    struct gen_result r, again;
    struct err why, e = {.code = ERR_NONE};
    if (!refused(sitemsg_read_error(msg, &why, &e), &e)) json_decref(carried(sitemsg_write_error("site.failed", &why)));
    if (refused(sitemsg_read_ended(msg, &r, &e), &e)) return;
    json_t *got = carried(sitemsg_write_ended(&r));
    must(r.completion_tokens >= 0 && !sitemsg_read_ended(got, &again, &e));
    must(r.finish == again.finish && r.completion_tokens == again.completion_tokens);
    json_decref(got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const checks[])(const json_t *msg) = {check_open, check_start,   check_stream, check_opened,
                                                        check_text, check_figures, check_ends};
    struct err e;
    json_t *msg = json_parse((const char *)data, size, &e);
    must(sitemsg_number(msg) <= INT64_MAX);
    for (size_t i = 0; json_is_object(msg) && i < sizeof checks / sizeof *checks; i++) checks[i](msg);
    json_decref(msg);
    return 0;
}
