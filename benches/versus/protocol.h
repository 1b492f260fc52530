// What the benchmark's own client and backend say to each other: an order and its body one way, a report and an answer the other.
// Both ends run on one machine, so numbers are in its byte order.
#ifndef PROTOCOL_H
#define PROTOCOL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

struct order {
    uint64_t body;     // bytes that follow this order
    uint64_t answer;   // bytes wanted after the report
    uint64_t checked;  // 1: CRC-32 of the body in the report, a pattern that never repeats as the answer, its CRC-32 after it
};

struct report {
    uint64_t received;  // bytes of the body
    uint64_t crc;       // 0 unless checked
};

// Whole or not at all; a time-out of the socket, an end and a reset are all failures.
static inline bool read_all(int fd, void *into, size_t length) {
    for (char *at = into; length > 0;) {
        ssize_t n = recv(fd, at, length, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        length -= (size_t)n;
    }
    return true;
}

static inline bool write_all(int fd, const void *from, size_t length) {
    for (const char *at = from; length > 0;) {
        ssize_t n = send(fd, at, length, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += n;
        length -= (size_t)n;
    }
    return true;
}

#endif
