/* usage: trace PID
 *
 * Becomes the user 1000 and looks into a process of that user: `managed`, or the errno of each way. */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *answer(long result) {
    return result < 0 ? strerrorname_np(errno) : "managed";
}

int main(int count, char **arguments) {
    if (count != 2 || setgroups(0, 0) || setresgid(1000, 1000, 1000) || setresuid(1000, 1000, 1000)) return 1;
    pid_t pid = atoi(arguments[1]);
    char byte;
    /* The address is nobody's: EFAULT is said only to whom the process is open. */
    struct iovec local = {&byte, 1}, remote = {(void *)1, 1};
    printf("read: %s\n", answer(process_vm_readv(pid, &local, 1, &remote, 1, 0)));
    printf("write: %s\n", answer(process_vm_writev(pid, &local, 1, &remote, 1, 0)));
    printf("seize: %s\n", answer(ptrace(PTRACE_SEIZE, pid, 0, 0)));
    printf("attach: %s\n", answer(ptrace(PTRACE_ATTACH, pid, 0, 0)));
    return 0;
}
