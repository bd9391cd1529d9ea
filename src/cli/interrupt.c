#include "cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t pending;
static int wake[2] = {-1, -1};

static void on_signal(int sig) {
    int saved = errno;
    if (pending) { // the command does not look: let the signal do its work
        signal(sig, SIG_DFL);
        raise(sig);
    }
    pending = 1;
    if (wake[1] >= 0 && write(wake[1], "", 1) < 0) pending = 1; // a full pipe wakes as well
    errno = saved;
}

void interrupt_init(void) {
    if (wake[0] < 0 && pipe(wake)) wake[0] = wake[1] = -1;
    for (int i = 0; i < 2 && wake[i] >= 0; i++) {
        fcntl(wake[i], F_SETFD, FD_CLOEXEC);
        fcntl(wake[i], F_SETFL, O_NONBLOCK);
    }
    struct sigaction act = {.sa_handler = on_signal}; // without SA_RESTART: a blocking read returns
    sigaction(SIGINT, &act, NULL);
}

bool interrupt_pending(void) { return pending; }

void interrupt_clear(void) {
    char drop[64];
    while (wake[0] >= 0 && read(wake[0], drop, sizeof drop) > 0) continue;
    pending = 0;
}

int interrupt_fd(void) { return wake[0]; }

bool interrupt_sleep(uint64_t ms) {
    struct pollfd p = {.fd = wake[0], .events = POLLIN};
    if (!pending) poll(&p, 1, (int)ms);
    return pending;
}
