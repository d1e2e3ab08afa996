/* Reads HTTP/1.1 requests out of a growing buffer (RFC 9112). SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_REQUEST_H
#define BENCH_REQUEST_H

#include <stdbool.h>

#include "common.h"

enum { MAX_HEAD = 64 * 1024, MAX_BODY = 64 * 1024 * 1024 };
enum body_kind { BODY_LENGTH, BODY_CHUNKED };

/* Received bytes, NUL-terminated, and what is known of the request at their start. */
struct request {
    char *in;
    size_t in_len, in_cap;
    size_t head_len; /* 0: the head is not complete yet */
    enum body_kind kind;
    size_t body_len, scan; /* decoded bytes so far; where the chunked decoder reads next */
};

/*
 * Moves decoded bytes of a chunked body together behind the head (RFC 9112, section 7.1).
 * Returns 1 when complete, 0 when bytes are missing, -1 when malformed.
 */
static int decode_chunks(struct request *r) {
    for (;;) {
        char *line = r->in + r->scan, *eol = memmem(line, r->in_len - r->scan, "\r\n", 2);
        if (!eol) return r->in_len - r->scan > 1024 ? -1 : 0;
        if (hex_digit(*line) < 0) return -1;
        size_t size = strtoul(line, NULL, 16), data = (size_t)(eol + 2 - r->in);
        if (size > MAX_BODY || r->body_len + size > MAX_BODY) return -1;
        if (r->in_len < data + size + 2) return 0;
        if (size == 0) {
            char *tail = memmem(r->in + data - 2, r->in_len - data + 2, "\r\n\r\n", 4);
            if (!tail) return 0;
            r->scan = (size_t)(tail + 4 - r->in);
            return 1;
        }
        memmove(r->in + r->head_len + r->body_len, r->in + data, size);
        r->body_len += size;
        r->scan = data + size + 2;
    }
}

/* Reads the head of the next request. Returns as decode_chunks does. */
static int read_head(struct request *r) {
    if (r->head_len) return 1;
    char *end = memmem(r->in, r->in_len, "\r\n\r\n", 4);
    if (!end) return r->in_len > MAX_HEAD ? -1 : 0;
    r->head_len = (size_t)(end + 4 - r->in);
    const char *coding = header_value(r->in, r->head_len, "transfer-encoding:");
    const char *length = header_value(r->in, r->head_len, "content-length:");
    r->kind = coding && strncasecmp(coding, "chunked", 7) == 0 ? BODY_CHUNKED : BODY_LENGTH;
    r->body_len = r->kind == BODY_LENGTH && length ? strtoul(length, NULL, 10) : 0;
    r->scan = r->head_len;
    if (r->body_len > MAX_BODY) return -1;
    return 1;
}

/* Whether the request at the start of the buffer is complete. Returns as decode_chunks does. */
static int read_request(struct request *r) {
    if (!r->in_len) return 0;
    int got = read_head(r);
    if (got <= 0) return got;
    return r->kind == BODY_CHUNKED ? decode_chunks(r) : r->in_len >= r->head_len + r->body_len;
}

/* Removes the complete request at the start of the buffer. */
static void drop_request(struct request *r) {
    size_t used = r->kind == BODY_CHUNKED ? r->scan : r->head_len + r->body_len;
    r->in_len -= used;
    memmove(r->in, r->in + used, r->in_len);
    r->head_len = 0;
}

/* Whether a JSON body asks for a stream: "stream" and true with any white space around the colon. */
static bool wants_stream(const char *body, size_t len) {
    static const char key[] = "\"stream\"";
    const char *end = body + len;
    while ((body = memmem(body, (size_t)(end - body), key, sizeof key - 1))) {
        body += sizeof key - 1;
        const char *at = body;
        while (at < end && strchr(" \t\r\n", *at)) at++;
        if (at == end || *at++ != ':') continue;
        while (at < end && strchr(" \t\r\n", *at)) at++;
        if (end - at >= 4 && memcmp(at, "true", 4) == 0) return true;
    }
    return false;
}

#endif
