#include "engine/worker/machine.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

#ifdef __linux__
#include <sched.h>

// The first of the hardware threads that share a core with this one; itself where the system does not say.
static int first_sibling(int cpu) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *f = fopen(path, "r");
    int first = cpu;
    if (f && fscanf(f, "%d", &first) != 1) first = cpu;
    if (f) fclose(f);
    return first;
}

static int32_t allowed_cores(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    int32_t cores = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        int first = first_sibling(cpu);
        bool counted = first != cpu && first >= 0 && first < CPU_SETSIZE && CPU_ISSET(first, &allowed);
        if (!counted) cores++;
    }
    return cores;
}

static int64_t available_bytes(void) {
    FILE *f = fopen("/proc/meminfo", "r");
    char line[128];
    long long kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1) break;
    if (f) fclose(f);
    return (int64_t)kib * 1024;
}
#elif defined(__APPLE__)
static int64_t sysctl_number(const char *name) {
    int64_t value = 0;
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) ? 0 : value;
}

static int32_t allowed_cores(void) {
    int64_t fast = sysctl_number("hw.perflevel0.physicalcpu"); // efficiency cores slow the others down
    return (int32_t)(fast ? fast : sysctl_number("hw.physicalcpu"));
}

static int64_t available_bytes(void) { return sysctl_number("hw.memsize") / 2; }
#else
static int32_t allowed_cores(void) { return (int32_t)sysconf(_SC_NPROCESSORS_ONLN); }
static int64_t available_bytes(void) { return (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 2; }
#endif

void machine_look(struct machine *m) {
    m->cores = allowed_cores();
    if (m->cores < 1) m->cores = 1;
    m->free_bytes = available_bytes();
}
