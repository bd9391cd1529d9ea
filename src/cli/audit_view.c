#include "cli/audit_view.h"
#include "base/json.h"
#include "base/text.h"
#include "cli/term.h"

#include <string.h>
#include <unistd.h>

int audit_view_write(const json_t *audit, FILE *out, struct err *e) {
    int64_t records = 0, tail = 0, witnesses = 0, mirrored = 0, mirrors = 0;
    double age_s = 0;
    const char *trouble = NULL;
    char age[SIZE_TEXT], safe[ESCAPED_MAX];
    if (!json_is_object(audit)) return 0;
    if (json_get_int(audit, "records", 0, INT64_MAX, &records, e) ||
        json_get_int(audit, "tail", 0, INT64_MAX, &tail, e) ||
        json_get_int(audit, "witnesses", 0, INT64_MAX, &witnesses, e) ||
        json_get_int(audit, "mirrored", 0, INT64_MAX, &mirrored, e) ||
        json_get_int(audit, "mirrors", 0, INT64_MAX, &mirrors, e) ||
        json_get_real(audit, "tail_age_s", 0, 1e12, &age_s, e) || json_get_string(audit, "trouble", &trouble, e))
        return -1;
    fprintf(out, "  audit log: %lld records", (long long)records);
    if (!tail)
        fprintf(out, ", all counter-signed by other nodes\n");
    else if (witnesses)
        fprintf(out, ", the last %lld not counter-signed by another node, for %s\n", (long long)tail,
                term_duration(age, (uint64_t)age_s));
    else
        fprintf(out, ", counter-signed by no other node\n");
    if (mirrors)
        fprintf(out, "  mirrored by %lld other node%s, the first %lld records\n", (long long)mirrors,
                mirrors > 1 ? "s" : "", (long long)mirrored);
    if (!trouble) return 0;
    text_escape(safe, sizeof safe, trouble);
    fprintf(out, "%s  %s%s\n", term_style(STDOUT_FILENO, STYLE_RED), safe, term_style(STDOUT_FILENO, STYLE_END));
    return 0;
}

int audit_view_mirror(const json_t *peer_audit, const char *name, FILE *out, struct err *e) {
    int64_t held = 0, mirrored = 0, bytes = 0;
    bool full = false;
    char size[SIZE_TEXT], safe[ESCAPED_MAX];
    if (!json_is_object(peer_audit)) return 0;
    if (json_get_int(peer_audit, "held", 0, INT64_MAX, &held, e) ||
        json_get_int(peer_audit, "mirrored", 0, INT64_MAX, &mirrored, e) ||
        json_get_int(peer_audit, "mirror_bytes", 0, INT64_MAX, &bytes, e) ||
        json_get_bool(peer_audit, "mirror_full", &full, e))
        return -1;
    if (!held) return 0;
    text_escape(safe, sizeof safe, name);
    fprintf(out, "  mirror of %s here: %lld of %lld counter-signed records, %s%s\n", safe, (long long)mirrored,
            (long long)held, term_size(size, (uint64_t)bytes), full ? "; no room for more (audit_mirrors)" : "");
    return 0;
}

const char *audit_view_finding(const json_t *peer_audit) {
    static const struct {
        const char *finding, *text;
    } table[] = {{"forked", "has signed two histories of its audit log: the proof is in state/audit/witnessed"},
                 {"shrunk", "has lost records of its audit log that this node has counter-signed"},
                 {"damaged", "is not witnessed: what this node holds of its audit log is damaged"}};
    const char *finding = json_string_value(json_object_get(peer_audit, "finding"));
    for (size_t i = 0; finding && i < sizeof table / sizeof *table; i++)
        if (!strcmp(finding, table[i].finding)) return table[i].text;
    return NULL;
}
