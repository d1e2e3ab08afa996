/* Helpers shared by the mock upstream and the load generator. SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <time.h>

/* Monotonic clock in nanoseconds. */
static inline uint64_t now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* CPU time of this process, user and system, in microseconds. */
static inline uint64_t own_cpu_us(void) {
    struct rusage use;
    getrusage(RUSAGE_SELF, &use);
    return (uint64_t)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000000u +
           (uint64_t)(use.ru_utime.tv_usec + use.ru_stime.tv_usec);
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline void *must_realloc(void *old, size_t size) {
    void *fresh = realloc(old, size);
    if (!fresh) die("realloc");
    return fresh;
}

/* Arms a timerfd for one absolute moment of the monotonic clock; 0 disarms it. */
static inline void arm_timer(int timer, uint64_t at_ns) {
    struct itimerspec when = {0};
    when.it_value.tv_sec = (time_t)(at_ns / 1000000000u);
    when.it_value.tv_nsec = (long)(at_ns % 1000000000u);
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL) < 0) die("timerfd_settime");
}

/*
 * Value of a header in a block of CRLF-ended lines, or NULL. `name` is given with its colon, e.g. "content-length:".
 * The first line (request or status line) is skipped. The value starts after optional white space and ends before CR.
 */
static inline const char *header_value(const char *head, size_t len, const char *name) {
    const char *end = head + len, *line = memchr(head, '\n', len);
    size_t name_len = strlen(name);
    while (line && ++line < end) {
        if ((size_t)(end - line) > name_len && strncasecmp(line, name, name_len) == 0) {
            const char *value = line + name_len;
            while (value < end && (*value == ' ' || *value == '\t')) value++;
            return value;
        }
        line = memchr(line, '\n', (size_t)(end - line));
    }
    return NULL;
}

/* One hexadecimal digit's value, or -1. */
static inline int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

#endif
