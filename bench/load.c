/*
 * A load generator for chat completions: closed or open loop, complete answers or SSE streams, from one thread.
 *
 *   load --port N [--path P] [--method M] [--header 'Name: value']... [--body TEXT | --body-file FILE]
 *        [--connections C] [--requests N] [--duration S] [--rate R] [--stream] [--grace S]
 *
 * Closed loop (no --rate): each connection sends its next request when its answer is complete.
 * Open loop (--rate): request i is due i/R seconds after the start, whatever the earlier ones do, and its times count
 * from that moment; a request that finds every connection busy waits, and the wait is part of its latency.
 * No request starts after --duration seconds or --requests requests; running ones get --grace seconds more.
 * Prints one JSON object. SPDX-License-Identifier: Apache-2.0
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

#include "common.h"

enum { MAX_EVENTS = 512, MAX_HEAD = 32 * 1024, MAX_CONNECTIONS = 10000, LINE_START = 24, FAILURES_IN_A_ROW = 200 };

enum phase { HEAD, BODY_LENGTH, BODY_UNTIL_CLOSE, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

struct conn {
    int fd;       /* -1: not connected */
    bool busy;    /* a request is running */
    size_t sent;  /* bytes of the request that the socket took */
    uint64_t start;
    /* The answer being read. */
    enum phase phase;
    char head[MAX_HEAD];
    size_t head_len;
    unsigned long left; /* bytes left of the body or of the chunk */
    bool size_seen, size_over, keep;
    size_t trailer_len;
    int status;
    /* The SSE line being read: its first bytes and its length. */
    char line[LINE_START];
    size_t line_len;
    bool first_seen, done, failed;
};

struct samples {
    uint64_t *values;
    size_t len, cap;
};

static struct {
    long connections, requests, port;
    double duration, rate, grace;
    bool stream;
} opt = {.connections = 1, .duration = 0, .grace = 10};

static struct {
    unsigned long long started, answered, errors, non_200, incomplete, error_events, chunks, bytes;
    int last_status;
} count;

static struct samples latencies, firsts;
static struct conn *conns;
static long *idle, idle_len, busy_len, failures;
static char *request;
static size_t request_len;
static int epoll_fd;
static uint64_t begin, last_answer;
static volatile sig_atomic_t stopping;

/* ---- samples ---- */

static void keep_sample(struct samples *s, uint64_t value) {
    if (s->len == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 65536;
        s->values = must_realloc(s->values, s->cap * sizeof *s->values);
    }
    s->values[s->len++] = value;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Nearest-rank percentile of sorted samples, in microseconds. */
static double percentile(const struct samples *s, double share) {
    size_t rank = (size_t)(share * (double)s->len + 0.999999);
    return (double)s->values[rank ? rank - 1 : 0] / 1000.0;
}

static void print_samples(const char *name, struct samples *s) {
    if (!s->len) {
        printf("\"%s\":null", name);
        return;
    }
    qsort(s->values, s->len, sizeof *s->values, by_value);
    printf("\"%s\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f}", name, percentile(s, 0.50),
           percentile(s, 0.90), percentile(s, 0.99), percentile(s, 1.0));
}

/* ---- connections ---- */

static bool connect_to(struct conn *c) {
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) die("socket");
    if (connect(fd, (struct sockaddr *)&at, sizeof at) < 0) {
        close(fd);
        return false;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) die("epoll_ctl");
    c->fd = fd;
    return true;
}

static void disconnect(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

/* Takes the connection's request off the count of running ones. */
static void release(struct conn *c) {
    c->busy = false;
    busy_len--;
    idle[idle_len++] = c - conns;
}

static void fail(struct conn *c) {
    disconnect(c);
    if (!c->busy) return;
    count.errors++;
    if (++failures >= FAILURES_IN_A_ROW) stopping = 1;
    release(c);
}

static void send_rest(struct conn *c) {
    ssize_t sent = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        fail(c);
        return;
    }
    size_t before = c->sent;
    c->sent += sent > 0 ? (size_t)sent : 0;
    if (c->sent == request_len && before == 0) return;
    struct epoll_event event = {.events = EPOLLIN | (c->sent < request_len ? EPOLLOUT : 0u), .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0) die("epoll_ctl");
}

/* Starts a request on an idle connection; its times count from `intended`. */
static void start(struct conn *c, uint64_t intended) {
    count.started++;
    busy_len++;
    c->busy = true;
    c->start = intended;
    c->sent = c->head_len = c->line_len = 0;
    c->phase = HEAD;
    c->first_seen = c->done = c->failed = false;
    if (c->fd < 0 && !connect_to(c)) fail(c);
    else send_rest(c);
}

/* ---- answers ---- */

static void complete(struct conn *c) {
    uint64_t now = now_ns();
    failures = 0;
    last_answer = now;
    count.answered++;
    count.last_status = c->status;
    if (c->status != 200) count.non_200++;
    else keep_sample(&latencies, now - c->start);
    if (opt.stream && c->status == 200 && (!c->done || c->failed)) count.incomplete++;
    if (!c->keep) disconnect(c);
    release(c);
}

/* One line of an event stream (WHATWG HTML, section 9.2). A data line counts as one event. */
static void end_line(struct conn *c) {
    size_t len = c->line_len < LINE_START ? c->line_len : LINE_START;
    c->line_len = 0;
    if (len < 6 || memcmp(c->line, "data:", 5) != 0) return;
    const char *value = c->line + 5;
    size_t value_len = len - 5;
    if (*value == ' ') value++, value_len--;
    if (value_len >= 6 && memcmp(value, "[DONE]", 6) == 0) {
        c->done = true;
        return;
    }
    if (value_len >= 8 && memcmp(value, "{\"error\"", 8) == 0) {
        c->failed = true;
        count.error_events++;
        return;
    }
    count.chunks++;
    if (c->first_seen) return;
    c->first_seen = true;
    keep_sample(&firsts, now_ns() - c->start);
}

static void on_data(struct conn *c, const char *data, size_t len) {
    count.bytes += len;
    if (!opt.stream) return;
    while (len) {
        const char *eol = memchr(data, '\n', len);
        size_t part = eol ? (size_t)(eol - data) : len;
        if (c->line_len < LINE_START) {
            size_t room = LINE_START - c->line_len;
            memcpy(c->line + c->line_len, data, part < room ? part : room);
        }
        c->line_len += part;
        if (!eol) return;
        end_line(c);
        data += part + 1;
        len -= part + 1;
    }
}

/* Consumes bytes of the head; sets the next phase at its end. Returns the bytes used, or -1 when malformed. */
static ssize_t on_head(struct conn *c, const char *data, size_t len) {
    size_t room = sizeof c->head - 1 - c->head_len, before = c->head_len;
    size_t part = len < room ? len : room;
    memcpy(c->head + c->head_len, data, part);
    c->head_len += part;
    c->head[c->head_len] = '\0';
    char *end = memmem(c->head, c->head_len, "\r\n\r\n", 4);
    if (!end) return c->head_len == sizeof c->head - 1 ? -1 : (ssize_t)part;
    c->head_len = (size_t)(end + 4 - c->head);
    if (strncmp(c->head, "HTTP/1.", 7) != 0) return -1;
    c->status = atoi(c->head + 9);
    size_t used = c->head_len - before;
    const char *coding = header_value(c->head, c->head_len, "transfer-encoding:");
    const char *length = header_value(c->head, c->head_len, "content-length:");
    const char *option = header_value(c->head, c->head_len, "connection:");
    c->keep = !(option && strncasecmp(option, "close", 5) == 0);
    c->left = length ? strtoul(length, NULL, 10) : 0;
    c->size_seen = c->size_over = false;
    if (coding && strncasecmp(coding, "chunked", 7) == 0) c->phase = CHUNK_SIZE;
    else if (length) c->phase = BODY_LENGTH;
    else c->phase = BODY_UNTIL_CLOSE;
    return (ssize_t)used;
}

/* One byte of a chunk's size line; false when malformed. */
static bool on_size_byte(struct conn *c, char byte) {
    int digit = hex_digit(byte);
    if (byte == '\n') {
        if (!c->size_seen) return false;
        c->phase = c->left ? CHUNK_DATA : TRAILER;
        c->trailer_len = 0;
        c->size_seen = c->size_over = false;
    } else if (!c->size_over && digit >= 0) {
        c->left = (c->size_seen ? c->left * 16 : 0) + (unsigned long)digit;
        c->size_seen = true;
    } else {
        c->size_over = true;
    }
    return true;
}

/* Consumes bytes of the body. Returns the bytes used, or -1 when malformed; sets *ended at the end of the answer. */
static ssize_t on_body(struct conn *c, const char *data, size_t len, bool *ended) {
    size_t part = len < c->left ? len : c->left;
    switch (c->phase) {
    case BODY_UNTIL_CLOSE:
        on_data(c, data, len);
        return (ssize_t)len;
    case BODY_LENGTH:
    case CHUNK_DATA:
        on_data(c, data, part);
        c->left -= part;
        if (!c->left && c->phase == BODY_LENGTH) *ended = true;
        else if (!c->left) c->phase = CHUNK_END;
        return (ssize_t)part;
    case CHUNK_END:
        if (*data == '\n') c->phase = CHUNK_SIZE;
        return 1;
    case CHUNK_SIZE:
        return on_size_byte(c, *data) ? 1 : -1;
    default:
        if (*data == '\n' && c->trailer_len == 0) *ended = true;
        c->trailer_len = *data == '\n' ? 0 : c->trailer_len + (*data != '\r');
        return 1;
    }
}

/* Feeds received bytes to the parser; false when the answer is malformed. */
static bool parse(struct conn *c, const char *data, size_t len) {
    while (len) {
        bool ended = false;
        if (!c->busy) return false;
        ssize_t used = c->phase == HEAD ? on_head(c, data, len) : on_body(c, data, len, &ended);
        if (used < 0) return false;
        data += used;
        len -= (size_t)used;
        if (c->phase == BODY_LENGTH && c->left == 0) ended = true;
        if (ended) complete(c);
    }
    return true;
}

static void receive(struct conn *c) {
    static char buffer[256 * 1024];
    ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
    if (got > 0) {
        if (!parse(c, buffer, (size_t)got)) fail(c);
    } else if (got == 0 && c->busy && c->phase == BODY_UNTIL_CLOSE) {
        c->keep = false;
        complete(c);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        fail(c);
    }
}

/* ---- the loop ---- */

static bool may_start(uint64_t at) {
    if (stopping || (opt.requests && (long)count.started >= opt.requests)) return false;
    return opt.duration <= 0 || (double)(at - begin) / 1e9 < opt.duration;
}

/* The moment at which the next request of the open loop is due. */
static uint64_t next_due(void) { return begin + (uint64_t)((double)count.started * 1e9 / opt.rate); }

/* Starts what may start now. Returns false when nothing will start any more. */
static bool start_due(int timer) {
    if (opt.rate <= 0) {
        uint64_t now = now_ns();
        for (; idle_len && may_start(now); now = now_ns()) start(&conns[idle[--idle_len]], now);
        return may_start(now);
    }
    while (idle_len && may_start(next_due()) && next_due() <= now_ns()) start(&conns[idle[--idle_len]], next_due());
    if (!may_start(next_due())) return false;
    if (idle_len) arm_timer(timer, next_due());
    return true;
}

static void handle(struct epoll_event *event, int timer) {
    uint64_t expirations;
    struct conn *c = event->data.ptr;
    if (!c) {
        if (read(timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN) die("timerfd read");
        return;
    }
    if (c->fd >= 0 && (event->events & EPOLLOUT) && c->busy) send_rest(c);
    if (c->fd >= 0 && (event->events & (EPOLLIN | EPOLLERR | EPOLLHUP))) receive(c);
}

static void run(int timer) {
    struct epoll_event events[MAX_EVENTS];
    uint64_t deadline = 0;
    begin = last_answer = now_ns();
    for (;;) {
        bool more = start_due(timer);
        if (stopping || (!more && !busy_len)) return;
        if (!more && !deadline) deadline = now_ns() + (uint64_t)(opt.grace * 1e9);
        if (deadline && now_ns() >= deadline) return;
        int ready = epoll_wait(epoll_fd, events, MAX_EVENTS, 50);
        if (ready < 0 && errno != EINTR) die("epoll_wait");
        for (int i = 0; i < ready; i++) handle(&events[i], timer);
    }
}

/* ---- options and report ---- */

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) die(path);
    size_t len = 0, cap = 65536;
    char *text = must_realloc(NULL, cap);
    for (size_t got; (got = fread(text + len, 1, cap - len - 1, file)) > 0;) {
        len += got;
        if (cap - len < 2) text = must_realloc(text, cap *= 2);
    }
    fclose(file);
    text[len] = '\0';
    return text;
}

static void build_request(const char *method, const char *path, const char *headers, const char *body) {
    int len = asprintf(&request, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\n%s", method, path, opt.port, headers);
    if (len < 0) die("asprintf");
    char length[64];
    snprintf(length, sizeof length, "Content-Length: %zu\r\n\r\n", strlen(body));
    request_len = (size_t)len + strlen(length) + strlen(body);
    request = must_realloc(request, request_len + 1);
    strcat(strcat(request, length), body);
}

static void usage(const char *why) {
    fprintf(stderr, "load: %s (see the comment at the top of load.c)\n", why);
    exit(2);
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", required_argument, NULL, 'p'},        {"path", required_argument, NULL, 'P'},
        {"method", required_argument, NULL, 'm'},      {"header", required_argument, NULL, 'h'},
        {"body", required_argument, NULL, 'b'},        {"body-file", required_argument, NULL, 'f'},
        {"connections", required_argument, NULL, 'c'}, {"requests", required_argument, NULL, 'n'},
        {"duration", required_argument, NULL, 'd'},    {"rate", required_argument, NULL, 'r'},
        {"grace", required_argument, NULL, 'g'},       {"stream", no_argument, NULL, 's'},
        {NULL, 0, NULL, 0}};
    const char *path = "/v1/chat/completions", *method = "POST", *body = "";
    char *headers = must_realloc(NULL, 1);
    *headers = '\0';
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case 'p': opt.port = strtol(optarg, NULL, 10); break;
        case 'P': path = optarg; break;
        case 'm': method = optarg; break;
        case 'h':
            headers = must_realloc(headers, strlen(headers) + strlen(optarg) + 3);
            strcat(strcat(headers, optarg), "\r\n");
            break;
        case 'b': body = optarg; break;
        case 'f': body = read_file(optarg); break;
        case 'c': opt.connections = strtol(optarg, NULL, 10); break;
        case 'n': opt.requests = strtol(optarg, NULL, 10); break;
        case 'd': opt.duration = strtod(optarg, NULL); break;
        case 'r': opt.rate = strtod(optarg, NULL); break;
        case 'g': opt.grace = strtod(optarg, NULL); break;
        case 's': opt.stream = true; break;
        default: exit(2);
        }
    }
    if (opt.port < 1 || opt.port > 65535) usage("--port is missing or out of range");
    if (opt.connections < 1 || opt.connections > MAX_CONNECTIONS) usage("--connections is out of range");
    if (opt.requests <= 0 && opt.duration <= 0) usage("--requests or --duration is needed");
    build_request(method, path, headers, body);
    free(headers);
}

static void report(void) {
    double elapsed = (double)(last_answer - begin) / 1e9;
    printf("{\"requests\":%llu,\"started\":%llu,\"unfinished\":%ld,\"errors\":%llu,\"non_200\":%llu,\"last_status\":%d,"
           "\"incomplete_streams\":%llu,\"error_events\":%llu,\"chunks\":%llu,\"bytes\":%llu,\"elapsed_s\":%.6f,"
           "\"requests_per_s\":%.2f,\"cpu_us\":%llu,",
           count.answered, count.started, busy_len, count.errors, count.non_200, count.last_status, count.incomplete,
           count.error_events, count.chunks, count.bytes, elapsed, elapsed > 0 ? (double)count.answered / elapsed : 0.0,
           (unsigned long long)own_cpu_us());
    print_samples("latency_us", &latencies);
    printf(",");
    print_samples("first_us", &firsts);
    printf("}\n");
}

static void on_signal(int number) {
    (void)number;
    stopping = 1;
}

/* Connects everything before the clock starts, so that no request pays for it. */
static void open_connections(void) {
    conns = calloc((size_t)opt.connections, sizeof *conns);
    idle = calloc((size_t)opt.connections, sizeof *idle);
    if (!conns || !idle) die("calloc");
    for (long i = opt.connections - 1; i >= 0; i--) {
        conns[i].fd = -1;
        if (!connect_to(&conns[i])) die("connect");
        idle[idle_len++] = i;
    }
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    struct sigaction stop = {.sa_handler = on_signal};
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_fd < 0 || timer < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, timer, &event) < 0) die("epoll");
    open_connections();
    run(timer);
    report();
    return 0;
}
