// Reading and writing of TLS sessions: on the event loop and on threads that block.
#include "base/clock.h"
#include "net/tls.h"

#include <errno.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/util.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/sslerr.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 // there, SO_NOSIGPIPE does it
#endif

// ---------------------------------------------------------------- a socket for OpenSSL
// OpenSSL's own writes with write(2), which raises SIGPIPE, and knows no deadline. This one's "shutdown" says that the
// descriptor was detached: then it tells nobody of it, so that a bufferevent's end does not close it.
struct sock {
    int fd;
    uint64_t until_ns; // 0 = without end
    // Records that wait for the next ones, to leave together: the kernel's work is by packet, and one holds four.
    bool gathers;
    size_t held;
    unsigned char *room; // GATHER_BYTES; owned; NULL before it is used
};
enum { GATHER_BYTES = 1 << 16 };
static pthread_once_t once = PTHREAD_ONCE_INIT;
static BIO_METHOD *method;

static int fd_of(BIO *b) { return ((const struct sock *)BIO_get_data(b))->fd; }

static bool is_late(BIO *b) {
    const struct sock *s = BIO_get_data(b);
    return s->until_ns && clock_mono_ns() >= s->until_ns;
}

static int fail_late(void) {
    errno = ETIMEDOUT;
    return -1;
}

static int retry(BIO *b, ssize_t n, void (*again)(BIO *)) {
    if (n < 0 && errno == EAGAIN) again(b);
    return (int)n;
}

static void again_read(BIO *b) { BIO_set_retry_read(b); }
static void again_write(BIO *b) { BIO_set_retry_write(b); }

static int sock_read(BIO *b, char *out, int n) {
    ssize_t got;
    BIO_clear_retry_flags(b);
    if (is_late(b)) return fail_late();
    do got = recv(fd_of(b), out, (size_t)n, 0);
    while (got < 0 && errno == EINTR);
    if (!got) BIO_set_flags(b, BIO_FLAGS_IN_EOF);
    return retry(b, got, again_read);
}

static ssize_t send_some(BIO *b, const void *in, size_t n) {
    ssize_t put;
    if (is_late(b)) return fail_late();
    do put = send(fd_of(b), in, n, MSG_NOSIGNAL);
    while (put < 0 && errno == EINTR);
    return put;
}

// All that is held. Where that fails nothing of the session can be used.
static int let_go(BIO *b) {
    struct sock *s = BIO_get_data(b);
    for (size_t sent = 0; sent < s->held;) {
        ssize_t put = send_some(b, s->room + sent, s->held - sent);
        if (put < 0) return -1;
        sent += (size_t)put;
    }
    s->held = 0;
    return 0;
}

static int hold(BIO *b, const char *in, size_t n) {
    struct sock *s = BIO_get_data(b);
    if (n > GATHER_BYTES - s->held && let_go(b)) return -1;
    if (n > GATHER_BYTES) return (int)send_some(b, in, n);
    memcpy(s->room + s->held, in, n);
    s->held += n;
    return (int)n;
}

static int sock_write(BIO *b, const char *in, int n) {
    const struct sock *s = BIO_get_data(b);
    BIO_clear_retry_flags(b);
    return retry(b, s->gathers ? hold(b, in, (size_t)n) : send_some(b, in, (size_t)n), again_write);
}

static long sock_ctrl(BIO *b, int cmd, long num, void *ptr) {
    (void)num;
    switch (cmd) {
    case BIO_C_GET_FD:
        if (BIO_get_shutdown(b)) return -1;
        if (ptr) *(int *)ptr = fd_of(b);
        return fd_of(b);
    case BIO_CTRL_EOF: return BIO_test_flags(b, BIO_FLAGS_IN_EOF) != 0;
    case BIO_CTRL_FLUSH:
    case BIO_CTRL_SET_CLOSE: return 1;
    default: return 0;
    }
}

static int sock_free(BIO *b) {
    struct sock *s = BIO_get_data(b);
    if (s) free(s->room);
    free(s);
    return 1;
}

static void make_method(void) {
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK | BIO_TYPE_DESCRIPTOR, "nebulus socket");
    if (m && BIO_meth_set_read(m, sock_read) && BIO_meth_set_write(m, sock_write) && BIO_meth_set_ctrl(m, sock_ctrl) &&
        BIO_meth_set_destroy(m, sock_free))
        method = m;
    else
        BIO_meth_free(m);
}

static int attach(SSL *ssl, int fd, uint64_t until_ns, struct err *e) {
    pthread_once(&once, make_method);
    struct sock *s = malloc(sizeof *s);
    BIO *b = method && s ? BIO_new(method) : NULL;
    if (!b) {
        free(s);
        return err_set(e, ERR_INTERNAL, "out of memory");
    }
    *s = (struct sock){.fd = fd, .until_ns = until_ns};
#ifdef SO_NOSIGPIPE
    int on = 1;
    setsockopt(fd, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on);
#endif
    BIO_set_data(b, s);
    BIO_set_shutdown(b, 0);
    BIO_set_init(b, 1);
    SSL_set_bio(ssl, b, b);
    return 0;
}

// ---------------------------------------------------------------- reasons
static const char *words(unsigned long code) {
    if (ERR_GET_LIB(code) != ERR_LIB_SSL) return NULL;
    switch (ERR_GET_REASON(code)) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED: return "the key it shows is not one that is trusted here";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE: return "it does not trust this node's key";
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return "it shows no certificate";
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
    case SSL_R_NO_APPLICATION_PROTOCOL: return "it speaks another protocol than Nebulus";
    case SSL_R_UNEXPECTED_EOF_WHILE_READING: return "the connection was cut";
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_HTTP_REQUEST: return "it does not speak TLS";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION: return "it does not speak TLS 1.3";
    default: return NULL;
    }
}

void tls_why(struct bufferevent *bev, char *out, size_t size) {
    int saved = errno;
    unsigned long code = bev ? bufferevent_get_openssl_error(bev) : 0;
    if (!code) code = ERR_peek_last_error();
    const char *text = words(code);
    if (!text && code) text = ERR_reason_error_string(code);
    if (!text) text = saved ? strerror(saved) : "the connection was closed";
    snprintf(out, size, "%s", text);
    ERR_clear_error();
}

// `ret` of an SSL function that did not succeed, in words.
static int broken(SSL *ssl, int ret, const char *what, struct err *e) {
    int saved = errno;
    char why[256];
    int kind = SSL_get_error(ssl, ret);
    if (is_late(SSL_get_rbio(ssl))) return err_set(e, ERR_UNREACHABLE, "%s: it took too long", what);
    if (kind == SSL_ERROR_WANT_READ || kind == SSL_ERROR_WANT_WRITE)
        return err_set(e, ERR_UNREACHABLE, "%s: no progress within the time limit", what);
    if (kind == SSL_ERROR_ZERO_RETURN) return err_set(e, ERR_UNREACHABLE, "%s: it closed the connection", what);
    errno = saved;
    tls_why(NULL, why, sizeof why);
    return err_set(e, ERR_UNREACHABLE, "%s: %s", what, why);
}

// ---------------------------------------------------------------- on the event loop
struct bufferevent *tls_bufferevent(struct event_base *base, int fd, SSL *ssl, bool server, struct err *e) {
    enum bufferevent_ssl_state state = server ? BUFFEREVENT_SSL_ACCEPTING : BUFFEREVENT_SSL_CONNECTING;
    if (evutil_make_socket_nonblocking(fd) || attach(ssl, fd, 0, e)) {
        SSL_free(ssl);
        close(fd);
        err_set(e, ERR_INTERNAL, "a TLS connection cannot be set up");
        return NULL;
    }
    // It frees the session also where it fails, but not the descriptor.
    struct bufferevent *bev = bufferevent_openssl_socket_new(base, fd, ssl, state, BEV_OPT_CLOSE_ON_FREE);
    if (bev) return bev;
    close(fd);
    err_set(e, ERR_INTERNAL, "a TLS connection cannot be set up: out of memory");
    return NULL;
}

SSL *tls_detach(struct bufferevent *bev, int *fd) {
    SSL *ssl = bufferevent_openssl_get_ssl(bev);
    *fd = bufferevent_getfd(bev);
    bufferevent_disable(bev, EV_READ | EV_WRITE); // the loop forgets the descriptor now, not when bev's memory goes
    BIO_set_shutdown(SSL_get_wbio(ssl), 1);
    SSL_up_ref(ssl);
    bufferevent_free(bev);
    int flags = fcntl(*fd, F_GETFL);
    if (flags >= 0) fcntl(*fd, F_SETFL, flags & ~O_NONBLOCK);
    return ssl;
}

// ---------------------------------------------------------------- on a thread of one's own
void tls_until(SSL *ssl, uint64_t until_ns) {
    struct sock *s = BIO_get_data(SSL_get_rbio(ssl));
    s->until_ns = until_ns;
}

int tls_connect(SSL *ssl, int fd, uint64_t until_ns, struct err *e) {
    ERR_clear_error();
    if (attach(ssl, fd, until_ns, e)) return -1;
    errno = 0;
    int ret = SSL_connect(ssl);
    return ret == 1 ? 0 : broken(ssl, ret, "the TLS handshake failed", e);
}

int tls_accept(SSL *ssl, int fd, struct err *e) {
    ERR_clear_error();
    if (attach(ssl, fd, 0, e)) return -1;
    errno = 0;
    int ret = SSL_accept(ssl);
    return ret == 1 ? 0 : broken(ssl, ret, "the TLS handshake failed", e);
}

int tls_read(SSL *ssl, void *data, size_t n, struct err *e) {
    for (size_t have = 0; have < n;) {
        size_t got = 0;
        ERR_clear_error();
        errno = 0;
        int ret = SSL_read_ex(ssl, (char *)data + have, n - have, &got);
        if (ret != 1) {
            if (!have && SSL_get_error(ssl, ret) == SSL_ERROR_ZERO_RETURN) return 1;
            return broken(ssl, ret, "reading failed", e);
        }
        have += got;
    }
    return 0;
}

int tls_write(SSL *ssl, const void *data, size_t n, struct err *e) {
    for (size_t done = 0; done < n;) {
        size_t put = 0;
        ERR_clear_error();
        errno = 0;
        int ret = SSL_write_ex(ssl, (const char *)data + done, n - done, &put);
        if (ret != 1) return broken(ssl, ret, "writing failed", e);
        done += put;
    }
    return 0;
}

int tls_write_parts(SSL *ssl, const struct tls_part *parts, int n, struct err *e) {
    BIO *b = SSL_get_wbio(ssl);
    struct sock *s = BIO_get_data(b);
    int rc = 0;
    if (!s->room && !(s->room = malloc(GATHER_BYTES))) return err_set(e, ERR_INTERNAL, "out of memory");
    s->gathers = true;
    for (int i = 0; i < n && !rc; i++) rc = tls_write(ssl, parts[i].data, parts[i].n, e);
    s->gathers = false;
    if (rc) return -1;
    errno = 0;
    return let_go(b) ? broken(ssl, -1, "writing failed", e) : 0;
}

int tls_rekey(SSL *ssl, struct err *e) {
    ERR_clear_error();
    errno = 0;
    if (SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) != 1) return broken(ssl, 0, "new keys cannot be made", e);
    int ret = SSL_do_handshake(ssl);
    return ret == 1 ? 0 : broken(ssl, ret, "new keys cannot be sent", e);
}

void tls_close(SSL *ssl, int fd) {
    if (ssl && SSL_is_init_finished(ssl) && !(SSL_get_shutdown(ssl) & SSL_SENT_SHUTDOWN)) {
        ERR_clear_error();
        tls_until(ssl, 0); // a frame's time is over after a long silence, too
        SSL_shutdown(ssl);
        ERR_clear_error();
    }
    SSL_free(ssl);
    if (fd >= 0) close(fd);
}
