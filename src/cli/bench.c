// nebulus bench link PEER: how fast KV rows go to another node.
#include "base/json.h"
#include "base/text.h"
#include "cli/api_client.h"
#include "cli/command.h"
#include "cli/term.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

static const struct option options[] = {{.name = "seconds",
                                         .type = OPTION_REAL,
                                         .min = 0.05,
                                         .max = 10,
                                         .placeholder = "S",
                                         .help = "how long bytes are sent (2)"},
                                        OPTION_JSON};

// "/nebulus/v1/links/NODE/bench", for any name.
static int path_of(const char *node, char *out, size_t size, struct err *e) {
    char *quoted = *node ? curl_easy_escape(NULL, node, 0) : NULL;
    int n = quoted ? snprintf(out, size, "/nebulus/v1/links/%s/bench", quoted) : -1;
    curl_free(quoted);
    return n > 0 && (size_t)n < size ? 0 : err_set(e, ERR_INVALID, "'%.60s' is no node's name", node);
}

static int print(const json_t *answer, struct err *e) {
    const char *node = "?";
    json_t *cpu = NULL;
    int64_t bytes = 0;
    double seconds = 0, gbit = 0, rtt = 0, here = 0, there = 0;
    char safe[ESCAPED_MAX], size[SIZE_TEXT];
    if (json_get_string(answer, "node", &node, e) || json_get_int(answer, "bytes", 0, INT64_MAX, &bytes, e) ||
        json_get_real(answer, "seconds", 0, 1e6, &seconds, e) || json_get_real(answer, "gbit_s", 0, 1e9, &gbit, e) ||
        json_get_real(answer, "rtt_ms", 0, 1e9, &rtt, e) || json_get_object(answer, "cpu_s_per_gb", &cpu, e) ||
        json_get_real(cpu, "here", 0, 1e9, &here, e) || json_get_real(cpu, "there", 0, 1e9, &there, e))
        return -1;
    text_escape(safe, sizeof safe, node);
    printf("to %s: %.3g Gbit/s (%s in %.2f s), CPU %.2f s/GB here and %.2f s/GB there, RTT %.2f ms\n", safe, gbit,
           term_size(size, (uint64_t)bytes), seconds, here, there, rtt);
    return 0;
}

static int run(struct invocation *in) {
    struct err e = {.code = ERR_NONE};
    json_t *answer = NULL, *body = json_pack("{s:f}", "seconds", args_real(&in->args, "seconds", 2));
    char path[1024];
    if (strcmp(in->args.words[0], "link") != 0) {
        json_decref(body);
        err_set(&e, ERR_INVALID, "`nebulus bench` measures a link: `nebulus bench link PEER`, not '%.60s'",
                in->args.words[0]);
        return cli_usage(in->command, &e);
    }
    struct api_client *api = NULL;
    int rc = path_of(in->args.words[1], path, sizeof path, &e) || !(api = api_open(in->settings.api, &e)) ||
             api_post(api, path, body, &answer, &e);
    if (!rc) rc = args_has(&in->args, "json") ? term_print_json(json_incref(answer), &e) : print(answer, &e);
    json_decref(answer);
    json_decref(body);
    api_close(api);
    return rc ? cli_fail(&e) : CLI_OK;
}

const struct command command_bench = {
    .name = "bench",
    .group = "Cluster",
    .arguments = "link PEER",
    .summary = "Measure how fast KV rows go to another node",
    .details = "Bytes that mean nothing go from the daemon's node to PEER over the connections that carry KV rows: "
               "encrypted,\n"
               "checked, and received by PEER, which says how many came in what time. CPU seconds are those of the "
               "connections'\n"
               "threads. A link that running jobs use is left alone. What is measured is kept for kv_wire = auto.",
    .min_words = 2,
    .max_words = 2,
    .completes = COMPLETES_WORDS,
    .words = "link",
    .options = options,
    .n_options = COUNT_OF(options),
    .settings = SETTINGS_API,
    .run = run,
};
