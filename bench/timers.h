/* A binary heap of moments, the earliest first, behind one timerfd. SPDX-License-Identifier: Apache-2.0 */
#ifndef BENCH_TIMERS_H
#define BENCH_TIMERS_H

#include "common.h"

/* One moment to wait for. `owner` is whoever waits; `at` is the 1-based place in the heap, 0 when it is not in it. */
struct timer {
    uint64_t due;
    size_t at;
    void *owner;
};

struct timers {
    struct timer **heap;
    size_t len, cap;
    int fd;
    uint64_t armed_for;
};

static void timers_place(struct timers *set, size_t at, struct timer *timer) {
    set->heap[at] = timer;
    timer->at = at;
}

/* Restores the heap's order around one place. */
static void timers_sift(struct timers *set, size_t at) {
    struct timer **heap = set->heap, *timer = heap[at];
    for (; at > 1 && heap[at / 2]->due > timer->due; at /= 2) timers_place(set, at, heap[at / 2]);
    for (size_t child; (child = at * 2) <= set->len; at = child) {
        if (child < set->len && heap[child + 1]->due < heap[child]->due) child++;
        if (heap[child]->due >= timer->due) break;
        timers_place(set, at, heap[child]);
    }
    timers_place(set, at, timer);
}

static void timers_add(struct timers *set, struct timer *timer) {
    if (set->len + 1 >= set->cap) {
        set->cap = set->cap ? set->cap * 2 : 1024;
        set->heap = must_realloc(set->heap, set->cap * sizeof *set->heap);
    }
    timers_place(set, ++set->len, timer);
    timers_sift(set, set->len);
}

static void timers_remove(struct timers *set, struct timer *timer) {
    size_t at = timer->at;
    if (!at) return;
    timer->at = 0;
    struct timer *moved = set->heap[set->len--];
    if (moved == timer) return;
    timers_place(set, at, moved);
    timers_sift(set, at);
}

/* Takes out the earliest timer when its moment has come; NULL otherwise. */
static struct timer *timers_pop(struct timers *set, uint64_t now) {
    if (!set->len || set->heap[1]->due > now) return NULL;
    struct timer *first = set->heap[1];
    timers_remove(set, first);
    return first;
}

/* Sets the timerfd to the earliest moment; to be called before each wait. */
static void timers_arm(struct timers *set) {
    uint64_t wanted = set->len ? set->heap[1]->due : 0;
    if (wanted != set->armed_for) arm_timer(set->fd, set->armed_for = wanted);
}

#endif
