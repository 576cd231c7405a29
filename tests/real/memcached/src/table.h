const char *table_get(const char *key);
void table_set(const char *key, const char *value);
