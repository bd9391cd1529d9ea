#include "serve/jobs.h"
#include "base/clock.h"
#include "serve/course.h"

json_t *jobs_json(const struct serve *s) {
    json_t *list = json_array();
    uint64_t now = clock_mono_ns();
    for (const struct course *c = course_next(s, NULL); c; c = course_next(s, c)) {
        struct course_view v;
        course_look(c, now, &v);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:f, s:f}", "id", v.id, "agent",
                                        v.agent, "model", v.model, "prefill", v.prefill, "decode", v.decode, "speaker",
                                        v.speaker, "phase", v.phase, "prompt_tokens", (int)v.prompt_tokens,
                                        "completion_tokens", (int)v.tokens, "tokens_s", v.tokens_s, "age_s", v.age_s));
    }
    return list;
}
