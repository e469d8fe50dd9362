// SPDX-License-Identifier: Apache-2.0
// Building the objects that --json prints. Texts come from files of any origin, so they are made valid UTF-8 first.

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "cli.h"

static cJSON *checked(cJSON *item)
{
    if (!item)
        exit(cli_fail("out of memory: the JSON output does not fit"));
    return item;
}

cJSON *cli_json_object(void)
{
    return checked(cJSON_CreateObject());
}

cJSON *cli_json_array(cJSON *object, const char *key)
{
    return checked(cJSON_AddArrayToObject(object, key));
}

cJSON *cli_json_child(cJSON *object, const char *key)
{
    return checked(cJSON_AddObjectToObject(object, key));
}

cJSON *cli_json_append(cJSON *array)
{
    cJSON *object = cli_json_object();
    cJSON_AddItemToArray(array, object);
    return object;
}

void cli_json_text(cJSON *object, const char *key, const char *text)
{
    char *clean = cli_utf8(text);
    checked(cJSON_AddStringToObject(object, key, clean));
    free(clean);
}

void cli_json_number(cJSON *object, const char *key, double value)
{
    checked(isfinite(value) ? cJSON_AddNumberToObject(object, key, value) : cJSON_AddNullToObject(object, key));
}

void cli_json_numbers(cJSON *object, const char *key, const double *values, int n)
{
    cJSON *array = cli_json_array(object, key);
    for (int i = 0; i < n; i++)
        cJSON_AddItemToArray(array, checked(isfinite(values[i]) ? cJSON_CreateNumber(values[i]) : cJSON_CreateNull()));
}

void cli_json_interval(cJSON *object, const char *key, double low, double high)
{
    cli_json_numbers(object, key, (const double[2]){ low, high }, 2);
}

int cli_json_print(cJSON *object)
{
    char *text = cJSON_Print(object);
    cJSON_Delete(object);
    if (!text)
        return cli_fail("out of memory: the JSON output does not fit");
    puts(text);
    free(text);
    return cli_finish();
}
