#include "engine/worker/worker.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/worker/compute.h"
#include "engine/worker/control.h"
#include "engine/worker/heart.h"
#include "engine/worker/inspect.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/prctl.h>
#endif

enum { DAEMON_FD = 3, CONTROL_STACK = 8 << 20 };

// ---------------------------------------------------------------- the process
static void become_worker(void) {
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); // elsewhere the socket's end is all that tells of the daemon's death
#endif
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); // a dump would hold the prompts
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, SIG_IGN); // a terminal sends it to the whole group; the daemon decides
}

static bool is_socket(int fd) {
    int type;
    socklen_t len = sizeof type;
    return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
}

// ---------------------------------------------------------------- loading
struct loading {
    struct channel *channel;
    uint64_t told;
};

static bool tell_progress(float fraction, void *arg) {
    struct loading *l = arg;
    uint64_t now = clock_mono_ns();
    if (now - l->told < 50 * NS_PER_MS) return true;
    l->told = now;
    return !channel_send(l->channel, json_pack("{s:s, s:f}", "t", "progress", "f", (double)fraction));
}

// Reads the daemon's first message, which says what to load. 0 where the daemon left instead.
static int receive_options(struct channel *c, struct engine_options *o, struct err *e) {
    json_t *msg;
    int rc = channel_read(c, &msg, e);
    if (rc <= 0) return rc;
    const char *type = json_string_value(json_object_get(msg, "t"));
    if (!type || strcmp(type, "load"))
        rc = err_set(e, ERR_INVALID, "the first message must be 'load'");
    else if (load_decode(msg, o, e))
        rc = -1;
    json_decref(msg);
    return rc;
}

// ---------------------------------------------------------------- serving
static int run_threads(struct control *control, struct heart *heart, const struct engine_options *o, struct err *e) {
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, CONTROL_STACK); // templates recurse, and some systems give threads little
    int rc = pthread_create(&thread, &attr, control_run, control);
    pthread_attr_destroy(&attr);
    if (rc) return err_set(e, ERR_INTERNAL, "cannot start a thread: %s", strerror(rc));
    struct compute_options how = {o->step_ms, o->keep, &heart->compute};
    rc = compute_run(control->model, control->queue, control->channel, control->blocks, &how, e);
    shutdown(control->channel->fd, SHUT_RD); // wakes the control thread, unless it is what ended this
    pthread_join(thread, NULL);
    return rc;
}

static int serve(struct model *m, struct channel *channel, const struct engine_options *o, struct err *e) {
    struct queue queue;
    struct blocks blocks;
    struct heart heart;
    struct control control = {channel, m, &queue, &blocks, m->info.parallel + (o->queue > 0 ? o->queue : 0)};
    queue_init(&queue);
    blocks_init(&blocks);
    int rc = heart_start(&heart, channel, &queue, HEART_MS, e);
    if (!rc) {
        channel->waits = heart_reader;
        channel->arg = &heart;
        rc = run_threads(&control, &heart, o, e);
        heart_stop(&heart);
    }
    queue_close(&queue);
    blocks_close(&blocks);
    return rc;
}

// Fills o and m. 0 where the daemon left before it said what to load.
static int load(struct channel *channel, struct engine_options *o, struct model *m, struct err *e) {
    struct loading loading = {channel, 0};
    int rc = receive_options(channel, o, e);
    if (rc <= 0) return rc;
    char prefix[64];
    snprintf(prefix, sizeof prefix, "worker %.50s", o->model_name);
    log_set_prefix(prefix);
    backends_init();
    return model_load(m, o, tell_progress, &loading, e) ? -1 : 1;
}

static int run(void) {
    struct channel channel;
    struct engine_options o;
    struct model model;
    struct err e = {.code = ERR_NONE};
    if (!is_socket(DAEMON_FD)) {
        fprintf(stderr,
                "nebulus worker is started by `nebulus serve`; by hand only --inspect FILE and --devices are of use\n");
        return 2;
    }
    become_worker();
    channel_init(&channel, DAEMON_FD);
    int rc = load(&channel, &o, &model, &e);
    if (rc < 0) channel_send(&channel, error_encode(0, &e));
    if (rc > 0) {
        rc = channel_send(&channel, info_encode(&model.info)) ? 0 : serve(&model, &channel, &o, &e);
        model_close(&model);
    }
    if (rc < 0) log_error("%s", e.msg);
    channel_close(&channel);
    return rc < 0 ? 1 : 0;
}

int worker_main(int argc, char **argv) {
    if (argc == 1) return run();
    if (argc == 3 && !strcmp(argv[1], "--inspect")) return inspect_file(argv[2]);
    if (argc == 2 && !strcmp(argv[1], "--devices")) return inspect_devices();
    fprintf(stderr, "usage: nebulus worker [--inspect FILE | --devices]\n");
    return 2;
}
