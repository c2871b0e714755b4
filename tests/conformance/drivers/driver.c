/*
 * The conformance driver for C: requests come as JSON lines on standard input, answers and events go as JSON lines to
 * standard output. tests/conformance/README.md describes both. No logic beyond naming what tenure.h has.
 */
#define _GNU_SOURCE
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <tenure.h>
#include <unistd.h>

enum { MAX_OBJECTS = 256 };

/* What a name stands for. It stays here when the object is freed, so that stale handles can be used. */
struct object {
    char *name;
    tenure_service *service;
    tenure_campaign *campaign;
    tenure_observer *observer;
};

static struct object objects[MAX_OBJECTS];
static size_t object_count;
/* Held while an object is made, so that a callback finds the one that it is called for. */
static pthread_mutex_t objects_lock = PTHREAD_MUTEX_INITIALIZER;

/* What a campaign's or observer's callback is given. */
struct listener {
    char *name;
    json_t *inside;
};

static void perform(json_t *request);

static void die(const char *what)
{
    fprintf(stderr, "driver: %s\n", what);
    exit(2);
}

static void write_line(json_t *line)
{
    char *text = json_dumps(line, JSON_COMPACT);
    if (text == NULL)
        die("a line can't be written");
    flockfile(stdout);
    fputs(text, stdout);
    putc('\n', stdout);
    fflush(stdout);
    funlockfile(stdout);
    free(text);
    json_decref(line);
}

/* Bytes travel as text: each byte is the character of that number. */
static json_t *from_bytes(const char *bytes, size_t len)
{
    char *text = malloc(2 * len + 1), *end = text;
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (byte >= 0x80)
            *end++ = (char)(0xc0 | byte >> 6);
        *end++ = (char)(byte < 0x80 ? byte : (0x80 | (byte & 0x3f)));
    }
    json_t *string = json_stringn(text, (size_t)(end - text));
    free(text);
    return string;
}

/* NULL for null; else to be freed, with a NUL after the end. */
static char *to_bytes(const json_t *string, size_t *len)
{
    if (!json_is_string(string))
        return NULL;
    const char *text = json_string_value(string);
    size_t length = json_string_length(string), count = 0;
    char *bytes = malloc(length + 1);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte >= 0x80)
            byte = (unsigned char)(byte << 6 | (text[++i] & 0x3f));
        bytes[count++] = (char)byte;
    }
    bytes[count] = '\0';
    if (len != NULL)
        *len = count;
    return bytes;
}

static const char *text_of(json_t *request, const char *key)
{
    const char *text = json_string_value(json_object_get(request, key));
    if (text == NULL)
        die(key);
    return text;
}

/* -1, the default, for null. */
static int32_t timeout_of(json_t *request)
{
    json_t *timeout = json_object_get(request, "timeout_ms");
    return json_is_integer(timeout) ? (int32_t)json_integer_value(timeout) : -1;
}

static struct object find(json_t *request, const char *key)
{
    const char *name = text_of(request, key);
    struct object found = {0};
    pthread_mutex_lock(&objects_lock);
    for (size_t i = 0; i < object_count; i++) {
        if (strcmp(objects[i].name, name) == 0)
            found = objects[i];
    }
    pthread_mutex_unlock(&objects_lock);
    if (found.name == NULL)
        die(name);
    return found;
}

/* With the lock held. */
static void keep(json_t *request, tenure_service *service, tenure_campaign *campaign, tenure_observer *observer)
{
    if (service == NULL && campaign == NULL && observer == NULL)
        return;
    if (object_count == MAX_OBJECTS)
        die("too many objects");
    objects[object_count++] = (struct object){strdup(text_of(request, "handle")), service, campaign, observer};
}

/* Answers with `value`, which may be NULL, if the call succeeded, else with its error; takes both. */
static void answer(json_t *request, tenure_code code, tenure_error *err, json_t *value)
{
    json_t *line = json_object();
    json_object_set(line, "id", json_object_get(request, "id"));
    if (code == TENURE_OK) {
        json_object_set_new(line, "value", value != NULL ? value : json_null());
    } else {
        if (err == NULL || err->code != code || strcmp(err->name, tenure_code_name(code)) != 0)
            die("the error is not that of the code");
        json_object_set_new(line, "error", json_string(err->name));
        json_object_set_new(line, "retriable", json_boolean(err->is_retriable));
        json_object_set_new(line, "message", json_string(err->message));
        json_decref(value);
    }
    tenure_error_free(err);
    write_line(line);
}

static const char *state_name(tenure_state state)
{
    static const char *const names[] = {"NONE", "FOLLOWER", "LEADER", "ERROR", "CLOSED"};
    return state >= 0 && state <= TENURE_STATE_CLOSED ? names[state] : "UNKNOWN";
}

static json_t *candidate(const tenure_candidate *from)
{
    return json_pack("{s:o, s:I, s:o, s:I}", "value", from_bytes(from->value, from->value_len), "token",
                     (json_int_t)from->token, "key", from_bytes(from->key, from->key_len), "lease",
                     (json_int_t)from->lease);
}

static json_t *status(const tenure_event *event, const char *name)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:s, s:s, s:s, s:s, s:b, s:o, s:I, s:I, s:I, s:b}", "event", "status",
                     "handle", name, "sequence", (json_int_t)event->sequence, "time_ns", (json_int_t)event->time_ns,
                     "election", event->election, "state", state_name(event->state), "reason", event->reason_name,
                     "message", event->message, "at_risk", event->at_risk, "value",
                     from_bytes(event->value, event->value_len), "token", (json_int_t)event->token, "revision",
                     (json_int_t)event->revision, "deadline_ns", (json_int_t)event->deadline_ns, "cluster",
                     event->cluster_id != 0);
}

static json_t *observation(const tenure_event *event, const char *name)
{
    json_t *leader = json_null();
    if (event->has_leader)
        leader = json_pack("{s:o, s:I, s:o, s:I}", "value", from_bytes(event->value, event->value_len), "token",
                           (json_int_t)event->token, "key", from_bytes(event->key, event->key_len), "lease",
                           (json_int_t)event->lease);
    return json_pack("{s:s, s:s, s:I, s:I, s:s, s:o, s:b, s:b, s:s, s:s, s:I, s:b}", "event", "observation", "handle",
                     name, "sequence", (json_int_t)event->sequence, "time_ns", (json_int_t)event->time_ns, "election",
                     event->election, "leader", leader, "connected", event->connected, "closed", event->closed,
                     "reason", event->reason_name, "message", event->message, "revision", (json_int_t)event->revision,
                     "cluster", event->cluster_id != 0);
}

/* What is to be called inside the callback: at the first event of a state, or at an observer's first. */
static json_t *take_inside(struct listener *listener, const char *state)
{
    json_t *requests = json_incref(json_object_get(listener->inside, state));
    if (requests != NULL)
        json_object_del(listener->inside, state);
    return requests;
}

static void on_event(void *user_data, const tenure_event *event)
{
    struct listener *listener = user_data;
    bool is_status = event->kind == TENURE_EVENT_CAMPAIGN;
    write_line(is_status ? status(event, listener->name) : observation(event, listener->name));
    json_t *requests = take_inside(listener, is_status ? state_name(event->state) : "OBSERVED"), *request;
    size_t i;
    json_array_foreach(requests, i, request) perform(request);
    json_decref(requests);
}

static void drop_listener(void *user_data)
{
    struct listener *listener = user_data;
    json_decref(listener->inside);
    free(listener->name);
    free(listener);
}

static struct listener *listener_for(json_t *request)
{
    struct listener *listener = malloc(sizeof *listener);
    listener->name = strdup(text_of(request, "handle"));
    listener->inside = json_deep_copy(json_object_get(request, "inside"));
    return listener;
}

static void do_open(json_t *request)
{
    tenure_options *options = NULL;
    tenure_service *service = NULL;
    tenure_error *err = NULL;
    tenure_code code = tenure_options_new(&options, &err);
    json_t *pair;
    size_t i;
    json_array_foreach(json_object_get(request, "options"), i, pair) {
        char *name = to_bytes(json_array_get(pair, 0), NULL), *value = to_bytes(json_array_get(pair, 1), NULL);
        if (code == TENURE_OK)
            code = tenure_options_set(options, name, value, &err);
        free(name);
        free(value);
    }
    if (code == TENURE_OK)
        code = tenure_service_open(options, &service, &err);
    pthread_mutex_lock(&objects_lock);
    keep(request, service, NULL, NULL);
    pthread_mutex_unlock(&objects_lock);
    tenure_options_free(options);
    answer(request, code, err, NULL);
}

static void do_campaign(json_t *request)
{
    struct object on = find(request, "service");
    tenure_campaign_options *options = NULL;
    tenure_campaign *campaign = NULL;
    tenure_error *err = NULL;
    tenure_code code = tenure_campaign_options_new(&options, &err);
    json_t *pair;
    size_t i, len;
    json_array_foreach(json_object_get(request, "options"), i, pair) {
        char *name = to_bytes(json_array_get(pair, 0), NULL), *value = to_bytes(json_array_get(pair, 1), NULL);
        if (code == TENURE_OK)
            code = tenure_campaign_options_set(options, name, value, &err);
        free(name);
        free(value);
    }
    char *value = to_bytes(json_object_get(request, "value"), &len);
    if (code == TENURE_OK && value != NULL)
        code = tenure_campaign_options_set_value(options, value, len, &err);
    char *election = to_bytes(json_object_get(request, "election"), NULL);
    pthread_mutex_lock(&objects_lock);
    if (code == TENURE_OK)
        code = tenure_service_campaign(on.service, election, options, on_event, listener_for(request), drop_listener,
                                       &campaign, &err);
    keep(request, NULL, campaign, NULL);
    pthread_mutex_unlock(&objects_lock);
    free(election);
    free(value);
    tenure_campaign_options_free(options);
    answer(request, code, err, NULL);
}

static void do_observe(json_t *request)
{
    struct object on = find(request, "service");
    tenure_observer *observer = NULL;
    tenure_error *err = NULL;
    char *election = to_bytes(json_object_get(request, "election"), NULL);
    pthread_mutex_lock(&objects_lock);
    tenure_code code = tenure_service_observe(on.service, election, on_event, listener_for(request), drop_listener,
                                              &observer, &err);
    keep(request, NULL, NULL, observer);
    pthread_mutex_unlock(&objects_lock);
    free(election);
    answer(request, code, err, NULL);
}

static void do_leader(json_t *request)
{
    tenure_candidate *leader = NULL;
    tenure_error *err = NULL;
    char *election = to_bytes(json_object_get(request, "election"), NULL);
    tenure_code code =
        tenure_service_leader(find(request, "service").service, election, timeout_of(request), &leader, &err);
    answer(request, code, err, leader != NULL ? candidate(leader) : NULL);
    tenure_candidate_free(leader);
    free(election);
}

static void do_candidates(json_t *request)
{
    tenure_candidates *found = NULL;
    tenure_error *err = NULL;
    char *election = to_bytes(json_object_get(request, "election"), NULL);
    tenure_code code =
        tenure_service_candidates(find(request, "service").service, election, timeout_of(request), &found, &err);
    json_t *list = json_array();
    for (size_t i = 0; found != NULL && i < found->count; i++)
        json_array_append_new(list, candidate(found->items[i]));
    answer(request, code, err, list);
    tenure_candidates_free(found);
    free(election);
}

static void do_wait_leader(json_t *request)
{
    tenure_error *err = NULL;
    tenure_code code = tenure_campaign_wait_leader(find(request, "handle").campaign, timeout_of(request), &err);
    answer(request, code, err, NULL);
}

static void do_proclaim(json_t *request)
{
    tenure_error *err = NULL;
    size_t len;
    char *value = to_bytes(json_object_get(request, "value"), &len);
    tenure_code code =
        tenure_campaign_proclaim(find(request, "handle").campaign, value, len, timeout_of(request), &err);
    free(value);
    answer(request, code, err, NULL);
}

static void do_resign(json_t *request)
{
    tenure_error *err = NULL;
    tenure_code code = tenure_campaign_resign(find(request, "handle").campaign, timeout_of(request), &err);
    answer(request, code, err, NULL);
}

static void do_resign_leader(json_t *request)
{
    tenure_error *err = NULL;
    tenure_code code = tenure_campaign_resign_leader(find(request, "handle").campaign, timeout_of(request), &err);
    answer(request, code, err, NULL);
}

static void do_is_leader(json_t *request)
{
    answer(request, TENURE_OK, NULL, json_boolean(tenure_campaign_is_leader(find(request, "handle").campaign)));
}

static void do_remaining(json_t *request)
{
    answer(request, TENURE_OK, NULL, json_integer(tenure_campaign_remaining_ms(find(request, "handle").campaign)));
}

static void do_token(json_t *request)
{
    answer(request, TENURE_OK, NULL, json_integer(tenure_campaign_token(find(request, "handle").campaign)));
}

static void do_state(json_t *request)
{
    answer(request, TENURE_OK, NULL, json_string(state_name(tenure_campaign_state(find(request, "handle").campaign))));
}

static void do_close(json_t *request)
{
    struct object object = find(request, "handle");
    tenure_error *err = NULL;
    tenure_code code = object.observer != NULL ? tenure_observer_close(object.observer, &err)
                                               : tenure_service_close(object.service, timeout_of(request), &err);
    answer(request, code, err, NULL);
}

static void do_free(json_t *request)
{
    struct object object = find(request, "handle");
    tenure_campaign_free(object.campaign);
    tenure_observer_free(object.observer);
    tenure_service_free(object.service);
    answer(request, TENURE_OK, NULL, NULL);
}

/* The requests are answered by a child process; then this one is, by how the child ended. */
static void do_fork(json_t *request)
{
    pid_t child = fork();
    if (child == 0) {
        json_t *one;
        size_t i;
        json_array_foreach(json_object_get(request, "requests"), i, one) perform(one);
        _exit(0);
    }
    int ended = 0;
    if (child < 0 || waitpid(child, &ended, 0) != child)
        die("fork");
    answer(request, TENURE_OK, NULL, json_integer(ended));
}

static const struct {
    const char *name;
    void (*function)(json_t *request);
} calls[] = {
    {"open", do_open},
    {"campaign", do_campaign},
    {"observe", do_observe},
    {"leader", do_leader},
    {"candidates", do_candidates},
    {"wait_leader", do_wait_leader},
    {"proclaim", do_proclaim},
    {"resign", do_resign},
    {"resign_leader", do_resign_leader},
    {"is_leader", do_is_leader},
    {"remaining", do_remaining},
    {"token", do_token},
    {"state", do_state},
    {"close", do_close},
    {"free", do_free},
    {"fork", do_fork},
};

static void perform(json_t *request)
{
    const char *name = text_of(request, "call");
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        if (strcmp(calls[i].name, name) == 0) {
            calls[i].function(request);
            return;
        }
    }
    die(name);
}

static void *perform_beside(void *request)
{
    perform(request);
    json_decref(request);
    return NULL;
}

int main(void)
{
    char *line = NULL;
    size_t size = 0;
    /* A text that ends with NUL holds none. */
    write_line(json_pack("{s:s, s:[s]}", "hello", "C", "lacks", "NUL in texts"));
    for (ssize_t length; (length = getline(&line, &size, stdin)) > 0;) {
        json_t *request = json_loadb(line, (size_t)length, JSON_ALLOW_NUL, NULL);
        if (request == NULL)
            die("a request is no JSON");
        if (json_is_true(json_object_get(request, "beside"))) {
            pthread_t thread;
            if (pthread_create(&thread, NULL, perform_beside, request) != 0)
                die("no thread");
            pthread_detach(thread);
        } else {
            perform(request);
            json_decref(request);
        }
    }
    free(line);
    for (size_t i = 0; i < object_count; i++) {
        tenure_campaign_free(objects[i].campaign);
        tenure_observer_free(objects[i].observer);
        tenure_service_free(objects[i].service);
        free(objects[i].name);
    }
    return 0;
}
