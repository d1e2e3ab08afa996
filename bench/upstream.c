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
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "answers.h"
#include "common.h"
#include "request.h"
#include "timers.h"

enum { MAX_EVENTS = 512 };

struct conn {
    int fd;
    bool dead, want_write;
    struct request request;
    /* Bytes that the socket did not take yet. */
    char *out;
    size_t out_len, out_off, out_cap;
    /* The stream being sent. */
    const struct service *stream;
    long next, chunks;
    uint64_t gap_ns;
    struct timer timer; /* the moment of the next event */
    struct conn *next_dead;
};

static struct {
    unsigned long long connections, requests, json, oauth, models, started, finished, aborted, chunks, rejected;
} count;

static long opt_chunks = 100;
static uint64_t opt_gap_ns;
static int epoll_fd;
static struct timers timers;
static struct conn *dead_list;
static volatile sig_atomic_t stopping;

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
    timers_remove(&timers, &c->timer);
    close(c->fd);
    c->dead = true;
    c->next_dead = dead_list;
    dead_list = c;
}

static void bury(void) {
    while (dead_list) {
        struct conn *c = dead_list;
        dead_list = c->next_dead;
        free(c->request.in);
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
        if (c->gap_ns && c->timer.due > now_ns()) {
            timers_add(&timers, &c->timer);
            return;
        }
        struct bytes event = stream_piece(c);
        c->next++;
        c->timer.due += c->gap_ns;
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
    c->timer.due = now_ns();
    if (put_bytes(c, service->head)) pump(c);
}

/* ---- requests ---- */

static void chat(struct conn *c, const struct service *service) {
    const struct request *r = &c->request;
    if (!wants_stream(r->in + r->head_len, r->body_len)) {
        count.json++;
        put_bytes(c, service->json);
        return;
    }
    const char *gap = header_value(r->in, r->head_len, "x-gap-ms:");
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
    size_t len = strcspn(c->request.in, "\r\n");
    snprintf(line, sizeof line, "%.*s", (int)len, c->request.in);
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
    else if (target && get && strcmp(target, "/v1/models") == 0) count.models++, put_bytes(c, openai.models);
    else if (target && get && strcmp(target, "/api/v1/models") == 0) count.models++, put_bytes(c, gigachat.models);
    else put_json(c, "404 Not Found", format("{\"error\":{\"message\":\"no such route in the mock service\"}}"));
}

static void reject(struct conn *c, const char *status) {
    count.rejected++;
    put_json(c, status, format("{\"error\":{\"message\":\"%s\"}}", status));
    drop(c);
}

/* One request of the buffer; true when there may be another one behind it. */
static bool serve_one(struct conn *c) {
    int got = read_request(&c->request);
    if (got < 0) reject(c, "400 Bad Request");
    if (got <= 0) return false;
    answer(c);
    if (c->dead) return false;
    drop_request(&c->request);
    return true;
}

/* Serves what is buffered until a stream or a full socket holds the connection. */
static void advance(struct conn *c) {
    while (!c->dead && !c->stream && !c->out_len && serve_one(c)) continue;
}

static void receive(struct conn *c) {
    struct request *r = &c->request;
    if (r->in_len + 16384 > r->in_cap) r->in = must_realloc(r->in, r->in_cap = r->in_cap ? r->in_cap * 2 : 32768);
    ssize_t got = recv(c->fd, r->in + r->in_len, r->in_cap - r->in_len - 1, 0);
    if (got > 0) {
        r->in_len += (size_t)got;
        r->in[r->in_len] = '\0';
        if (r->in_len > 2u * MAX_BODY) drop(c);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        drop(c);
    }
}

static void on_event(struct conn *c, uint32_t events) {
    if (c->dead) return;
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) receive(c);
    if (!c->dead && (events & EPOLLOUT) && flush(c) && c->stream && !c->timer.at) pump(c);
    advance(c);
}

static void on_timer(void) {
    uint64_t expirations, now = now_ns();
    if (read(timers.fd, &expirations, sizeof expirations) < 0 && errno != EAGAIN) die("timerfd read");
    timers.armed_for = 0;
    for (struct timer *timer; (timer = timers_pop(&timers, now));) {
        struct conn *c = timer->owner;
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
        c->timer.owner = c;
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
        timers_arm(&timers);
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
    prepare_answers();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    timers.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (epoll_fd < 0 || timers.fd < 0) die("epoll");
    int listener = listen_on(port);
    add_mark(listener, &listener_mark);
    add_mark(timers.fd, &timer_mark);
    serve(listener);
    return 0;
}
