// The catalogue of devices and links: what a machine can do on paper, and which part of it it reaches. Every figure has
// its source in device.c. Pure functions, static data. Threads: any.
#pragma once

#include "base/err.h"
#include <stddef.h>

struct device {
    const char *name;
    double tflops;      // FP16 with FP32 sums, dense, in 10^12 operations per second
    double gb_s;        // memory bandwidth, 10^9 bytes per second
    double memory_gb;   // that a model can be in
    double compute;     // the part of `tflops` that reading a long prompt reaches, 0..1
    double bandwidth;   // the part of `gb_s` that generating one token after the other reaches, 0..1
    double price_usd;   // list price at launch; of a card without the machine around it
    double watts;       // at most, of the machine or card
    const char *origin; // of `compute` and `bandwidth`, in words
};

struct link_kind {
    const char *name;
    double gbit_s;     // on paper
    double efficiency; // the part of it that one stream of KV rows reaches
    double rtt_s;      // round trip
};

// An unknown name gives NULL and ERR_NOT_FOUND with a line that lists the known ones.
const struct device *device_find(const char *name, struct err *e) MUST_USE;
const struct link_kind *link_kind_find(const char *name, struct err *e) MUST_USE;

// Entry i, NULL beyond the end.
const struct device *device_at(size_t i);
const struct link_kind *link_kind_at(size_t i);
const char *device_name(size_t i);
const char *link_kind_name(size_t i);

double link_kind_bytes_s(const struct link_kind *l); // that a stream really gets
