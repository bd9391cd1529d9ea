#include "audit/proof.h"
#include "base/json.h"

#include <string.h>

static json_t *hash_json(const struct hash *h) {
    char text[MERKLE_HASH * 2];
    EVP_EncodeBlock((uint8_t *)text, h->b, MERKLE_HASH);
    return json_string(text);
}

static int hash_read(const json_t *v, struct hash *out) {
    const char *text = json_string_value(v);
    return text ? note_base64(text, strlen(text), out->b, MERKLE_HASH) : -1;
}

json_t *proof_json(const struct hash *path, int n) {
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, hash_json(&path[i]));
    return list;
}

int proof_read(const json_t *list, struct hash path[MERKLE_LEVELS], int *n, struct err *e) {
    size_t size = json_array_size(list);
    bool bad = !json_is_array(list) || size > MERKLE_LEVELS;
    for (size_t i = 0; i < size && !bad; i++) bad = hash_read(json_array_get(list, i), &path[i]) != 0;
    *n = bad ? 0 : (int)size;
    return bad ? err_param(e, "proof", "the proof is no list of hashes") : 0;
}

json_t *growth_json(const struct growth *g) {
    return json_pack("{s:I,s:o,s:o}", "size", (json_int_t)g->size, "root", hash_json(&g->root), "proof",
                     proof_json(g->path, g->n));
}

int growth_read(const json_t *o, struct growth *out, struct err *e) {
    int64_t size = -1;
    if (json_get_int(o, "size", 0, INT64_MAX >> 1, &size, e) ||
        proof_read(json_object_get(o, "proof"), out->path, &out->n, e))
        return -1;
    out->size = (uint64_t)size;
    if (size >= 0 && !hash_read(json_object_get(o, "root"), &out->root)) return 0;
    return err_param(e, "root", "a log's growth has a size and a root");
}

enum verdict growth_judge(const struct checkpoint *held, const struct checkpoint *head, const struct growth *g) {
    if (!held || !held->size) return g->size ? VERDICT_OTHER : VERDICT_GROWN;
    if (head->size < held->size) return VERDICT_SHRUNK;
    if (g->size != held->size) return VERDICT_OTHER;
    if (!merkle_consistent(g->size, &g->root, head->size, &head->root, g->path, g->n)) return VERDICT_FALSE;
    return memcmp(g->root.b, held->root.b, MERKLE_HASH) != 0 ? VERDICT_FORKED : VERDICT_GROWN;
}
