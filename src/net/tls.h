// TLS 1.3 between nodes: both sides show self-signed certificates, and each is known by the SHA-256 of its public key
// (SPKI), its pin; validity dates are ignored, since clocks of machines that sleep lie. No tickets, no 0-RTT. What a
// connection is for stands in its ALPN name, so that one port serves all. Only a TLS_PAIR connection is possible with a
// peer whose pin is not trusted: any other one is refused inside the handshake.
#pragma once

#include "base/err.h"
#include <event2/bufferevent.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TLS_PIN = 32 };
enum tls_use {
    TLS_CONTROL,
    TLS_DATA,
    TLS_PAIR,
    TLS_USES
}; // ALPN "nebulus-control/1", "nebulus-data/1", "nebulus-pair/1"

struct tls;
struct tls *tls_new(EVP_PKEY *key, X509 *cert, struct err *e) MUST_USE; // takes references of its own
void tls_free(struct tls *t);                                           // sessions made from it live on; NULL is fine
int tls_pin_of(const X509 *cert, uint8_t out[TLS_PIN]) MUST_USE;        // SHA-256 of its public key (SPKI)

// Decides whom the server side accepts for TLS_CONTROL and TLS_DATA; called inside handshakes, on the thread that runs
// them. Nobody is accepted until it is set.
void tls_trust(struct tls *t, bool (*trusted)(void *arg, const uint8_t pin[TLS_PIN]), void *arg);

// A session without a connection. Client: `pin` is the only peer accepted (NULL, with TLS_PAIR only: any). Server: use
// and pin are ignored.
SSL *tls_client(struct tls *t, enum tls_use use, const uint8_t pin[TLS_PIN], struct err *e) MUST_USE;
SSL *tls_server(struct tls *t, struct err *e) MUST_USE;

// ---- after the handshake
enum tls_use tls_use_of(const SSL *ssl);
void tls_peer_pin(const SSL *ssl, uint8_t out[TLS_PIN]);
int tls_exporter(SSL *ssl, uint8_t out[32], struct err *e) MUST_USE; // keying material that only these two ends know
// The reason of the newest failure on this thread, in words; empties the queue. After BEV_EVENT_ERROR, `bev` is the
// bufferevent, which has taken the reasons off the queue; else NULL. Where there is none: errno's.
void tls_why(struct bufferevent *bev, char *out, size_t size);

// ---- on the event loop
// A bufferevent that handshakes; owns fd and ssl, also when it fails. BEV_EVENT_CONNECTED tells the end of it. No
// write of this module raises SIGPIPE.
struct bufferevent *tls_bufferevent(struct event_base *base, int fd, SSL *ssl, bool server, struct err *e) MUST_USE;
// Takes the session and the socket out of a handshaken bufferevent, which is freed (what it has read already is lost:
// for protocols in which the server speaks first). The socket is made blocking; end both with tls_close.
SSL *tls_detach(struct bufferevent *bev, int *fd);

// ---- on a thread of one's own: blocking, with the socket's time limits (SO_RCVTIMEO, SO_SNDTIMEO)
// Handshake as a client; both stay the caller's. until_ns: as tls_until has it.
int tls_connect(SSL *ssl, int fd, uint64_t until_ns, struct err *e) MUST_USE;
int tls_accept(SSL *ssl, int fd, struct err *e) MUST_USE; // as a server
// From this moment on (clock_mono_ns; 0 = never) everything fails: a peer whose bytes come one by one is never late by
// the socket's limits, which begin anew with each. A call of the system that waits then still ends by those.
void tls_until(SSL *ssl, uint64_t until_ns);
// All n bytes. 1 = the peer ended the connection properly before the first; anything else that stops it is a failure.
int tls_read(SSL *ssl, void *data, size_t n, struct err *e) MUST_USE;
int tls_write(SSL *ssl, const void *data, size_t n, struct err *e) MUST_USE; // all n bytes
// Several things one after the other, in as few packets as may be. Nothing is left behind when it returns.
struct tls_part {
    const void *data;
    size_t n;
};
int tls_write_parts(SSL *ssl, const struct tls_part *parts, int n, struct err *e) MUST_USE;
int tls_rekey(SSL *ssl, struct err *e) MUST_USE; // new keys for what is written from now on (RFC 8446 4.6.3)
void tls_close(SSL *ssl, int fd); // tells the peer where the session still works, then frees and closes both
