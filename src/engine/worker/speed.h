// How fast rows leave and enter the KV cache. Main thread, after the model is loaded and before anything is computed.
#pragma once

#include "engine/worker/model.h"

// Installs a unit of zeros and takes it out again, a few times, for some tens of milliseconds at most; fills
// m->info.import_bytes_s and export_bytes_s with the best of them. They stay 0 where rows do not travel (not KV_ROWS),
// or memory is short.
void speed_measure(struct model *m);
