// What a node says of itself in its TXT record (RFC 6763 section 6):
//     txtvers=1 name=prime id=31226475... cluster=5ad0... version=0.1.0 role=auto models=llama,qwen
// A node of no cluster leaves out id and cluster. Anyone may say anything here: nothing of it is trusted, all of it is
// shown escaped. Pure functions. Threads: any.
#pragma once

#include "discover/dns.h"

enum {
    ABOUT_NAME = 64,    // bytes of a node's name, with the NUL
    ABOUT_ID = 33,      // a node's id: 32 digits
    ABOUT_CLUSTER = 33, // the first 32 digits of the fingerprint of the cluster's root key
    ABOUT_WORD = 32,    // version, role
    ABOUT_MODELS = 201, // names with commas between; what does not fit is left out, and "..." ends the list
    ABOUT_TEXT = 600,   // bytes of the record that about_write makes
    ABOUT_ESCAPE = 4,   // bytes that one may take when it is shown
};

struct about {
    char name[ABOUT_NAME], id[ABOUT_ID], cluster[ABOUT_CLUSTER], version[ABOUT_WORD], role[ABOUT_WORD];
    char models[ABOUT_MODELS];
};

void about_add_model(struct about *a, const char *name);

// As TXT data; returns its length.
size_t about_write(const struct about *a, uint8_t out[ABOUT_TEXT]);

// From TXT data, which dns_read has checked. Unknown keys are passed over, of equal ones the first counts, values that
// are too long are cut and NULs end them; id and cluster are "" where they are no such thing.
void about_read(struct about *a, const uint8_t *text, size_t n);
