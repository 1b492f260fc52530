// The load that wrk cannot make: nanoseconds of one connection, bodies towards the backend, connections over many ports.
//
//   load ping SECONDS TARGET…                      one connection at a time, in turn over all targets; a line of JSON for each
//   load upload SECONDS CONNECTIONS BYTES TARGET   whole bodies until the time is over
//   load connect SECONDS CONNECTIONS PORTS TARGET  a new connection for every small request, over PORTS ports from the target's on
//
// TARGET is ADDRESS:PORT, or ADDRESS:PORT@PID for an address in that process's network namespace.
// "errors" counts failed connects, ends, time-outs, and reports of a backend that did not receive what was sent.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "protocol.h"

enum {
    SMALL = 64,          // bytes of a small request, and of its answer
    BLOCK = 500,         // pings on one target before the next one's turn
    UNMEASURED = 10,     // the first of each block
    PINGS = 20000,       // at least, on every target
    MOST_SECONDS = 120,  // but no longer than this for all
    CHUNK = 1024 * 1024,
};

struct target {
    struct sockaddr_in address;
    int pid;  // 0: our own namespace
};

struct result {
    uint64_t requests, bytes, errors;
};

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static struct target parse(const char *text) {
    char ip[64];
    int port = 0;
    struct target target = {.address = {.sin_family = AF_INET}};
    int fields = sscanf(text, "%63[0-9.]:%d@%d", ip, &port, &target.pid);
    if (fields < 2 || inet_pton(AF_INET, ip, &target.address.sin_addr) != 1) {
        fprintf(stderr, "not a target: %s\n", text);
        exit(64);
    }
    target.address.sin_port = htons((uint16_t)port);
    return target;
}

// A socket stays in the namespace that its thread was in when it was made.
static void enter(int pid) {
    static int own = -1, current = 0;
    if (pid == current) return;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/net", pid);
    if (own < 0) own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int fd = pid ? open(path, O_RDONLY | O_CLOEXEC) : own;
    if (fd < 0 || setns(fd, CLONE_NEWNET)) {
        perror(path);
        exit(1);
    }
    if (pid) close(fd);
    current = pid;
}

static int dial(const struct sockaddr_in *address) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0) return fd;
    if (fd >= 0) close(fd);
    return -1;
}

static bool small_request(int fd) {
    char request[SMALL] = {0}, answer[SMALL];
    struct order order = {.body = SMALL - sizeof order, .answer = SMALL - sizeof(struct report)};
    memcpy(request, &order, sizeof order);
    if (!write_all(fd, request, sizeof request) || !read_all(fd, answer, sizeof answer)) return false;
    struct report report;
    memcpy(&report, answer, sizeof report);
    return report.received == order.body;
}

// ---- ping

struct pinged {
    struct target target;
    struct result result;
    uint32_t *ns;  // of each measured one
    size_t measured, room;
    double seconds;
};

static void keep(struct pinged *p, double took) {
    if (p->measured == p->room) {
        p->room = p->room ? 2 * p->room : 65536;
        p->ns = realloc(p->ns, p->room * sizeof *p->ns);
        if (!p->ns) abort();
    }
    p->ns[p->measured++] = took < 4 ? (uint32_t)(took * 1e9) : UINT32_MAX;
    p->seconds += took;
}

// A connection for each block: which thread of a proxy gets one, and on which core that is, is luck, and should not last a whole round.
static void block(struct pinged *p) {
    enter(p->target.pid);
    int fd = dial(&p->target.address);
    bool well = fd >= 0;
    for (int i = 0; i < BLOCK && well; i++) {
        double began = now();
        well = small_request(fd);
        if (well && i >= UNMEASURED) keep(p, now() - began);
        if (well) p->result.requests++;
    }
    p->result.errors += !well;
    if (fd >= 0) close(fd);
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile_us(const struct pinged *p, double share) {
    if (p->measured == 0) return 0;
    return p->ns[(size_t)((double)(p->measured - 1) * share)] / 1e3;
}

static int ping(double seconds, int count, char **texts) {
    struct pinged *all = calloc((size_t)count, sizeof *all);
    if (!all) abort();
    for (int i = 0; i < count; i++) all[i].target = parse(texts[i]);
    double began = now();
    for (bool enough = false; !enough;) {
        enough = now() - began >= seconds * count;
        for (int i = 0; i < count; i++) {
            block(&all[i]);
            enough = enough && (all[i].measured >= PINGS || all[i].result.errors > 0);
        }
        enough = enough || now() - began > MOST_SECONDS;
    }
    for (int i = 0; i < count; i++) {
        struct pinged *p = &all[i];
        if (p->ns) qsort(p->ns, p->measured, sizeof *p->ns, ascending);
        printf("{\"requests\": %lu, \"bytes\": %lu, \"errors\": %lu, \"seconds\": %.6f, \"p50_us\": %.3f, \"p99_us\": %.3f}\n",
               p->result.requests, 2 * SMALL * p->result.requests, p->result.errors, p->seconds, percentile_us(p, 0.5),
               percentile_us(p, 0.99));
    }
    return 0;
}

// ---- upload and connect: threads that share what they are told

static struct {
    struct target target;
    double until;
    uint64_t body;
    int ports, threads;
} plan;

static void *upload(void *result) {
    struct result *r = result;
    char *chunk = calloc(1, CHUNK);
    int fd = dial(&plan.target.address);
    if (!chunk || fd < 0) return r->errors++, NULL;
    while (now() < plan.until) {
        struct order order = {.body = plan.body};
        struct report report;
        bool sent = write_all(fd, &order, sizeof order);
        for (uint64_t left = plan.body; sent && left > 0;) {
            size_t n = left < CHUNK ? left : CHUNK;
            sent = write_all(fd, chunk, n);
            left -= n;
        }
        if (!sent || !read_all(fd, &report, sizeof report) || report.received != plan.body) {
            r->errors++;
            break;
        }
        r->requests++;
        r->bytes += plan.body;
    }
    close(fd);
    return NULL;
}

static void *connects(void *result) {
    struct result *r = result;
    static int threads_so_far;
    int turn = __sync_fetch_and_add(&threads_so_far, 1);  // each thread goes round the ports, starting elsewhere
    for (struct sockaddr_in address = plan.target.address; now() < plan.until; turn += plan.threads) {
        address.sin_port = htons((uint16_t)(ntohs(plan.target.address.sin_port) + turn % plan.ports));
        int fd = dial(&address);
        if (fd >= 0 && small_request(fd)) {
            r->requests++;
            r->bytes += 2 * SMALL;
        } else {
            r->errors++;
        }
        if (fd >= 0) close(fd);
    }
    return NULL;
}

static int run(void *(*work)(void *), double seconds) {
    pthread_t *threads = calloc((size_t)plan.threads, sizeof *threads);
    struct result *results = calloc((size_t)plan.threads, sizeof *results), sum = {0};
    if (!threads || !results) abort();
    enter(plan.target.pid);
    double began = now();
    plan.until = began + seconds;
    for (int i = 0; i < plan.threads; i++)
        if (pthread_create(&threads[i], NULL, work, &results[i])) return perror("pthread_create"), 1;
    for (int i = 0; i < plan.threads; i++) {
        pthread_join(threads[i], NULL);
        sum.requests += results[i].requests;
        sum.bytes += results[i].bytes;
        sum.errors += results[i].errors;
    }
    printf("{\"requests\": %lu, \"bytes\": %lu, \"errors\": %lu, \"seconds\": %.6f, \"p50_us\": 0, \"p99_us\": 0}\n",
           sum.requests, sum.bytes, sum.errors, now() - began);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 3 && !strcmp(argv[1], "ping")) return ping(atof(argv[2]), argc - 3, argv + 3);
    if (argc == 6 && (!strcmp(argv[1], "upload") || !strcmp(argv[1], "connect"))) {
        bool uploads = argv[1][0] == 'u';
        plan.target = parse(argv[5]);
        plan.threads = atoi(argv[3]);
        plan.body = uploads ? strtoull(argv[4], NULL, 10) : 0;
        plan.ports = uploads ? 1 : atoi(argv[4]);
        return run(uploads ? upload : connects, atof(argv[2]));
    }
    fprintf(stderr, "usage: load ping SECONDS TARGET… | upload SECONDS CONNECTIONS BYTES TARGET | connect SECONDS CONNECTIONS PORTS TARGET\n");
    return 64;
}
