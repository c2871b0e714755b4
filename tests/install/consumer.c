/* A program that uses an installed Tenure: it leads an election once. */
#include <stdio.h>
#include <string.h>
#include <tenure.h>

static int fail(const char *what, tenure_error *error)
{
    fprintf(stderr, "%s: %s\n", what, error != NULL ? error->message : "failed");
    tenure_error_free(error);
    return 1;
}

int main(void)
{
    tenure_options *options;
    tenure_service *service;
    tenure_campaign *campaign;
    tenure_error *error = NULL;

    if (strcmp(tenure_version_string(), TENURE_VERSION_STRING) != 0)
        return fail("header and library differ", NULL);
    if (tenure_options_new(&options, &error) != TENURE_OK ||
        tenure_options_set(options, "endpoints", "memory://install", &error) != TENURE_OK ||
        tenure_options_set(options, "service", "install", &error) != TENURE_OK ||
        tenure_service_open(options, &service, &error) != TENURE_OK)
        return fail("open", error);
    if (tenure_service_campaign(service, NULL, NULL, NULL, NULL, NULL, &campaign, &error) != TENURE_OK ||
        tenure_campaign_wait_leader(campaign, 30000, &error) != TENURE_OK)
        return fail("campaign", error);
    printf("led with %s\n", tenure_version_string());
    if (tenure_service_close(service, -1, &error) != TENURE_OK)
        return fail("close", error);
    tenure_campaign_free(campaign);
    tenure_service_free(service);
    tenure_options_free(options);
    return 0;
}
