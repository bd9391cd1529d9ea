#include "audit/fork.h"
#include "base/json.h"

#include <string.h>

json_t *fork_json(const struct fork *f) {
    char vkey[NOTE_VKEY];
    note_vkey(f->key, vkey);
    return json_pack("{s:i,s:s,s:s,s:s%,s:s%,s:o,s:O?}", "v", 1, "type", "fork", "key", vkey, "held", f->held,
                     f->held_len, "head", f->head, f->head_len, "growth", growth_json(f->growth), "roster", f->roster);
}

int fork_verify(const json_t *proof, const uint8_t *root, struct verified *out, uint64_t *parted, struct err *e) {
    const char *type = "", *vkey = NULL, *held_note = NULL, *head_note = NULL;
    json_t *roster = NULL;
    int64_t v = 0;
    struct growth g;
    struct checkpoint held, head;
    *out = (struct verified){.checkpoints = 2};
    if (json_get_int(proof, "v", 1, 1, &v, e) || json_get_string(proof, "type", &type, e) ||
        json_get_string(proof, "key", &vkey, e) || json_get_string(proof, "held", &held_note, e) ||
        json_get_string(proof, "head", &head_note, e) || json_get_object(proof, "roster", &roster, e) ||
        growth_read(json_object_get(proof, "growth"), &g, e))
        return -1;
    if (!v || strcmp(type, "fork") != 0 || !vkey || !held_note || !head_note)
        return err_set(e, ERR_INVALID, "this is no proof of a fork: a member is missing");
    if (note_vkey_read(vkey, strlen(vkey), &out->key, e) ||
        checkpoint_verify(held_note, strlen(held_note), &out->key, &held, e) ||
        checkpoint_verify(head_note, strlen(head_note), &out->key, &head, e))
        return -1;
    *parted = held.size;
    out->records = head.size;
    if (growth_judge(&held, &head, &g) != VERDICT_FORKED)
        return err_set(e, ERR_INVALID, "this proves nothing: the two checkpoints may be of one history of %s",
                       out->key.name);
    return verify_vouched(roster, root, out, e);
}
