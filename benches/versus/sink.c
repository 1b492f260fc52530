// The backend of the benchmark's own client: takes bodies, says what arrived, answers. Blocking, one connection a thread.
// Usage: sink ADDRESS PORT PORTS THREADS_PER_PORT ; PORT 0: any. Says the (first) port on standard output once all are listening.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol.h"

enum { CHUNK = 256 * 1024 };

static uint32_t crc_table[256];

static void prepare_crc(void) {  // zlib's polynomial: the checking side is Python's zlib.crc32
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        crc_table[i] = c;
    }
}

static uint32_t crc32_of(uint32_t crc, const uint8_t *data, size_t length) {
    crc = ~crc;
    while (length-- > 0) crc = crc_table[(crc ^ *data++) & 0xFF] ^ (crc >> 8);
    return ~crc;
}

static void fill(uint8_t *chunk, uint64_t *state) {  // xorshift64: no two words of an answer are in a pattern that a shift would hide
    for (size_t i = 0; i < CHUNK; i += 8) {
        *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
        memcpy(chunk + i, state, 8);
    }
}

static bool take(int fd, const struct order *order, uint8_t *chunk, struct report *report) {
    for (uint64_t left = order->body; left > 0;) {
        ssize_t n = recv(fd, chunk, left < CHUNK ? left : CHUNK, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        if (order->checked) report->crc = crc32_of((uint32_t)report->crc, chunk, (size_t)n);
        report->received += (uint64_t)n;
        left -= (uint64_t)n;
    }
    return true;
}

static bool answer(int fd, const struct order *order, uint8_t *chunk, const struct report *report) {
    if (order->answer + sizeof *report <= CHUNK && !order->checked) {  // one segment, not two
        memcpy(chunk, report, sizeof *report);
        return write_all(fd, chunk, sizeof *report + order->answer);
    }
    if (!write_all(fd, report, sizeof *report)) return false;
    uint64_t state = 0x9E3779B97F4A7C15u ^ report->crc, crc = 0;
    for (uint64_t left = order->answer; left > 0;) {
        size_t n = left < CHUNK ? left : CHUNK;
        if (order->checked) {
            fill(chunk, &state);
            crc = crc32_of((uint32_t)crc, chunk, n);
        }
        if (!write_all(fd, chunk, n)) return false;
        left -= n;
    }
    return !order->checked || write_all(fd, &crc, sizeof crc);
}

static void *serve(void *listener) {
    uint8_t *chunk = calloc(1, CHUNK);
    if (!chunk) abort();
    for (;;) {
        int fd = accept((int)(intptr_t)listener, NULL, NULL);
        if (fd < 0) continue;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct order order;
        while (read_all(fd, &order, sizeof order)) {
            struct report report = {0};
            if (!take(fd, &order, chunk, &report) || !answer(fd, &order, chunk, &report)) break;
        }
        close(fd);
    }
    return NULL;
}

static int listen_on(const char *address, int port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (inet_pton(AF_INET, address, &at.sin_addr) != 1 || bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) {
        perror(address);
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: sink ADDRESS PORT PORTS THREADS_PER_PORT\n"), 64;
    int port = atoi(argv[2]), ports = atoi(argv[3]), threads = atoi(argv[4]);
    prepare_crc();
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    for (int p = 0; p < ports; p++) {
        int listener = listen_on(argv[1], port == 0 ? 0 : port + p);
        if (p == 0) {
            struct sockaddr_in at;
            getsockname(listener, (struct sockaddr *)&at, &(socklen_t){sizeof at});
            port = ntohs(at.sin_port);
        }
        for (int t = 0; t < threads; t++) {
            pthread_t thread;
            if (pthread_create(&thread, &small, serve, (void *)(intptr_t)listener)) return perror("pthread_create"), 1;
        }
    }
    printf("%d\n", port);
    fflush(stdout);
    for (;;) pause();
}
