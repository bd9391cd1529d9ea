#include "audit/fork.h"
#include "base/json.h"

#include <inttypes.h>
#include <string.h>

static json_t *pair_json(const struct fork *f, const char *type) {
    char vkey[NOTE_VKEY];
    note_vkey(f->key, vkey);
    return json_pack("{s:i,s:s,s:s,s:s%,s:s%,s:o,s:O?}", "v", 1, "type", type, "key", vkey, "held", f->held,
                     f->held_len, "head", f->head, f->head_len, "growth", growth_json(f->growth), "roster", f->roster);
}

json_t *fork_json(const struct fork *f) { return pair_json(f, "fork"); }
json_t *growth_proof(const struct fork *f) { return pair_json(f, "growth"); }

struct pair { // two checkpoints of a log, and what leads from one to the other
    struct checkpoint held, head;
    struct growth growth;
    json_t *roster; // borrowed
};

static int pair_read(const json_t *proof, const char *type, struct pair *p, struct verified *out, struct err *e) {
    const char *said = "", *vkey = NULL, *held = NULL, *head = NULL;
    int64_t v = 0;
    *out = (struct verified){.checkpoints = 2};
    p->roster = NULL;
    if (json_get_int(proof, "v", 1, 1, &v, e) || json_get_string(proof, "type", &said, e) ||
        json_get_string(proof, "key", &vkey, e) || json_get_string(proof, "held", &held, e) ||
        json_get_string(proof, "head", &head, e) || json_get_object(proof, "roster", &p->roster, e) ||
        growth_read(json_object_get(proof, "growth"), &p->growth, e))
        return -1;
    if (!v || strcmp(said, type) != 0 || !vkey || !held || !head)
        return err_set(e, ERR_INVALID, "this is no proof of a %s: a member is missing", type);
    if (note_vkey_read(vkey, strlen(vkey), &out->key, e) ||
        checkpoint_verify(held, strlen(held), &out->key, &p->held, e) ||
        checkpoint_verify(head, strlen(head), &out->key, &p->head, e))
        return -1;
    out->records = p->head.size;
    return 0;
}

int fork_verify(const json_t *proof, const uint8_t *root, struct verified *out, uint64_t *parted, struct err *e) {
    struct pair p;
    if (pair_read(proof, "fork", &p, out, e)) return -1;
    *parted = p.held.size;
    if (growth_judge(&p.held, &p.head, &p.growth) != VERDICT_FORKED)
        return err_set(e, ERR_INVALID, "this proves nothing: the two checkpoints may be of one history of %s",
                       out->key.name);
    return verify_vouched(p.roster, root, out, e);
}

int growth_verify(const json_t *proof, const uint8_t *root, struct verified *out, uint64_t *from, struct err *e) {
    struct pair p;
    if (pair_read(proof, "growth", &p, out, e)) return -1;
    *from = p.held.size;
    if (!p.held.size || growth_judge(&p.held, &p.head, &p.growth) != VERDICT_GROWN)
        return err_set(e, ERR_INVALID, "this proves nothing: %s may have had other records before record %" PRIu64,
                       out->key.name, p.held.size);
    return verify_vouched(p.roster, root, out, e);
}
