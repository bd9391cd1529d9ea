// DNS messages as multicast DNS uses them (RFC 1035 section 4, RFC 6762 section 18): read strictly, written with
// compressed names. Pure functions, nothing allocates. Threads: any.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DNS_NAME = 255,   // bytes of a name on the wire, the root's zero included
    DNS_LABEL = 63,   // bytes of a label
    DNS_RDATA = 1024, // bytes of a record's data that is looked at; of longer ones the name and type are read alone
    DNS_SEND = 1400,  // bytes of a message that is written: one frame of any link
    DNS_RECEIVE = 9000,
};
enum dns_type {
    DNS_A = 1,
    DNS_PTR = 12,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_SRV = 33,
    DNS_NSEC = 47,
    DNS_ANY = 255,
};
enum { DNS_IN = 1, DNS_RESPONSE = 0x8000, DNS_AUTHORITATIVE = 0x0400, DNS_TRUNCATED = 0x0200 };
enum dns_section { DNS_QUESTION, DNS_ANSWER, DNS_AUTHORITY, DNS_ADDITIONAL, DNS_SECTIONS };

struct dns_name { // uncompressed: labels with their lengths, and the root's zero
    uint8_t len;
    uint8_t wire[DNS_NAME];
};

struct dns_question {
    struct dns_name name;
    uint16_t type, class;
    bool unicast; // the answer may come to the asker alone (RFC 6762 section 5.4)
};

struct dns_record {
    struct dns_name name;
    uint16_t type, class;
    bool flush; // what was known of this name and type is to be forgotten (section 10.2)
    uint32_t ttl;
    enum dns_section section;        // where it was read
    uint16_t priority, weight, port; // SRV
    struct dns_name target;          // PTR, SRV: whom it names; NSEC: the next name
    uint16_t len;                    // of data
    uint8_t data[DNS_RDATA];         // A, AAAA, TXT: all; NSEC: the types; others: as it came; PTR, SRV: nothing
};

// ---------------------------------------------------------------- names
// A name of labels that hold what they are given, dots and all; NULL ends the list. 0, or -1 where it is too long.
int dns_name_make(struct dns_name *out, ...) __attribute__((sentinel));
bool dns_name_same(const struct dns_name *a, const struct dns_name *b); // case counts for nothing (ASCII)
// Whether `name` is one label, then `parent`.
bool dns_name_is_child(const struct dns_name *name, const struct dns_name *parent);

// ---------------------------------------------------------------- reading
struct dns_reader {
    const uint8_t *data; // borrowed
    size_t n, at;
    uint16_t id, flags, counts[DNS_SECTIONS], taken;
    enum dns_section section;
};

// Checks the whole message: 0, or -1 where any part is malformed, something follows its end, or it is no plain query or
// response (opcode and code must be 0, section 18.3 and 18.11). What follows then finds every record.
int dns_read(struct dns_reader *r, const void *data, size_t n);
void dns_rewind(struct dns_reader *r);
// The next one; false: no more. All questions come before the first record.
bool dns_next_question(struct dns_reader *r, struct dns_question *q);
bool dns_next_record(struct dns_reader *r, struct dns_record *rr);

// ---------------------------------------------------------------- writing
enum { DNS_KNOWN = 64 }; // places of names to which later ones may point
struct dns_writer {
    uint8_t data[DNS_SEND];
    size_t n;
    uint16_t counts[DNS_SECTIONS], known[DNS_KNOWN];
    size_t n_known;
};

void dns_write(struct dns_writer *w, uint16_t id, uint16_t flags);
// Sections in their order. 0, or -1 where it does not fit: the message is then as it was before.
int dns_add_question(struct dns_writer *w, const struct dns_question *q);
int dns_add_record(struct dns_writer *w, enum dns_section section, const struct dns_record *rr);

// The data of a record as it is compared (section 8.2): names uncompressed. Returns its length, at most
// DNS_RDATA + DNS_NAME.
size_t dns_rdata(const struct dns_record *rr, uint8_t out[DNS_RDATA + DNS_NAME]);
bool dns_same_data(const struct dns_record *a, const struct dns_record *b); // type, class and data; names by their text
