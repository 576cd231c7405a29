/* As much of memcached's text protocol as a test needs: get, set, version, quit. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "table.h"

#define VERSION "1.6.0-memo"

static void serve(FILE *in, FILE *out)
{
    char line[512], key[256];
    while (fgets(line, sizeof line, in)) {
        if (sscanf(line, "get %250s", key) == 1) {
            const char *value = table_get(key);
            if (value)
                fprintf(out, "VALUE %s 0 %zu\r\n%s\r\n", key, strlen(value), value);
            fputs("END\r\n", out);
        } else if (sscanf(line, "set %250s", key) == 1 && fgets(line, sizeof line, in)) {
            line[strcspn(line, "\r\n")] = 0;
            table_set(key, line);
            fputs("STORED\r\n", out);
        } else if (!strncmp(line, "version", 7)) {
            fputs("VERSION " VERSION "\r\n", out);
        } else if (!strncmp(line, "quit", 4)) {
            break;
        } else {
            fputs("ERROR\r\n", out);
        }
        fflush(out);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = INADDR_ANY };
    const char *port = getenv("MEMCACHED_PORT");
    int listener;

    if (argc > 1 && !strcmp(argv[1], "-V"))
        return puts("memcached " VERSION) < 0;
    if (argc > 1 && !strcmp(argv[1], "-s")) {
        serve(stdin, stdout);
        return fflush(stdout);
    }
    address.sin_port = htons(atoi(port ? port : "11211"));
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) {
        perror("memcached");
        return 1;
    }
    for (;;) {
        int client = accept(listener, NULL, NULL);
        FILE *in = fdopen(client, "r"), *out = fdopen(dup(client), "w");
        serve(in, out);
        fclose(in);
        fclose(out);
    }
}
