// The sockets of KV streams, on threads that may block.
#pragma once

#include "base/err.h"
#include <netdb.h>
#include <openssl/ssl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Connects within LIMIT_KV_CONNECT_MS; gives up soon once *stop is set. (A host name is looked up first, which takes as
// long as the system's resolver does.) Returns a socket that blocks, or -1.
int datalink_dial(const char *host, uint16_t port, const atomic_bool *stop, struct err *e) MUST_USE;

// To the first of these addresses that answers. Each has an equal part of the time that is left then, so that a dead
// one leaves some to the next. Returns a socket that blocks, or -1; *why is the errno of the last one then.
int datalink_dial_any(const struct addrinfo *found, uint64_t deadline_ns, const atomic_bool *stop, int *why) MUST_USE;

// No delay, probes of silent connections, and time limits for what blocks.
int datalink_tune(int fd, unsigned limit_ms, struct err *e) MUST_USE;

// When a frame of `length` bytes that begins at now_ns must be over: after stall_ms, and what it takes at
// LIMIT_KV_RATE_LEAST. A healthy link needs a fraction of that; who sends a byte now and then holds nothing for long.
uint64_t datalink_until(uint64_t now_ns, unsigned stall_ms, uint32_t length);

size_t datalink_unsent(int fd); // bytes that were written and have not left; 0 also where the system does not say

// Where the other side never speaks: it has ended the connection, or something is wrong with it.
bool datalink_hung_up(int fd);
void datalink_wait(const SSL *ssl, int fd); // until there is something to read, or the connection has ended
