#include "engine/worker/prompt.h"
#include "engine/worker/detok.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum { ECHO_MAX = LIMIT_IPC_FROM_WORKER / 8 }; // JSON may need six bytes for one

void prompt_close(struct prompt *p) {
    free(p->tokens);
    buf_free(&p->text);
    p->tokens = NULL;
}

static int render_chat(struct prompt *p, const struct model *m, const struct gen_request *r, struct err *e) {
    if (!m->chat) return err_param(e, "messages", "this model cannot chat: %s", m->chat_why);
    const json_t *tools = json_object_get(r->template_args, "tools");
    const json_t *open = json_object_get(r->template_args, "add_generation_prompt");
    return chat_template_render(m->chat, r->prompt, tools, r->template_args, !json_is_false(open), &p->text, e);
}

// What the tokenizer adds too much: the BOS that a rendered chat usually has already, the EOS of a text that is to go
// on.
static void drop_added(struct prompt *p, const struct llama_vocab *vocab) {
    llama_token bos = llama_vocab_bos(vocab), eos = llama_vocab_eos(vocab);
    if (llama_vocab_get_add_eos(vocab) && p->n > 0 && p->tokens[p->n - 1] == eos) p->n--;
    if (!llama_vocab_get_add_bos(vocab) || p->n < 2 || p->tokens[0] != bos || p->tokens[1] != bos) return;
    p->n--;
    memmove(p->tokens, p->tokens + 1, (size_t)p->n * sizeof *p->tokens);
}

static int tokenize(struct prompt *p, const struct llama_vocab *vocab, struct err *e) {
    if (p->text.len > INT_MAX / 2) return err_param(e, "prompt", "the prompt has %zu bytes", p->text.len);
    int32_t len = (int32_t)p->text.len,
            room = len + 8; // a token covers at least one byte, but for BOS and a leading space
    for (int attempt = 0; attempt < 2; attempt++) {
        llama_token *tokens = realloc(p->tokens, (size_t)room * sizeof *tokens);
        if (!tokens) return err_set(e, ERR_INTERNAL, "out of memory for a prompt of %d bytes", len);
        p->tokens = tokens;
        p->n = llama_tokenize(vocab, buf_str(&p->text), len, p->tokens, room, true, true);
        if (p->n >= 0) return 0;
        if (p->n == INT32_MIN) break;
        room = -p->n;
    }
    return err_set(e, ERR_INTERNAL, "the prompt cannot be tokenized");
}

static int take_tokens(struct prompt *p, const struct model *m, const json_t *list, struct err *e) {
    size_t n = json_array_size(list);
    if (n > (size_t)m->info.ctx) n = (size_t)m->info.ctx; // refused below, by its true size
    p->tokens = malloc((n + 1) * sizeof *p->tokens);
    if (!p->tokens) return err_set(e, ERR_INTERNAL, "out of memory for a prompt of %zu tokens", n);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        json_int_t token = json_integer_value(v);
        if (!json_is_integer(v) || token < 0 || token >= m->info.vocab)
            return err_param(e, "prompt", "prompt[%zu] is not a token of this model (0 to %d)", i, m->info.vocab - 1);
        p->tokens[i] = (llama_token)token;
    }
    p->n = (int32_t)(json_array_size(list) < INT_MAX ? json_array_size(list) : INT_MAX);
    return 0;
}

// For `echo` of token prompts.
static int detokenize(struct prompt *p, const struct model *m, struct err *e) {
    struct detok detok;
    struct buf piece;
    detok_init(&detok, NULL, 0);
    buf_init(&piece, DETOK_PIECE);
    for (int32_t i = 0; i < p->n; i++) {
        model_piece(m, p->tokens[i], true, &piece);
        detok_push(&detok, buf_str(&piece), piece.len, &p->text);
    }
    detok_flush(&detok, &p->text);
    detok_close(&detok);
    buf_free(&piece);
    return p->text.failed ? err_set(e, ERR_LIMIT, "the prompt's text has more than %zu bytes", p->text.max) : 0;
}

// The request's member that the prompt comes from.
static const char *member_of(enum prompt_kind kind) { return kind == PROMPT_CHAT ? "messages" : "prompt"; }

// Tokenizing megabytes takes a tokenizer minutes; what cannot fit even in the longest tokens need not be tried.
static int check_length(const struct prompt *p, const struct model *m, enum prompt_kind kind, struct err *e) {
    size_t most = (size_t)m->info.ctx * m->longest;
    if (p->text.len <= most) return 0;
    err_param(e, member_of(kind),
              "the prompt has %zu bytes, the context of %d tokens holds %zu at the very most; shorten it or raise ctx",
              p->text.len, m->info.ctx, most);
    if (e) e->code = ERR_LIMIT;
    return -1;
}

static int build(struct prompt *p, const struct model *m, const struct gen_request *r, struct err *e) {
    if (r->kind == PROMPT_TOKENS) return take_tokens(p, m, r->prompt, e);
    if (r->kind == PROMPT_CHAT) {
        if (render_chat(p, m, r, e)) return -1;
    } else if (buf_append(&p->text, json_string_value(r->prompt), json_string_length(r->prompt))) {
        return err_param(e, "prompt", "the prompt has more than %u bytes", LIMIT_TEMPLATE_OUTPUT);
    }
    if (check_length(p, m, r->kind, e) || tokenize(p, m->vocab, e)) return -1;
    drop_added(p, m->vocab);
    return 0;
}

int prompt_build(struct prompt *p, const struct model *m, const struct gen_request *r, struct err *e) {
    *p = (struct prompt){.n = 0};
    buf_init(&p->text, LIMIT_TEMPLATE_OUTPUT);
    const char *member = member_of(r->kind);
    if (build(p, m, r, e)) return -1;
    if (!p->n) return err_param(e, member, "the prompt is empty: this model needs at least one token to begin with");
    if (p->n >= m->info.ctx) {
        err_param(e, member, "the prompt has %d tokens, the context holds %d with the answer; shorten it or raise ctx",
                  p->n, m->info.ctx);
        if (e) e->code = ERR_LIMIT;
        return -1;
    }
    if (!r->echo_prompt) return 0;
    if (r->kind == PROMPT_TOKENS && detokenize(p, m, e)) return -1;
    if (p->text.len <= ECHO_MAX) return 0;
    err_param(e, "echo", "the prompt has %zu bytes, too many to echo; at most %d", p->text.len, ECHO_MAX);
    if (e) e->code = ERR_LIMIT;
    return -1;
}
