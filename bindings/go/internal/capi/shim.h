/*
 * The C ABI as Go wants it. Handles are ids, not addresses: Go sees them as uintptr_t, since its garbage collector looks
 * at what is typed as a pointer. Outputs come back by value, so that no memory of Go's is written by C.
 */
#ifndef TENURE_GO_SHIM_H
#define TENURE_GO_SHIM_H

#include <tenure.h>

/* A code, and its error unless the code is TENURE_OK. */
typedef struct {
    tenure_code code;
    tenure_error *error;
} capi_result;

typedef struct {
    capi_result result;
    uintptr_t handle;
} capi_handle;

typedef struct {
    capi_result result;
    int fd;
} capi_fd;

typedef struct {
    capi_result result;
    tenure_candidate *leader;
} capi_leader;

typedef struct {
    capi_result result;
    tenure_candidates *candidates;
} capi_candidates;

typedef struct {
    tenure_code code;
    tenure_event *event;
} capi_event;

static inline capi_handle capi_options_new(void)
{
    capi_handle made = { { TENURE_OK, NULL }, 0 };
    tenure_options *options;
    made.result.code = tenure_options_new(&options, &made.result.error);
    made.handle = (uintptr_t)options;
    return made;
}

static inline capi_result capi_options_set(uintptr_t options, const char *name, const char *value)
{
    capi_result result = { TENURE_OK, NULL };
    result.code = tenure_options_set((tenure_options *)options, name, value, &result.error);
    return result;
}

static inline void capi_options_free(uintptr_t options)
{
    tenure_options_free((tenure_options *)options);
}

static inline capi_handle capi_campaign_options_new(void)
{
    capi_handle made = { { TENURE_OK, NULL }, 0 };
    tenure_campaign_options *options;
    made.result.code = tenure_campaign_options_new(&options, &made.result.error);
    made.handle = (uintptr_t)options;
    return made;
}

static inline capi_result capi_campaign_options_set(uintptr_t options, const char *name, const char *value)
{
    capi_result result = { TENURE_OK, NULL };
    result.code = tenure_campaign_options_set((tenure_campaign_options *)options, name, value, &result.error);
    return result;
}

static inline capi_result capi_campaign_options_set_value(uintptr_t options, const void *value, size_t len)
{
    capi_result result = { TENURE_OK, NULL };
    result.code = tenure_campaign_options_set_value((tenure_campaign_options *)options, value, len, &result.error);
    return result;
}

static inline void capi_campaign_options_free(uintptr_t options)
{
    tenure_campaign_options_free((tenure_campaign_options *)options);
}

static inline capi_handle capi_open(uintptr_t options)
{
    capi_handle made = { { TENURE_OK, NULL }, 0 };
    tenure_service *service;
    made.result.code = tenure_service_open((tenure_options *)options, &service, &made.result.error);
    made.handle = (uintptr_t)service;
    return made;
}

static inline capi_result capi_close(uintptr_t service, int32_t timeout_ms)
{
    capi_result result = { TENURE_OK, NULL };
    result.code = tenure_service_close((tenure_service *)service, timeout_ms, &result.error);
    return result;
}

static inline void capi_free(uintptr_t service)
{
    tenure_service_free((tenure_service *)service);
}

static inline capi_fd capi_event_fd(uintptr_t service)
{
    capi_fd found = { { TENURE_OK, NULL }, -1 };
    found.result.code = tenure_service_event_fd((tenure_service *)service, &found.fd, &found.result.error);
    return found;
}

/* Without an error to free: most calls answer TENURE_TIMEOUT, nothing more for now. */
static inline capi_event capi_next_event(uintptr_t service)
{
    capi_event next = { TENURE_OK, NULL };
    next.code = tenure_service_next_event((tenure_service *)service, 0, &next.event, NULL);
    return next;
}

static inline uintptr_t capi_user_data(const tenure_event *event)
{
    return (uintptr_t)event->user_data;
}

static inline capi_handle capi_campaign(uintptr_t service, const char *election, uintptr_t options, uintptr_t user_data)
{
    capi_handle made = { { TENURE_OK, NULL }, 0 };
    tenure_campaign *campaign;
    made.result.code = tenure_service_campaign((tenure_service *)service, election, (tenure_campaign_options *)options,
                                               NULL, (void *)user_data, NULL, &campaign, &made.result.error);
    made.handle = (uintptr_t)campaign;
    return made;
}

static inline bool capi_is_leader(uintptr_t campaign)
{
    return tenure_campaign_is_leader((tenure_campaign *)campaign);
}

static inline int64_t capi_remaining_ms(uintptr_t campaign)
{
    return tenure_campaign_remaining_ms((tenure_campaign *)campaign);
}

static inline int64_t capi_token(uintptr_t campaign)
{
    return tenure_campaign_token((tenure_campaign *)campaign);
}

static inline tenure_state capi_state(uintptr_t campaign)
{
    return tenure_campaign_state((tenure_campaign *)campaign);
}

static inline capi_result capi_proclaim(uintptr_t campaign, const void *value, size_t len, int32_t timeout_ms)
{
    capi_result result = { TENURE_OK, NULL };
    result.code = tenure_campaign_proclaim((tenure_campaign *)campaign, value, len, timeout_ms, &result.error);
    return result;
}

static inline capi_result capi_resign(uintptr_t campaign, int32_t timeout_ms)
{
    capi_result result = { TENURE_OK, NULL };
    result.code = tenure_campaign_resign((tenure_campaign *)campaign, timeout_ms, &result.error);
    return result;
}

static inline capi_result capi_resign_leader(uintptr_t campaign, int32_t timeout_ms)
{
    capi_result result = { TENURE_OK, NULL };
    result.code = tenure_campaign_resign_leader((tenure_campaign *)campaign, timeout_ms, &result.error);
    return result;
}

static inline void capi_campaign_free(uintptr_t campaign)
{
    tenure_campaign_free((tenure_campaign *)campaign);
}

static inline capi_leader capi_find_leader(uintptr_t service, const char *election, int32_t timeout_ms)
{
    capi_leader found = { { TENURE_OK, NULL }, NULL };
    found.result.code =
        tenure_service_leader((tenure_service *)service, election, timeout_ms, &found.leader, &found.result.error);
    return found;
}

static inline capi_candidates capi_list_candidates(uintptr_t service, const char *election, int32_t timeout_ms)
{
    capi_candidates found = { { TENURE_OK, NULL }, NULL };
    found.result.code = tenure_service_candidates((tenure_service *)service, election, timeout_ms, &found.candidates,
                                                  &found.result.error);
    return found;
}

static inline const tenure_candidate *capi_candidate_at(const tenure_candidates *candidates, size_t place)
{
    return candidates->items[place];
}

static inline capi_handle capi_observe(uintptr_t service, const char *election, uintptr_t user_data)
{
    capi_handle made = { { TENURE_OK, NULL }, 0 };
    tenure_observer *observer;
    made.result.code = tenure_service_observe((tenure_service *)service, election, NULL, (void *)user_data, NULL,
                                              &observer, &made.result.error);
    made.handle = (uintptr_t)observer;
    return made;
}

static inline void capi_observer_free(uintptr_t observer)
{
    tenure_observer_free((tenure_observer *)observer);
}

#endif
