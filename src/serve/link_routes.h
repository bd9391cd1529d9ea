// Measuring a link over HTTP.
//   POST /nebulus/v1/links/NODE/bench  {[seconds]}, 0.05 to 10, else 2 ->
//     {v, node, id, seconds, bytes, gbit_s, cpu_s_per_gb{here, there}, rtt_ms}
// Bytes go from this node to the other. 404 names the known nodes; 429: KV rows use the link, or it is being measured.
#pragma once

#include "serve/call.h"

void links_bench(const struct call *c);
