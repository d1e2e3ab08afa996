/*
 * A mock model service: OpenAI and GigaChat chat answers, instant or paced, from one thread.
 *
 *   upstream [--port N] [--chunks N] [--gap-ms N]
 *
 * Prints its port as one line. Answers are prepared once; a request costs a parse and a write.
 *
 *   POST /v1/chat/completions       OpenAI shape; a stream when the body holds "stream": true
 *   GET  /v1/models
 *   POST /api/v2/oauth              a token of 30 minutes
 *   POST /api/v1/chat/completions   GigaChat v1 shape
 *   GET  /api/v1/models
 *   GET  /mock                      counters as JSON
 *   POST /mock?chunks=N&gap_ms=N    settings of the streams that start later
 *
 * The request header x-gap-ms overrides the gap of one stream. Each SSE event is one piece of the chunked encoding and
 * one write, so nothing is coalesced on purpose. SPDX-License-Identifier: Apache-2.0
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

enum { MAX_EVENTS = 512, MAX_HEAD = 64 * 1024, MAX_BODY = 64 * 1024 * 1024, MIDDLE_PIECES = 8 };

struct bytes {
    char *data;
    size_t len;
};

/* The prepared parts of one service's answers. */
struct service {
    struct bytes json, head, first, middle[MIDDLE_PIECES], last, done;
};

enum body_kind { BODY_LENGTH, BODY_CHUNKED };

struct conn {
    int fd;
    bool dead, want_write;
    char *in;
    size_t in_len, in_cap;
    /* The request being read: 0 means that its head is not complete yet. */
    size_t head_len;
    enum body_kind kind;
    size_t body_len, scan; /* decoded bytes so far; where the chunked decoder reads next */
    /* Bytes that the socket did not take yet. */
    char *out;
    size_t out_len, out_off, out_cap;
    /* The stream being sent. */
    const struct service *stream;
    long next, chunks;
    uint64_t gap_ns, due;
    size_t heap_at; /* 1-based place in the timer heap, 0 = not in it */
    struct conn *next_dead;
};

static struct {
    unsigned long long connections, requests, json, oauth, models, started, finished, aborted, chunks, rejected;
} count;

static long opt_chunks = 100;
static uint64_t opt_gap_ns;
static int epoll_fd, timer_fd;
static struct service openai, gigachat;
static struct bytes openai_models, gigachat_models;
static struct conn *dead_list;
static volatile sig_atomic_t stopping;

/* ---- prepared answers ---- */

static struct bytes format(const char *pattern, ...) {
    struct bytes out;
    va_list args;
    va_start(args, pattern);
    int len = vasprintf(&out.data, pattern, args);
    va_end(args);
    if (len < 0) die("vasprintf");
    out.len = (size_t)len;
    return out;
}

static struct bytes json_answer(const char *extra, const char *body) {
    return format("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%s", extra,
                  strlen(body), body);
}

static struct bytes piece(const char *event) { return format("%zx\r\n%s\r\n", strlen(event), event); }

static const char TEXT[] =
    "A gateway stands between the programs that ask and the models that answer. It checks who is asking, chooses "
    "where the question goes, translates the words of one service into those of another, and hands the answer back "
    "without holding it longer than it must. This text is as long as a short paragraph of a usual answer, so that "
    "one complete reply of the mock service weighs about one kilobyte on the wire. Nothing in it is compressed, and "
    "it holds a few letters beyond ASCII, as real answers do: \xd0\xbf\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82, "
    "caf\xc3\xa9, na\xc3\xafve. The numbers of tokens below are invented but stay the same in every answer, which "
    "makes two runs comparable with each other.";

#define STREAM_HEAD                                                                                                   \
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n%sTransfer-Encoding: "          \
    "chunked\r\n\r\n"
#define GIGA_HEADERS                                                                                                  \
    "x-request-id: 0b0d6f4e-52a1-4f0e-9f4e-2f6f5c1b7a10\r\nx-session-id: 7d1c1a52-8a0f-4f53-8b75-3d0b4f6f9c21\r\n"
#define OPENAI_CHUNK                                                                                                  \
    "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1768996176,\"model\":"          \
    "\"gpt-test\",\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]}\n\n"
#define GIGA_CHUNK                                                                                                    \
    "data: {\"choices\":[{\"delta\":{\"content\":\"%s\"%s},\"index\":0%s}],\"created\":1768996176,\"model\":"         \
    "\"GigaChat-2:2.0.28.2\",\"object\":\"chat.completion\"%s}\n\n"
#define GIGA_USAGE                                                                                                    \
    "\"usage\":{\"prompt_tokens\":17,\"completion_tokens\":142,\"total_tokens\":159,\"precached_prompt_tokens\":2}"

static const char *const WORDS[MIDDLE_PIECES] = {" token", " after", " token", " comes", " one", " by", " one", ","};

static struct bytes piece_of(struct bytes event) {
    struct bytes out = piece(event.data);
    free(event.data);
    return out;
}

static void prepare_openai(void) {
    struct bytes body = format(
        "{\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":1768996176,\"model\":\"gpt-test\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\",\"refusal\":null},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":17,\"completion_tokens\":142,"
        "\"total_tokens\":159},\"system_fingerprint\":\"fp_mock\"}",
        TEXT);
    openai.json = json_answer("x-request-id: req_mock\r\n", body.data);
    free(body.data);
    openai.head = format(STREAM_HEAD, "x-request-id: req_mock\r\n");
    openai.first = piece_of(format(OPENAI_CHUNK, "\"role\":\"assistant\",\"content\":\"One\"", "null"));
    for (int i = 0; i < MIDDLE_PIECES; i++) {
        struct bytes delta = format("\"content\":\"%s\"", WORDS[i]);
        openai.middle[i] = piece_of(format(OPENAI_CHUNK, delta.data, "null"));
        free(delta.data);
    }
    openai.last = piece_of(format(OPENAI_CHUNK, "", "\"stop\""));
    openai.done = format("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    openai_models = json_answer("", "{\"object\":\"list\",\"data\":[{\"id\":\"gpt-test\",\"object\":\"model\","
                                    "\"created\":1768996176,\"owned_by\":\"mock\"}]}");
}

static void prepare_gigachat(void) {
    struct bytes body = format(
        "{\"choices\":[{\"message\":{\"content\":\"%s\",\"role\":\"assistant\"},\"index\":0,\"finish_reason\":"
        "\"stop\"}],\"created\":1768996176,\"model\":\"GigaChat-2:2.0.28.2\",\"object\":\"chat.completion\","
        GIGA_USAGE "}",
        TEXT);
    gigachat.json = json_answer(GIGA_HEADERS, body.data);
    free(body.data);
    gigachat.head = format(STREAM_HEAD, GIGA_HEADERS);
    gigachat.first = piece_of(format(GIGA_CHUNK, "One", ",\"role\":\"assistant\"", "", ""));
    for (int i = 0; i < MIDDLE_PIECES; i++) gigachat.middle[i] = piece_of(format(GIGA_CHUNK, WORDS[i], "", "", ""));
    gigachat.last = piece_of(format(GIGA_CHUNK, "", "", ",\"finish_reason\":\"stop\"", "," GIGA_USAGE));
    gigachat.done = openai.done;
    gigachat_models = json_answer(GIGA_HEADERS,
                                  "{\"object\":\"list\",\"data\":[{\"id\":\"GigaChat-2\",\"object\":\"model\","
                                  "\"owned_by\":\"salutedevices\",\"type\":\"chat\"}]}");
}

/* ---- timer heap, ordered by the moment of the next event ---- */

static struct conn **heap;
static size_t heap_len, heap_cap;
static uint64_t armed_for;

static void heap_put(size_t at, struct conn *c) {
    heap[at] = c;
    c->heap_at = at;
}

static void heap_sift(size_t at) {
    struct conn *c = heap[at];
    for (; at > 1 && heap[at / 2]->due > c->due; at /= 2) heap_put(at, heap[at / 2]);
    for (size_t child; (child = at * 2) <= heap_len; at = child) {
        if (child < heap_len && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= c->due) break;
        heap_put(at, heap[child]);
    }
    heap_put(at, c);
}

static void heap_add(struct conn *c) {
    if (heap_len + 1 >= heap_cap) heap = must_realloc(heap, (heap_cap = heap_cap ? heap_cap * 2 : 1024) * sizeof *heap);
    heap_put(++heap_len, c);
    heap_sift(heap_len);
}

static void heap_remove(struct conn *c) {
    size_t at = c->heap_at;
    if (!at) return;
    c->heap_at = 0;
    struct conn *moved = heap[heap_len--];
    if (moved == c) return;
    heap_put(at, moved);
    heap_sift(at);
}

static void rearm(void) {
    uint64_t wanted = heap_len ? heap[1]->due : 0;
    if (wanted != armed_for) arm_timer(timer_fd, armed_for = wanted);
}

/* ---- connections ---- */

static void watch(struct conn *c, bool write) {
    if (c->want_write == write) return;
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0u), .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0) die("epoll_ctl");
    c->want_write = write;
}

/* Closes at once, frees after the batch of events, in which the connection may appear again. */
static void drop(struct conn *c) {
    if (c->dead) return;
    if (c->stream) count.aborted++;
    heap_remove(c);
    close(c->fd);
    c->dead = true;
    c->next_dead = dead_list;
    dead_list = c;
}

static void bury(void) {
    while (dead_list) {
        struct conn *c = dead_list;
        dead_list = c->next_dead;
        free(c->in);
        free(c->out);
        free(c);
    }
}

/* Writes or queues; false when the connection is gone. Nothing may be queued before. */
static bool put(struct conn *c, const char *data, size_t len) {
    ssize_t sent = send(c->fd, data, len, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        drop(c);
        return false;
    }
    size_t taken = sent < 0 ? 0 : (size_t)sent;
    if (taken == len) return true;
    size_t rest = len - taken;
    if (c->out_cap < rest) c->out = must_realloc(c->out, c->out_cap = rest);
    memcpy(c->out, data + taken, rest);
    c->out_len = rest;
    c->out_off = 0;
    watch(c, true);
    return true;
}

static bool put_bytes(struct conn *c, struct bytes b) { return put(c, b.data, b.len); }

/* Sends what is queued; true when the queue is empty. */
static bool flush(struct conn *c) {
    while (c->out_len > c->out_off) {
        ssize_t sent = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN && errno != EINTR) drop(c);
            return false;
        }
        c->out_off += (size_t)sent;
    }
    c->out_len = c->out_off = 0;
    watch(c, false);
    return true;
}

/* ---- streams ---- */

static struct bytes stream_piece(const struct conn *c) {
    if (c->next == c->chunks - 1) return c->stream->last;
    return c->next == 0 ? c->stream->first : c->stream->middle[c->next % MIDDLE_PIECES];
}

/* Sends every event that is due. The stream stays set while events are left or the socket is full. */
static void pump(struct conn *c) {
    while (!c->dead && !c->out_len && c->next < c->chunks) {
        if (c->gap_ns && c->due > now_ns()) {
            heap_add(c);
            return;
        }
        struct bytes event = stream_piece(c);
        c->next++;
        c->due += c->gap_ns;
        count.chunks++;
        put_bytes(c, event);
    }
    if (c->dead || c->out_len) return;
    const struct service *service = c->stream;
    c->stream = NULL;
    count.finished++;
    put_bytes(c, service->done);
}

static void start_stream(struct conn *c, const struct service *service, uint64_t gap_ns) {
    count.started++;
    c->stream = service;
    c->next = 0;
    c->chunks = opt_chunks;
    c->gap_ns = gap_ns;
    c->due = now_ns();
    if (put_bytes(c, service->head)) pump(c);
}

/* ---- requests ---- */

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

static void chat(struct conn *c, const struct service *service) {
    const char *body = c->in + c->head_len;
    if (!wants_stream(body, c->body_len)) {
        count.json++;
        put_bytes(c, service->json);
        return;
    }
    const char *gap = header_value(c->in, c->head_len, "x-gap-ms:");
    start_stream(c, service, gap ? strtoul(gap, NULL, 10) * 1000000u : opt_gap_ns);
}

static void put_json(struct conn *c, const char *status, struct bytes body) {
    static const char pattern[] = "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s";
    struct bytes answer = format(pattern, status, body.len, body.data);
    put_bytes(c, answer);
    free(answer.data);
    free(body.data);
}

static void token(struct conn *c) {
    count.oauth++;
    uint64_t expires_ms = ((uint64_t)time(NULL) + 30 * 60) * 1000u;
    put_json(c, "200 OK",
             format("{\"access_token\":\"mock-token\",\"expires_at\":%llu}", (unsigned long long)expires_ms));
}

static void counters(struct conn *c) {
    put_json(c, "200 OK",
             format("{\"connections\":%llu,\"requests\":%llu,\"json\":%llu,\"oauth\":%llu,\"models\":%llu,"
                    "\"streams_started\":%llu,\"streams_finished\":%llu,\"streams_aborted\":%llu,\"chunks\":%llu,"
                    "\"rejected\":%llu,\"cpu_us\":%llu}",
                    count.connections, count.requests, count.json, count.oauth, count.models, count.started,
                    count.finished, count.aborted, count.chunks, count.rejected, (unsigned long long)own_cpu_us()));
}

static void settings(struct conn *c, const char *target) {
    const char *chunks = strstr(target, "chunks="), *gap = strstr(target, "gap_ms=");
    long wanted = chunks ? strtol(chunks + 7, NULL, 10) : opt_chunks;
    if (wanted < 2) {
        put_json(c, "400 Bad Request", format("{\"error\":\"chunks must be at least 2\"}"));
        return;
    }
    opt_chunks = wanted;
    if (gap) opt_gap_ns = strtoul(gap + 7, NULL, 10) * 1000000u;
    counters(c);
}

/* Answers the complete request at the start of the buffer. */
static void answer(struct conn *c) {
    char line[256];
    size_t len = strcspn(c->in, "\r\n");
    snprintf(line, sizeof line, "%.*s", (int)len, c->in);
    char *target = strchr(line, ' ');
    if (target) *target++ = '\0';
    char *end = target ? strchr(target, ' ') : NULL;
    if (end) *end = '\0';
    bool post = strcmp(line, "POST") == 0, get = strcmp(line, "GET") == 0;
    bool control = target && strncmp(target, "/mock", 5) == 0;
    if (!control) count.requests++;
    if (control && get) counters(c);
    else if (control && post) settings(c, target);
    else if (target && post && strcmp(target, "/v1/chat/completions") == 0) chat(c, &openai);
    else if (target && post && strcmp(target, "/api/v1/chat/completions") == 0) chat(c, &gigachat);
    else if (target && post && strcmp(target, "/api/v2/oauth") == 0) token(c);
    else if (target && get && strcmp(target, "/v1/models") == 0) count.models++, put_bytes(c, openai_models);
    else if (target && get && strcmp(target, "/api/v1/models") == 0) count.models++, put_bytes(c, gigachat_models);
    else put_json(c, "404 Not Found", format("{\"error\":{\"message\":\"no such route in the mock service\"}}"));
}

static void reject(struct conn *c, const char *status) {
    count.rejected++;
    put_json(c, status, format("{\"error\":{\"message\":\"%s\"}}", status));
    drop(c);
}

/*
 * Moves decoded bytes of a chunked body together behind the head (RFC 9112, section 7.1).
 * Returns 1 when complete, 0 when bytes are missing, -1 when malformed.
 */
static int decode_chunks(struct conn *c) {
    for (;;) {
        char *line = c->in + c->scan, *eol = memmem(line, c->in_len - c->scan, "\r\n", 2);
        if (!eol) return c->in_len - c->scan > 1024 ? -1 : 0;
        if (hex_digit(*line) < 0) return -1;
        size_t size = strtoul(line, NULL, 16), data = (size_t)(eol + 2 - c->in);
        if (size > MAX_BODY || c->body_len + size > MAX_BODY) return -1;
        if (c->in_len < data + size + 2) return 0;
        if (size == 0) {
            char *tail = memmem(c->in + data - 2, c->in_len - data + 2, "\r\n\r\n", 4);
            if (!tail) return 0;
            c->scan = (size_t)(tail + 4 - c->in);
            return 1;
        }
        memmove(c->in + c->head_len + c->body_len, c->in + data, size);
        c->body_len += size;
        c->scan = data + size + 2;
    }
}

/* Reads the head of the next request. Returns as decode_chunks does. */
static int read_head(struct conn *c) {
    char *end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
    if (!end) return c->in_len > MAX_HEAD ? -1 : 0;
    c->head_len = (size_t)(end + 4 - c->in);
    const char *coding = header_value(c->in, c->head_len, "transfer-encoding:");
    const char *length = header_value(c->in, c->head_len, "content-length:");
    const char *expect = header_value(c->in, c->head_len, "expect:");
    c->kind = coding && strncasecmp(coding, "chunked", 7) == 0 ? BODY_CHUNKED : BODY_LENGTH;
    c->body_len = c->kind == BODY_LENGTH && length ? strtoul(length, NULL, 10) : 0;
    c->scan = c->head_len;
    if (c->body_len > MAX_BODY) return -1;
    if (expect && strncasecmp(expect, "100-continue", 12) == 0) put(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    return 1;
}

/* One request of the buffer; true when there may be another one behind it. */
static bool serve_one(struct conn *c) {
    if (!c->in_len) return false;
    int got = c->head_len ? 1 : read_head(c);
    if (got > 0 && c->kind == BODY_CHUNKED) got = decode_chunks(c);
    else if (got > 0) got = c->in_len >= c->head_len + c->body_len;
    if (got < 0) reject(c, "400 Bad Request");
    if (got <= 0 || c->dead) return false;
    size_t used = c->kind == BODY_CHUNKED ? c->scan : c->head_len + c->body_len;
    answer(c);
    if (c->dead) return false;
    c->in_len -= used;
    memmove(c->in, c->in + used, c->in_len);
    c->head_len = 0;
    return true;
}

/* Serves what is buffered until a stream or a full socket holds the connection. */
static void advance(struct conn *c) {
    while (!c->dead && !c->stream && !c->out_len && serve_one(c)) continue;
}

static void receive(struct conn *c) {
    if (c->in_len + 16384 > c->in_cap) c->in = must_realloc(c->in, c->in_cap = c->in_cap ? c->in_cap * 2 : 32768);
    ssize_t got = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len - 1, 0);
    if (got > 0) {
        c->in_len += (size_t)got;
        c->in[c->in_len] = '\0';
        if (c->in_len > 2u * MAX_BODY) drop(c);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        drop(c);
    }
}

static void on_event(struct conn *c, uint32_t events) {
    if (c->dead) return;
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive(c);
    if (!c->dead && (events & EPOLLOUT) && flush(c) && c->stream && !c->heap_at) pump(c);
    advance(c);
}

static void on_timer(void) {
    uint64_t expirations;
    if (read(timer_fd, &expirations, sizeof expirations) < 0 && errno != EAGAIN) die("timerfd read");
    armed_for = 0;
    uint64_t now = now_ns();
    while (heap_len && heap[1]->due <= now) {
        struct conn *c = heap[1];
        heap_remove(c);
        pump(c);
        if (!c->stream) advance(c);
    }
}

/* ---- start ---- */

static void on_accept(int listener) {
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct conn *c = calloc(1, sizeof *c);
        if (!c) die("calloc");
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
        count.connections++;
    }
}

static int listen_on(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    if (bind(fd, (struct sockaddr *)&at, sizeof at) < 0) die("bind");
    if (listen(fd, 4096) < 0) die("listen");
    if (getsockname(fd, (struct sockaddr *)&at, &len) < 0) die("getsockname");
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    return fd;
}

static void on_signal(int number) {
    (void)number;
    stopping = 1;
}

static uint16_t read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'}, {"chunks", required_argument, NULL, 'c'},
        {"gap-ms", required_argument, NULL, 'g'}, {NULL, 0, NULL, 0}};
    uint16_t port = 0;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (option == 'p') port = (uint16_t)strtoul(optarg, NULL, 10);
        else if (option == 'c') opt_chunks = strtol(optarg, NULL, 10);
        else if (option == 'g') opt_gap_ns = strtoul(optarg, NULL, 10) * 1000000u;
        else exit(2);
    }
    if (opt_chunks < 2) {
        fputs("upstream: --chunks must be at least 2\n", stderr);
        exit(2);
    }
    return port;
}

/* The listener and the timer are told from connections by the addresses of these two. */
static char listener_mark, timer_mark;

static void add_mark(int fd, char *mark) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = mark};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
}

static void serve(int listener) {
    struct epoll_event events[MAX_EVENTS];
    while (!stopping) {
        rearm();
        int ready = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) {
            void *who = events[i].data.ptr;
            if (who == &listener_mark) on_accept(listener);
            else if (who == &timer_mark) on_timer();
            else on_event(who, events[i].events);
        }
        bury();
    }
}

int main(int argc, char **argv) {
    uint16_t port = read_options(argc, argv);
    struct sigaction stop = {.sa_handler = on_signal};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    prepare_openai();
    prepare_gigachat();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll_fd < 0 || timer_fd < 0) die("epoll");
    int listener = listen_on(port);
    add_mark(listener, &listener_mark);
    add_mark(timer_fd, &timer_mark);
    serve(listener);
    return 0;
}
