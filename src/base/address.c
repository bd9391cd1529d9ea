#include "base/address.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

int address_split(const char *text, char host[SETTING_SIZE], long *port) {
    bool bracketed = text[0] == '[';
    const char *start = text + bracketed, *end = bracketed ? strchr(start, ']') : start + strcspn(start, ":");
    *port = -1;
    if (!end || end == start || end - start >= SETTING_SIZE) return -1;
    snprintf(host, SETTING_SIZE, "%.*s", (int)(end - start), start);
    end += bracketed;
    if (!*end) return 0;
    return *end == ':' ? text_parse_long(end + 1, 0, 65535, port) : -1;
}

bool address_is_loopback(const char *host) {
    static const char suffix[] = ".localhost";
    struct in_addr v4;
    struct in6_addr v6;
    size_t n = strlen(host), k = sizeof suffix - 1;
    if (inet_pton(AF_INET, host, &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
    return !strcasecmp(host, "localhost") || (n > k && !strcasecmp(host + n - k, suffix));
}
