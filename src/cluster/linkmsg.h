// The messages that make and keep a control link; all others are its users'. Pure; any thread.
//   {"t":"peer.hello","version":1,"id":ID,"name":NAME,"boot":N,"lost":N,"about":{..}}   from both sides, first
//   {"t":"peer.up","link":N}       the smaller id's word that this connection is the one between the two
//   {"t":"peer.refuse","code":WORD,"msg":TEXT} in place of it; the other side closes
//   {"t":"peer.beat","n":N}        answered at once by {"t":"peer.echo","n":N}
// Numbers are below 2^53, so that any JSON reader keeps them.
#pragma once

#include "base/err.h"
#include "cluster/transfer.h"
#include <jansson.h>
#include <stdint.h>

enum { LINKMSG_VERSION = 1 };
enum linkmsg_type { LINKMSG_USERS, LINKMSG_HELLO, LINKMSG_UP, LINKMSG_REFUSE, LINKMSG_BEAT, LINKMSG_ECHO };

struct linkmsg { // texts and `about` are borrowed
    enum linkmsg_type type;
    uint64_t n;         // of up, beat and echo
    enum err_code code; // of refuse, with its reason
    const char *msg;
    // hello
    const char *id, *name;
    uint64_t boot; // differs each time the node starts
    uint64_t lost; // the newest link that was up between the two, as the sender saw it end; 0 = none
    json_t *about; // an object
};

json_t *linkmsg_write(const struct linkmsg *m); // a new reference; NULL: out of memory, or LINKMSG_USERS
// Everything that does not claim to be the link's own is the users'. A hello of another version fails, and says so.
int linkmsg_read(const json_t *msg, struct linkmsg *m, struct err *e) MUST_USE;
