/* Sends back what a client sends; under the name discardd, sends nothing back. */
#include <arpa/inet.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *name = basename(argv[0]);
    const char *port = getenv("ECHOD_PORT");
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = INADDR_ANY };
    int listener, client, once = argc > 1 && !strcmp(argv[1], "--once");
    char buffer[4096];
    ssize_t length;

    if (argc > 1 && !strcmp(argv[1], "--version")) {
        printf("%s %s\n", name, VERSION);
        return 0;
    }
    address.sin_port = htons(atoi(port ? port : "7"));
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) {
        perror(name);
        return 1;
    }
    do {
        client = accept(listener, NULL, NULL);
        while ((length = read(client, buffer, sizeof buffer)) > 0)
            if (strcmp(name, "discardd") && write(client, buffer, length) != length)
                break;
        close(client);
    } while (!once);
    return 0;
}
