#include "engine/worker/queue.h"

#include <stdlib.h>

void queue_init(struct queue *q) {
    *q = (struct queue){.n_running = 0};
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->changed, NULL);
}

void queue_close(struct queue *q) {
    for (struct sequence *s = q->waiting, *next; s; s = next) {
        next = s->next;
        sequence_free(s);
    }
    for (int32_t i = 0; i < q->n_running; i++) sequence_free(q->running[i]);
    keeper_close(&q->kept);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->changed);
}

static void insert(struct queue *q, struct sequence *s) {
    struct sequence **at = &q->waiting;
    while (*at && !lane_before(&s->lane, &(*at)->lane)) at = &(*at)->next;
    s->next = *at;
    *at = s;
    q->n_waiting++;
}

static void tell(struct queue *q) {
    q->news = true;
    pthread_cond_signal(&q->changed);
}

int32_t queue_length(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    int32_t n = q->n_waiting;
    for (int32_t i = 0; i < q->n_running; i++) n += !atomic_load(&q->running[i]->cancelled);
    pthread_mutex_unlock(&q->lock);
    return n;
}

void queue_add(struct queue *q, struct sequence *s) {
    pthread_mutex_lock(&q->lock);
    s->lane.serial = ++q->serial;
    s->lane.due = lane_due(s->arrived, s->prompt, &(struct pace){.prompt_ns = q->prompt_ns});
    insert(q, s);
    tell(q);
    pthread_mutex_unlock(&q->lock);
}

struct sequence *queue_cancel(struct queue *q, uint64_t id) {
    pthread_mutex_lock(&q->lock);
    struct sequence **at = &q->waiting, *found;
    while (*at && (*at)->id != id) at = &(*at)->next;
    found = *at;
    if (found) {
        *at = found->next;
        q->n_waiting--;
    }
    for (int32_t i = 0; i < q->n_running; i++)
        if (q->running[i]->id == id) atomic_store(&q->running[i]->cancelled, true);
    tell(q);
    pthread_mutex_unlock(&q->lock);
    return found;
}

static struct sequence *find(const struct queue *q, uint64_t id) {
    for (int32_t i = 0; i < q->n_running; i++)
        if (q->running[i]->id == id) return q->running[i];
    struct sequence *s = q->waiting;
    while (s && s->id != id) s = s->next;
    return s;
}

static int append_order(struct sequence *s, const struct order *o) {
    if (s->n_orders == (int32_t)LIMIT_KV_ORDERS) return -1;
    if (s->n_orders == s->orders_room) {
        int32_t room = s->orders_room ? 2 * s->orders_room : 8;
        struct order *orders = realloc(s->orders, (size_t)room * sizeof *orders);
        if (!orders) return -1;
        s->orders = orders;
        s->orders_room = room;
    }
    s->orders[s->n_orders++] = *o;
    return 0;
}

void queue_order(struct queue *q, uint64_t id, struct order *o) {
    pthread_mutex_lock(&q->lock);
    struct sequence *s = find(q, id);
    if (!s) {
        order_free(o);
    } else if (append_order(s, o)) {
        s->orders_lost = true;
        order_free(o);
    }
    tell(q);
    pthread_mutex_unlock(&q->lock);
}

int32_t queue_take_orders(struct queue *q, int32_t i, struct order **out, bool *lost) {
    pthread_mutex_lock(&q->lock);
    struct sequence *s = q->running[i];
    int32_t n = s->n_orders;
    *out = s->orders;
    *lost = s->orders_lost;
    s->orders = NULL;
    s->n_orders = s->orders_room = 0;
    pthread_mutex_unlock(&q->lock);
    return n;
}

void queue_wake(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    tell(q);
    pthread_mutex_unlock(&q->lock);
}

int32_t queue_kept(struct queue *q, const struct sequence *s) {
    int32_t shared;
    pthread_mutex_lock(&q->lock);
    keeper_best(&q->kept, s->tokens, s->prompt, s->strict, &shared);
    pthread_mutex_unlock(&q->lock);
    return shared;
}

void queue_ask_report(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    q->wishes.report = true;
    tell(q);
    pthread_mutex_unlock(&q->lock);
}

void queue_ask_forget(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    q->wishes.forget = true;
    tell(q);
    pthread_mutex_unlock(&q->lock);
}

void queue_stop(struct queue *q) {
    pthread_mutex_lock(&q->lock);
    atomic_store(&q->closing, true);
    tell(q);
    pthread_mutex_unlock(&q->lock);
}

bool queue_wait(struct queue *q, bool busy, struct wishes *asked) {
    pthread_mutex_lock(&q->lock);
    while (!q->closing && !busy && !q->news) pthread_cond_wait(&q->changed, &q->lock);
    *asked = q->wishes;
    q->wishes = (struct wishes){.report = false};
    q->news = false;
    pthread_mutex_unlock(&q->lock);
    return !atomic_load(&q->closing);
}

struct sequence *queue_admit(struct queue *q, bool (*fits)(const struct sequence *s, void *arg), void *arg) {
    pthread_mutex_lock(&q->lock);
    struct sequence *s = q->waiting;
    if (s && fits(s, arg)) {
        q->waiting = s->next;
        q->n_waiting--;
        q->running[q->n_running++] = s;
    } else {
        s = NULL;
    }
    pthread_mutex_unlock(&q->lock);
    return s;
}

struct sequence *queue_remove(struct queue *q, int32_t i) {
    pthread_mutex_lock(&q->lock);
    struct sequence *s = q->running[i];
    q->running[i] = q->running[--q->n_running];
    pthread_mutex_unlock(&q->lock);
    return s;
}

bool queue_preempt(struct queue *q, int32_t i) {
    pthread_mutex_lock(&q->lock);
    struct sequence *s = q->running[i];
    bool moves = !atomic_load(&s->cancelled);
    if (moves) {
        q->running[i] = q->running[--q->n_running];
        s->lane.due = 0;
        insert(q, s);
    }
    pthread_mutex_unlock(&q->lock);
    return moves;
}

void queue_set_pace(struct queue *q, double prompt_ns) {
    pthread_mutex_lock(&q->lock);
    q->prompt_ns = prompt_ns;
    pthread_mutex_unlock(&q->lock);
}
