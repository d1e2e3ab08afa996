/*
 * A load generator for chat completions: closed or open loop, complete answers or SSE streams, from one thread.
 *
 *   load --port N [--path P] [--method M] [--header 'Name: value']... [--body TEXT | --body-file FILE]
 *        [--key-file FILE] [--connections C] [--requests N] [--duration S] [--rate R] [--stream] [--grace S]
 *
 * Closed loop (no --rate): each connection sends its next request when its answer is complete.
 * Open loop (--rate): request i is due i/R seconds after the start, whatever the earlier ones do, and its times count
 * from that moment; a request that finds every connection busy waits, and the wait is part of its latency.
 * With --key-file the requests take turns with its keys, one a line, each sent as "Authorization: Bearer KEY".
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
#include "reply.h"

enum { MAX_EVENTS = 512, MAX_CONNECTIONS = 10000, FAILURES_IN_A_ROW = 200 };

struct text {
    char *bytes;
    size_t len;
};

struct conn {
    int fd;       /* -1: not connected */
    bool busy;    /* a request is running */
    const struct text *request;
    size_t sent;  /* bytes of the request that the socket took */
    uint64_t start;
    struct reply reply;
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
static struct text *requests;
static size_t requests_len;
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

/* ---- replies ---- */

/* Adds what the reply, complete or not, brought so far. */
static void tally(const struct conn *c) {
    const struct reply *r = &c->reply;
    count.chunks += r->events;
    count.error_events += r->errors;
    count.bytes += r->bytes;
    if (r->events) keep_sample(&firsts, r->first_at - c->start);
}

static void complete(struct conn *c) {
    const struct reply *r = &c->reply;
    uint64_t now = now_ns();
    failures = 0;
    last_answer = now;
    count.answered++;
    count.last_status = r->status;
    tally(c);
    if (r->status != 200) count.non_200++;
    else keep_sample(&latencies, now - c->start);
    if (opt.stream && r->status == 200 && (!r->done || r->errors)) count.incomplete++;
    if (!r->keep) disconnect(c);
    release(c);
}

static void fail(struct conn *c) {
    disconnect(c);
    if (!c->busy) return;
    count.errors++;
    tally(c);
    if (++failures >= FAILURES_IN_A_ROW) stopping = 1;
    release(c);
}

static void receive(struct conn *c) {
    static char buffer[256 * 1024];
    ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
    bool again = got < 0 && (errno == EAGAIN || errno == EINTR);
    if (again) return;
    if (got > 0 && c->busy && reply_feed(&c->reply, buffer, (size_t)got) == got) {
        if (c->reply.phase == COMPLETE) complete(c);
    } else if (got == 0 && c->busy && c->reply.phase == BODY_UNTIL_CLOSE) {
        c->reply.keep = false;
        complete(c);
    } else {
        fail(c);
    }
}

/* ---- requests ---- */

static void send_rest(struct conn *c) {
    const struct text *request = c->request;
    ssize_t sent = send(c->fd, request->bytes + c->sent, request->len - c->sent, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        fail(c);
        return;
    }
    size_t before = c->sent;
    c->sent += sent > 0 ? (size_t)sent : 0;
    if (c->sent == request->len && before == 0) return;
    struct epoll_event event = {.events = EPOLLIN | (c->sent < request->len ? EPOLLOUT : 0u), .data.ptr = c};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event) < 0) die("epoll_ctl");
}

/* Starts a request on an idle connection; its times count from `intended`. */
static void start(struct conn *c, uint64_t intended) {
    c->request = &requests[count.started++ % requests_len];
    busy_len++;
    c->busy = true;
    c->start = intended;
    c->sent = 0;
    reply_reset(&c->reply, opt.stream);
    if (c->fd < 0 && !connect_to(c)) fail(c);
    else send_rest(c);
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

/* One more variant of the request; `key` may be NULL. */
static void build_request(const char *method, const char *path, const char *headers, const char *key,
                          const char *body) {
    requests = must_realloc(requests, (requests_len + 1) * sizeof *requests);
    struct text *request = &requests[requests_len++];
    static const char form[] = "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\n%s%s%s%sContent-Length: %zu\r\n\r\n%s";
    int len = asprintf(&request->bytes, form, method, path, opt.port, headers, key ? "Authorization: Bearer " : "",
                       key ? key : "", key ? "\r\n" : "", strlen(body), body);
    if (len < 0) die("asprintf");
    request->len = (size_t)len;
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
        {"grace", required_argument, NULL, 'g'},       {"key-file", required_argument, NULL, 'k'},
        {"stream", no_argument, NULL, 's'},
        {NULL, 0, NULL, 0}};
    const char *path = "/v1/chat/completions", *method = "POST", *body = "";
    char *headers = must_realloc(NULL, 1), *keys = NULL;
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
        case 'k': keys = read_file(optarg); break;
        case 's': opt.stream = true; break;
        default: exit(2);
        }
    }
    if (opt.port < 1 || opt.port > 65535) usage("--port is missing or out of range");
    if (opt.connections < 1 || opt.connections > MAX_CONNECTIONS) usage("--connections is out of range");
    if (opt.requests <= 0 && opt.duration <= 0) usage("--requests or --duration is needed");
    if (!keys) build_request(method, path, headers, NULL, body);
    for (char *key = keys ? strtok(keys, "\r\n") : NULL; key; key = strtok(NULL, "\r\n")) {
        build_request(method, path, headers, key, body);
    }
    if (!requests_len) usage("--key-file holds no key");
    free(headers);
    free(keys);
}

static void report(void) {
    for (long i = 0; i < opt.connections; i++) {
        if (conns[i].busy) tally(&conns[i]);
    }
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

/*
 * Connects everything before the clock starts, so that no request pays for it. The pause lets the server accept: libuv
 * takes one connection in each turn of its loop, so under load the last of hundreds would wait for seconds.
 */
static void open_connections(void) {
    conns = calloc((size_t)opt.connections, sizeof *conns);
    idle = calloc((size_t)opt.connections, sizeof *idle);
    if (!conns || !idle) die("calloc");
    for (long i = opt.connections - 1; i >= 0; i--) {
        conns[i].fd = -1;
        if (!connect_to(&conns[i])) die("connect");
        idle[idle_len++] = i;
    }
    usleep(50000 + 250 * (useconds_t)opt.connections);
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
