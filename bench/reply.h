/* Reads HTTP/1.1 replies and the event streams in them as bytes come. SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_REPLY_H
#define BENCH_REPLY_H

#include <stdbool.h>
#include <sys/types.h>

#include "common.h"

enum { MAX_HEAD = 32 * 1024, LINE_START = 24 };
enum phase { HEAD, BODY_LENGTH, BODY_UNTIL_CLOSE, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, COMPLETE };

struct reply {
    enum phase phase;
    int status;
    bool keep;   /* the connection may serve another request */
    bool stream; /* the body is read as an event stream */
    char head[MAX_HEAD];
    size_t head_len;
    unsigned long left; /* bytes left of the body or of the chunk */
    bool size_seen, size_over;
    size_t trailer_len;
    /* The line of the event stream being read: its first bytes and its length. */
    char line[LINE_START];
    size_t line_len;
    /* What came: events with data, events that tell of an error, [DONE], bytes of the body. */
    unsigned long events, errors, bytes;
    bool done;
    uint64_t first_at; /* when the first event came */
};

/* Makes ready for the next reply. */
static void reply_reset(struct reply *r, bool stream) {
    r->phase = HEAD;
    r->stream = stream;
    r->head_len = r->line_len = 0;
    r->events = r->errors = r->bytes = 0;
    r->done = false;
}

/* One line of an event stream (WHATWG HTML, section 9.2). A data line counts as one event. */
static void end_line(struct reply *r) {
    size_t len = r->line_len < LINE_START ? r->line_len : LINE_START;
    r->line_len = 0;
    if (len < 6 || memcmp(r->line, "data:", 5) != 0) return;
    const char *value = r->line + 5;
    size_t value_len = len - 5;
    if (*value == ' ') value++, value_len--;
    if (value_len >= 6 && memcmp(value, "[DONE]", 6) == 0) {
        r->done = true;
        return;
    }
    if (value_len >= 8 && memcmp(value, "{\"error\"", 8) == 0) {
        r->errors++;
        return;
    }
    if (r->events++ == 0) r->first_at = now_ns();
}

static void on_data(struct reply *r, const char *data, size_t len) {
    r->bytes += len;
    if (!r->stream) return;
    while (len) {
        const char *eol = memchr(data, '\n', len);
        size_t part = eol ? (size_t)(eol - data) : len;
        if (r->line_len < LINE_START) {
            size_t room = LINE_START - r->line_len;
            memcpy(r->line + r->line_len, data, part < room ? part : room);
        }
        r->line_len += part;
        if (!eol) return;
        end_line(r);
        data += part + 1;
        len -= part + 1;
    }
}

/* Consumes bytes of the head; sets the next phase at its end. Returns the bytes used, or -1 when malformed. */
static ssize_t on_head(struct reply *r, const char *data, size_t len) {
    size_t room = sizeof r->head - 1 - r->head_len, before = r->head_len;
    size_t part = len < room ? len : room;
    memcpy(r->head + r->head_len, data, part);
    r->head_len += part;
    r->head[r->head_len] = '\0';
    char *end = memmem(r->head, r->head_len, "\r\n\r\n", 4);
    if (!end) return r->head_len == sizeof r->head - 1 ? -1 : (ssize_t)part;
    r->head_len = (size_t)(end + 4 - r->head);
    if (strncmp(r->head, "HTTP/1.", 7) != 0) return -1;
    r->status = atoi(r->head + 9);
    size_t used = r->head_len - before;
    const char *coding = header_value(r->head, r->head_len, "transfer-encoding:");
    const char *length = header_value(r->head, r->head_len, "content-length:");
    const char *option = header_value(r->head, r->head_len, "connection:");
    r->keep = !(option && strncasecmp(option, "close", 5) == 0);
    r->left = length ? strtoul(length, NULL, 10) : 0;
    r->size_seen = r->size_over = false;
    if (coding && strncasecmp(coding, "chunked", 7) == 0) r->phase = CHUNK_SIZE;
    else if (length) r->phase = r->left ? BODY_LENGTH : COMPLETE;
    else r->phase = BODY_UNTIL_CLOSE;
    return (ssize_t)used;
}

/* One byte of a chunk's size line; false when malformed. */
static bool on_size_byte(struct reply *r, char byte) {
    int digit = hex_digit(byte);
    if (byte == '\n') {
        if (!r->size_seen) return false;
        r->phase = r->left ? CHUNK_DATA : TRAILER;
        r->trailer_len = 0;
        r->size_seen = r->size_over = false;
    } else if (!r->size_over && digit >= 0) {
        r->left = (r->size_seen ? r->left * 16 : 0) + (unsigned long)digit;
        r->size_seen = true;
    } else {
        r->size_over = true;
    }
    return true;
}

/* Consumes bytes of the body. Returns the bytes used, or -1 when malformed. */
static ssize_t on_body(struct reply *r, const char *data, size_t len) {
    size_t part = len < r->left ? len : r->left;
    switch (r->phase) {
    case BODY_UNTIL_CLOSE:
        on_data(r, data, len);
        return (ssize_t)len;
    case BODY_LENGTH:
    case CHUNK_DATA:
        on_data(r, data, part);
        r->left -= part;
        if (!r->left) r->phase = r->phase == BODY_LENGTH ? COMPLETE : CHUNK_END;
        return (ssize_t)part;
    case CHUNK_END:
        if (*data == '\n') r->phase = CHUNK_SIZE;
        return 1;
    case CHUNK_SIZE:
        return on_size_byte(r, *data) ? 1 : -1;
    default:
        if (*data == '\n' && r->trailer_len == 0) r->phase = COMPLETE;
        r->trailer_len = *data == '\n' ? 0 : r->trailer_len + (*data != '\r');
        return 1;
    }
}

/* Consumes received bytes up to the end of the reply. Returns the bytes used, or -1 when the reply is malformed. */
static ssize_t reply_feed(struct reply *r, const char *data, size_t len) {
    size_t used = 0;
    while (used < len && r->phase != COMPLETE) {
        const char *at = data + used;
        ssize_t step = r->phase == HEAD ? on_head(r, at, len - used) : on_body(r, at, len - used);
        if (step < 0) return -1;
        used += (size_t)step;
    }
    return (ssize_t)used;
}

#endif
