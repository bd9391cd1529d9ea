// Where the figures come from.
//
// Peak TFLOP/s are those for FP16 with FP32 sums, dense, as half or a quarter of what vendors advertise with sparsity
// or FP8. Prices are list prices at launch, in USD.
//   dgx-spark, m3-ultra: the published experiment (blog.exolabs.net/nvidia-dgx-spark; figures also at
//     allthings.how/dgx-spark-mac-studio-disaggregated-llm-inference-with-exo): 100 and 26 TFLOP/s, 273 and 819 GB/s,
//     128 and 512 GB. 240 W: NVIDIA's data sheet; 270 W and 9,499 USD (512 GB): Apple's.
//     Efficiencies: from its four measurements of Llama 3.1 8B f16, 8,192 prompt and 32 generated tokens, each figure
//     from one of them: prefill 1.47 and 5.57 s, generation 2.87 and 0.85 s. Two other measurements of the Spark agree
//     with the 0.64: 20.5 tokens/s for the same model in FP8 (NVIDIA, "How DGX Spark's performance enables intensive AI
//     tasks": 0.60), 4.2 tokens/s where a pass reads 40.6 GB (github.com/NVIDIA/dgx-spark-playbooks/pull/91: 0.62).
//   m4-max, m4-pro: 0.43 TFLOP/s per GPU core (hmc-tech.com/gpu: 13.74 for 32 cores), 40 and 20 cores; Apple's data
//   sheets
//     for GB/s, memory, watts and prices (Mac Studio 128 GB, Mac mini 64 GB). Efficiencies: of an M3 Max (14.2 TFLOP/s,
//     400 GB/s) with Llama 3 8B F16: 751 and 22.4 tokens/s at 1,024 (the table named next).
//   rtx-3090, rtx-4090: 71 and 165.2 TFLOP/s (NVIDIA's GA102 and Ada whitepapers), 936 and 1,008 GB/s. Efficiencies:
//   Llama
//     3 8B F16, prompts and answers of 1,024 tokens: 4,240 and 46.5, 9,056 and 54.3 tokens/s
//     (github.com/XiongjieDai/GPU-Benchmarks-on-LLM-Inference, May 2024).
//   rtx-5090: 209.5 TFLOP/s, 1,792 GB/s, 575 W, 1,999 USD (codesota.com/hardware/rtx-5090, NVIDIA's data sheet).
//     Efficiencies: assumed to be those of the 4090.
//   h100: PCIe, 756 TFLOP/s, 2,000 GB/s, 350 W (NVIDIA's data sheet), about 30,000 USD. Bandwidth: 83.3 tokens/s of
//   Llama
//     2 7B F16 (the table above). Compute: assumed; that table's 0.13 is of llama.cpp in 2023 with short prompts.
//   strix-halo: Ryzen AI Max+ 395: 59.4 TFLOP/s, 256 GB/s, 120 W, 2,000 USD (whylucian.github.io/softab). Bandwidth:
//   212
//     GB/s copied (llm-tracker.info/_TOORG/Strix-Halo). Compute: assumed, between 0.62 of a matrix product alone (the
//     same page) and 0.24 with Devstral 24B Q4_K_M under Vulkan
//     (fromthematrix.dev/posts/local-llm-speed-benchmark-strix-halo).
//
// Links: what is left of the line rate after Ethernet, IP and TCP headers with frames of 1,500 bytes is 0.949
// (1,448/1,526); TLS over 25 Gbit/s and more is limited by a core's AES-GCM and copying. thunderbolt: IP over
// Thunderbolt 4, whose 40 Gbit/s carry at most 22 of data. wifi: Wi-Fi 6, two streams of 80 MHz: 1.2 Gbit/s on paper,
// about half of it in one room.
#include "plan/device.h"
#include "plan/names.h"

#include <string.h>

#define PUBLISHED "published experiment"
#define MEASURED  "measured with llama.cpp"

static const struct device devices[] = {
    {"dgx-spark", 100, 273, 128, 0.95, 0.64, 3999, 240, PUBLISHED},
    {"m3-ultra", 26, 819, 512, 0.91, 0.72, 9499, 270, PUBLISHED},
    {"m4-max", 17.2, 546, 128, 0.78, 0.84, 3499, 145, "measured with llama.cpp on an M3 Max"},
    {"m4-pro", 8.6, 273, 64, 0.78, 0.84, 2199, 140, "measured with llama.cpp on an M3 Max"},
    {"rtx-3090", 71, 936, 24, 0.93, 0.75, 1499, 350, MEASURED},
    {"rtx-4090", 165.2, 1008, 24, 0.93, 0.81, 1599, 450, MEASURED},
    {"rtx-5090", 209.5, 1792, 32, 0.93, 0.81, 1999, 575, "assumed as of the rtx-4090"},
    {"h100", 756, 2000, 80, 0.5, 0.55, 30000, 350, "bandwidth measured with llama.cpp, compute assumed"},
    {"strix-halo", 59.4, 256, 128, 0.4, 0.83, 2000, 120, "bandwidth measured, compute assumed"},
};

static const struct link_kind links[] = {
    {"10gbe", 10, 0.94, 0.2e-3}, {"1gbe", 1, 0.94, 0.3e-3},    {"2.5gbe", 2.5, 0.94, 0.3e-3},
    {"25gbe", 25, 0.9, 0.1e-3},  {"100gbe", 100, 0.5, 0.1e-3}, {"thunderbolt", 40, 0.5, 0.2e-3},
    {"wifi", 1.2, 0.5, 4e-3},
};

enum { DEVICES = sizeof devices / sizeof *devices, LINKS = sizeof links / sizeof *links };

const struct device *device_at(size_t i) { return i < DEVICES ? &devices[i] : NULL; }

const struct link_kind *link_kind_at(size_t i) { return i < LINKS ? &links[i] : NULL; }

const char *device_name(size_t i) { return i < DEVICES ? devices[i].name : NULL; }

const char *link_kind_name(size_t i) { return i < LINKS ? links[i].name : NULL; }

const struct device *device_find(const char *name, struct err *e) {
    for (size_t i = 0; i < DEVICES; i++)
        if (!strcmp(devices[i].name, name)) return &devices[i];
    names_unknown(e, "device", name, device_name);
    return NULL;
}

const struct link_kind *link_kind_find(const char *name, struct err *e) {
    for (size_t i = 0; i < LINKS; i++)
        if (!strcmp(links[i].name, name)) return &links[i];
    names_unknown(e, "link", name, link_kind_name);
    return NULL;
}

double link_kind_bytes_s(const struct link_kind *l) { return l->gbit_s * l->efficiency * 1e9 / 8; }
