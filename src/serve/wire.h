// What KV rows travel as. Pure.
//
// By whoever says something first: the client (x-nebulus-wire), the settings of the node that it asks, the settings of
// the node that sends. Where all leave it open (kv_wire = auto), what was planned with; where nothing was planned, what
// the sender finds by the same rule:
//
// A transfer hides behind the prefill that makes its rows as long as the link carries them as fast as they are made:
//     rows/s of the prefill (profiles_rows_s) x bytes of a row of all layers as f16 x WIRE_MARGIN <= bytes/s of the
//     link
// Then they travel as they are, exactly; else as q8_0, which takes 53 % of the bytes and changes the last bits of what
// is computed from them. Where one of the two speeds is not known, or rows cannot be packed: exactly. A cache that is
// q8_0 itself, and a state that is no rows (KV_OPAQUE), always travels as it is.
#pragma once

#include "engine/kv.h"

#define WIRE_MARGIN 1.25 // for what else the link carries, and for estimates

// rows_s, bytes_s: 0 = not known.
enum kv_dtype wire_choose(const struct kv_shape *shape, double rows_s, double bytes_s);

// wish: "f16", "q8_0"; anything else leaves it open. Rows that cannot be packed are not, even where it is wished.
enum kv_dtype wire_type(const struct kv_shape *shape, const char *wish, double rows_s, double bytes_s);

// The first of n words, "" or "auto" where they say nothing, that says something; "" where none does. Borrowed.
const char *wire_wish(const char *const *words, int n);
