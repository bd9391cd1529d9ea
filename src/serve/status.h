// What the daemon tells of itself and its models: /health, /metrics, /v1/models, /nebulus/v1/status; and the order to
// stop one.
#pragma once

#include "serve/call.h"

json_t *status_of_model(const struct model *m); // MODEL, as a new reference; NULL when out of memory

void status_health(const struct call *c);
void status_metrics(const struct call *c);
void status_show(const struct call *c);
void status_models(const struct call *c);    // /v1/models
void status_one_model(const struct call *c); // /v1/models/NAME
void status_stop(const struct call *c);      // POST /nebulus/v1/stop
